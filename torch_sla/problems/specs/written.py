"""How the pieces of a declaration may be written, and what they are read as: texts, files, lists, points."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeAlias, TypeVar

from annotated_types import MinLen
from pydantic import AfterValidator, BeforeValidator, Field, GetJsonSchemaHandler, ValidationInfo

from torch_sla.problems.expression import Expression
from torch_sla.problems.specs.faults import fault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic_core import CoreSchema

__all__ = [
    "DataFile",
    "FilePath",
    "Formula",
    "FormulaText",
    "FrozenMap",
    "Listed",
    "Points",
    "Text",
    "listed",
    "thaw",
]

T = TypeVar("T")


class Formula(str):
    """The text of an expression that has been parsed."""

    __slots__ = ()

    @property
    def expression(self) -> Expression:
        """The parsed expression."""
        return Expression.parse(str(self))


class DataFile(str):
    """The absolute path of a file whose content belongs to the declaration."""

    __slots__ = ()


class FrozenMap(dict[str, Any]):
    """A mapping that cannot be changed."""

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("a declaration cannot be changed; use updated(...)")

    __setitem__ = __delitem__ = clear = pop = popitem = setdefault = update = __ior__ = _refuse

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[type[FrozenMap], tuple[dict[str, Any]]]:
        return FrozenMap, (dict(self),)


def listed(value: Any) -> Any:
    """Return a list as a tuple."""
    return tuple(value) if isinstance(value, list) else value


def thaw(value: Any) -> Any:
    """Return a frozen map as one that a validator may read."""
    return dict(value) if isinstance(value, FrozenMap) else value


def _resolved(value: str, info: ValidationInfo) -> DataFile:
    if isinstance(value, DataFile):
        return value
    base = Path(info.context["base"]) if info.context else Path.cwd()
    path = (base / value).resolve()
    if not path.is_file():
        raise fault(f"no such file: {value!r} (looked for {path})")
    return DataFile(path)


if TYPE_CHECKING:
    Listed = Sequence
else:
    Listed: TypeAlias = Annotated[tuple[T, ...], BeforeValidator(listed)]
    """A tuple that may be written as a list."""

Text: TypeAlias = Annotated[str, Field(min_length=1, max_length=200)]
FilePath: TypeAlias = Annotated[str, Field(min_length=1), AfterValidator(_resolved)]


def _points(value: Any) -> Any:
    if getattr(value, "requires_grad", False):
        raise fault("positions are data; evaluate(expression, at=X) is differentiable in X")
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return tuple((p,) if isinstance(p, int | float) else listed(p) for p in value)
    return value


Point: TypeAlias = Annotated[
    tuple[float, ...], BeforeValidator(listed), Field(min_length=1, max_length=3)
]
if TYPE_CHECKING:
    Points: TypeAlias = Any
else:
    Points: TypeAlias = Annotated[tuple[Point, ...], MinLen(1), BeforeValidator(_points)]
"""Positions ``[n, dim]``."""


class _ExpressionFormat:
    """Marks text as an expression in the JSON Schema."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        # No expression holds a colon: that is how a function by its name is told from one.
        return {**handler(schema), "format": "expression", "pattern": "^[^:]*$"}


def _formula(text: str) -> Formula:
    Expression.parse(text)
    return Formula(text)


FormulaText: TypeAlias = Annotated[str, AfterValidator(_formula), _ExpressionFormat()]
