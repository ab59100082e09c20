"""A residual as text with measures, or as a Python function."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from pydantic_core import CoreSchema, core_schema

from torch_sla.problems.expression.measures import Integral, split_residual
from torch_sla.problems.specs.faults import fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler

__all__ = ["PythonFunction", "Residual", "ResidualText"]


class Residual(str):
    """The text of a residual that has been parsed."""

    __slots__ = ()

    @property
    def integrals(self) -> list[Integral]:
        """One integral for each term."""
        return split_residual(str(self))


class PythonFunction:
    """A residual written in Python; it lives in this process only and cannot be written to a file."""

    def __init__(self, function: Callable[..., Any]) -> None:
        for cell in function.__closure__ or ():
            if getattr(cell.cell_contents, "requires_grad", False):
                raise fault(
                    "the function captures a tensor that requires grad; declare it in parameters and read it from "
                    "w, as in w.kappa"
                )
        self.function = function
        self.name = f"{function.__module__}:{function.__qualname__}"

    @property
    def digest(self) -> str:
        """Hash of the name and the code."""
        code = self.function.__code__
        text = f"{self.name} {code.co_consts!r} {code.co_names!r}".encode()
        return hashlib.blake2b(text + code.co_code, digest_size=16).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PythonFunction) and self.function is other.function

    def __hash__(self) -> int:
        return hash(self.function)

    def __repr__(self) -> str:
        return f"<{self.name}>"


class ResidualText:
    """Reads text as an expression with measures, a function as itself."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(_residual)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "string", "format": "residual"}


def _residual(value: Any) -> Residual | PythonFunction:
    if isinstance(value, str):
        split_residual(value)
        return Residual(value)
    if isinstance(value, PythonFunction):
        return value
    if callable(value) and hasattr(value, "__code__"):
        return PythonFunction(value)
    raise fault(f"a residual is an expression or a function; received {type(value).__name__}")
