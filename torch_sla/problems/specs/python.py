"""Python functions inside a declaration: live ones, and ``module:function`` in files that are trusted."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any

from pydantic_core import CoreSchema, core_schema

from torch_sla.problems.specs.faults import fault

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler

__all__ = ["PythonFunction", "is_reference", "referenced"]

_REFERENCE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)


class PythonFunction:
    """A function written in Python.

    Parameters
    ----------
    function
        The function itself; it captures no tensor that requires grad.
    reference
        ``module:function``, of one that a file names; others live in this process only and cannot be
        written to a file.
    """

    def __init__(self, function: Callable[..., Any], reference: str | None = None) -> None:
        for cell in function.__closure__ or ():
            if getattr(cell.cell_contents, "requires_grad", False):
                raise fault(
                    "the function captures a tensor that requires grad; declare it in parameters and read it from "
                    "w, as in w.kappa"
                )
        self.function, self.reference = function, reference
        self.name = reference or f"{function.__module__}:{function.__qualname__}"

    @property
    def digest(self) -> str:
        """Hash of the name and the code, that of the function alone and not of what it calls."""
        digest = hashlib.blake2b(self.name.encode(), digest_size=16)
        _feed(digest, self.function.__code__)
        return digest.hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PythonFunction) and self.function is other.function

    def __hash__(self) -> int:
        return hash(self.function)

    def __repr__(self) -> str:
        return f"<{self.name}>"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(cls._validate)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "string", "format": "module:function", "pattern": f"^{_REFERENCE.pattern}$"}

    @classmethod
    def _validate(cls, value: Any, info: core_schema.ValidationInfo) -> PythonFunction:
        if isinstance(value, PythonFunction):
            return value
        return referenced(value, info.context) if isinstance(value, str) else cls(value)


def is_reference(value: Any) -> bool:
    """Tell whether text names a function in a module.

    Examples
    --------
    >>> is_reference("laws:conductivity"), is_reference("u*v*dx('steel')")
    (True, False)
    """
    return isinstance(value, str) and _REFERENCE.fullmatch(value) is not None


def referenced(text: str, context: dict[str, Any] | None) -> PythonFunction:
    """Return the function that ``module:function`` names, in a file that is trusted.

    A module beside the file comes before installed ones, and is read anew each time.

    Raises
    ------
    PydanticCustomError
        Without trust, or if there is no such function.
    """
    if context is None:
        raise fault(f"{text!r} names a function; in Python, give the function itself")
    if not context.get("trust"):
        raise fault(
            f"{text!r} names Python code, which reading this file would run; if you trust the file, say so "
            "with --trust, or load_problem(path, trust=True)"
        )
    name, _, attribute = text.partition(":")
    try:
        module = _module(name, Path(context["base"]))
    except Exception as error:
        raise fault(f"the module {name!r} cannot be imported: {error!r}") from error
    function = getattr(module, attribute, None)
    if function is None or not hasattr(function, "__code__"):
        raise fault(f"the module {name!r} has no function {attribute!r}")
    return PythonFunction(function, text)


def _module(name: str, base: Path) -> ModuleType:
    path = base.joinpath(*name.split(".")).with_suffix(".py")
    if not path.is_file():
        return importlib.import_module(name)
    # Outside of sys.modules: two folders may each have laws.py.
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _feed(digest: hashlib.blake2b, code: CodeType) -> None:
    """Add code, with the functions inside it, which print where they are in memory."""
    constants = [c for c in code.co_consts if not isinstance(c, CodeType)]
    digest.update(f"{constants!r} {code.co_names!r}".encode() + code.co_code)
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            _feed(digest, inner)
