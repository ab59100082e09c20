"""Python functions inside a declaration: live ones, and ``module:function`` in files that are trusted."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import re
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic_core import CoreSchema, core_schema
from torch import Tensor

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
        """Hash of the name, the code, and the values that it captures or finds in its module.

        Of functions that it calls, those that it captures count; others, and objects of any other kind, do not.
        """
        digest = hashlib.blake2b(self.name.encode(), digest_size=16)
        _feed_function(digest, self.function, set())
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


def _feed_function(digest: hashlib.blake2b, function: Callable[..., Any], seen: set[int]) -> None:
    """Add code, and what it reads that is no argument."""
    from torch_sla.problems.identity import fingerprint

    if id(function) in seen:
        return
    seen.add(id(function))
    code = function.__code__
    _feed(digest, code)
    given = dict(enumerate(function.__defaults__ or ())) | (function.__kwdefaults__ or {})
    read = {f"default {name}": value for name, value in given.items()}
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # nothing is in it yet
            read[f"captured {name}"] = cell.cell_contents
    around = function.__globals__
    read |= {f"global {n}": around[n] for n in sorted(_names(code)) if _plain(around.get(n))}
    for name, value in read.items():
        digest.update(f"{name} ".encode())
        if _plain(value):
            digest.update(fingerprint({"": value})[""].encode())
        elif hasattr(value, "__code__"):
            _feed_function(digest, value, seen)
        else:  # which may print where it is in memory
            digest.update(type(value).__qualname__.encode())


def _plain(value: Any) -> bool:
    """Whether a value is numbers and words, and so the same in each process."""
    if isinstance(value, dict):
        return all(_plain(part) for part in (*value.keys(), *value.values()))
    if isinstance(value, list | tuple):
        return all(map(_plain, value))
    return isinstance(value, bool | int | float | complex | str | np.ndarray | np.generic | Tensor)


def _names(code: CodeType) -> set[str]:
    """Return the names that code, and functions inside it, may read from the module."""
    inner = (c for c in code.co_consts if isinstance(c, CodeType))
    return set(code.co_names).union(*map(_names, inner))


def _feed(digest: hashlib.blake2b, code: CodeType) -> None:
    """Add code, with the functions inside it, which print where they are in memory."""
    constants = [
        sorted(map(repr, c)) if isinstance(c, frozenset) else c  # whose order is another each time
        for c in code.co_consts
        if not isinstance(c, CodeType)
    ]
    digest.update(f"{constants!r} {code.co_names!r}".encode() + code.co_code)
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            _feed(digest, inner)
