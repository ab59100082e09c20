"""A residual as text with measures, or as a Python function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_core import CoreSchema, core_schema

from torch_sla.problems.expression.measures import Integral, split_residual
from torch_sla.problems.specs.faults import fault
from torch_sla.problems.specs.python import PythonFunction, is_reference, referenced

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler

__all__ = ["Residual", "ResidualText"]


class Residual(str):
    """The text of a residual that has been parsed."""

    __slots__ = ()

    @property
    def integrals(self) -> list[Integral]:
        """One integral for each term."""
        return split_residual(str(self))


class ResidualText:
    """Reads text as an expression with measures or ``module:function``, a function as itself."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(_residual)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "string", "format": "residual"}


def _residual(value: Any, info: core_schema.ValidationInfo) -> Residual | PythonFunction:
    if is_reference(value):
        return referenced(value, info.context)
    if isinstance(value, str):
        split_residual(value)
        return Residual(value)
    if isinstance(value, PythonFunction):
        return value
    if callable(value) and hasattr(value, "__code__"):
        return PythonFunction(value)
    raise fault(f"a residual is an expression or a function; received {type(value).__name__}")
