"""Values a declaration may hold: numbers, formulas, parameters, files, lists, maps over cell tags."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias

from annotated_types import MinLen
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    Tag,
    model_validator,
)

from torch_sla.errors import ExpressionError, SpecError
from torch_sla.problems.expression import nearest
from torch_sla.problems.specs.base import Spec
from torch_sla.problems.specs.faults import fault
from torch_sla.problems.specs.python import PythonFunction, is_reference
from torch_sla.problems.specs.written import (
    FilePath,
    Formula,
    FormulaText,
    FrozenMap,
    Listed,
    Text,
    thaw,
)

if TYPE_CHECKING:
    from pydantic_core import CoreSchema

__all__ = [
    "ArrayFile",
    "Grid",
    "Load",
    "Parameter",
    "Table",
    "Value",
    "check_of_places",
    "is_nothing",
    "leaves",
    "names_of",
]

RESERVED_NAMES = frozenset("xyzt") | frozenset(
    {"points", "start", "info", "throw", "values", "folder", "resume", "progress", "pi"}
)


class ArrayFile(Spec):
    """Numbers kept in a file: ``.npy``, or ``.npz`` with a key.

    Examples
    --------
    >>> ArrayFile("absent.npz", key="kappa")
    Traceback (most recent call last):
    ...
    torch_sla.errors.SpecError: file: no such file: 'absent.npz' ...
    """

    type: Literal["file"] = "file"
    file: FilePath = Field(kw_only=False, description="Path, relative to the declaration's file.")
    key: Text | None = Field(default=None, description="Name of the array inside an .npz file.")
    on: Literal["constant", "cells", "facets", "nodes", "quadrature"] | None = Field(
        default=None, description="Where the numbers live; found from their count when left out."
    )


class Table(Spec):
    """A law by points: linear between them, constant beyond the first and the last.

    Examples
    --------
    >>> Table(of="u", at=[293.0, 400.0], values=[50.0, 42.0]).at
    (293.0, 400.0)
    """

    type: Literal["table"] = "table"
    of: FormulaText = Field(description="A scalar expression, such as x, or u where it is seen.")
    at: Annotated[Listed[float], Field(min_length=2)] = Field(
        description="Values of that expression, ascending, at which the law is given."
    )
    values: Annotated[Listed[float], Field(min_length=2)] = Field(description="The law there.")

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if len(self.at) != len(self.values):
            raise ValueError(f"{len(self.at)} points need as many values, not {len(self.values)}")
        if any(b <= a for a, b in pairwise(self.at)):
            raise ValueError("the points of a table ascend")
        return self


class Grid(Spec):
    """Numbers on the points of a regular grid, or an image, linear in each direction between them.

    Beyond the grid the nearest value holds. An image is read as grey between 0 (black) and 1, its first
    row on top.

    Examples
    --------
    >>> Grid("absent.npy", lower=[0.0, 0.0], upper=[1.0, 1.0])
    Traceback (most recent call last):
    ...
    torch_sla.errors.SpecError: file: no such file: 'absent.npy' ...
    """

    type: Literal["grid"] = "grid"
    file: FilePath = Field(
        kw_only=False, description="Array [nx(, ny(, nz))] in .npy or .npz, or a .png image."
    )
    key: Text | None = Field(default=None, description="Name of the array inside an .npz file.")
    lower: Annotated[Listed[float], Field(min_length=1, max_length=3)] = Field(
        description="Where the first point is."
    )
    upper: Annotated[Listed[float], Field(min_length=1, max_length=3)] = Field(
        description="Where the last point is."
    )

    @model_validator(mode="after")
    def _box(self) -> Self:
        if len(self.lower) != len(self.upper):
            raise ValueError("lower and upper have different lengths")
        if any(b <= a for a, b in zip(self.lower, self.upper, strict=True)):
            raise ValueError("upper exceeds lower in each direction")
        return self


def _plain(value: Any) -> Any:
    kind = value.get("type") if isinstance(value, Mapping) else None
    if isinstance(kind, str) and kind not in _TYPES:
        # What has a type is no map over tags, in the JSON Schema neither.
        known = " ".join(_TYPES)
        raise fault(f"type: received {kind!r}{nearest(kind, _TYPES)}; one of: {known}")
    if type(value).__module__.startswith("torch") and hasattr(value, "requires_grad"):
        raise fault(
            "a declaration is data and holds no tensor: declare Parameter(...) here and pass the tensor "
            "to solve(...), or save the values to a file"
        )
    if type(value).__module__ == "numpy":
        if not getattr(value, "shape", (0,)):
            return value.item()
        raise fault(
            "arrays belong in a file ({file: k.npz, key: k}) or in a Parameter given to solve(...); "
            f"received {type(value).__name__} of shape {getattr(value, 'shape', ())}"
        )
    return value


Default: TypeAlias = Annotated[
    Annotated[float, Tag("<number>")]
    | Annotated[FormulaText, Tag("<formula>")]
    | Annotated[ArrayFile, Tag("<file>")]
    | Annotated[Listed[float], Tag("<list>")]
    | Annotated[PythonFunction, Tag("<function>")],
    Discriminator(lambda value: _kind_of_default(value)),
    BeforeValidator(_plain),
]


class Parameter(Spec):
    """Something the user varies: a tensor given by name to ``solve``.

    The tensor is ``[*batch, *sites, *shape]``. Leading batch dimensions broadcast across parameters.

    Examples
    --------
    >>> Parameter("kappa", on="cells", default=1.0)
    Parameter(name='kappa', on='cells', default=1.0)
    """

    type: Literal["parameter"] = "parameter"
    name: Text = Field(kw_only=False, description="Name of the argument of solve(...).")
    on: Literal["constant", "cells", "facets", "nodes", "quadrature"] = Field(
        default="constant",
        description="Where it lives: one value, one per cell, per facet, per mesh point, or per "
        "quadrature point of the cells.",
    )
    shape: Listed[Annotated[int, Field(ge=1)]] = Field(
        default=(), description="Shape of one value: () scalar, (3,) vector, (3, 3) matrix."
    )
    default: Default | None = Field(
        default=None,
        description="Value when none is given; without one the parameter is required. A function (module:function in a "
        "trusted file) of coordinates [..., dim], or of what `of` says, is called where the parameter lives.",
    )
    of: Listed[Literal["x", "u"]] = Field(
        default=(),
        description="What a module given for it sees: the coordinates x, the solution u. A law of u "
        "lives on quadrature points.",
    )
    time: Literal["steps"] | None = Field(
        default=None,
        description="steps: the tensor is [*batch, steps + 1, *sites, *shape], one value for each time of a "
        "transient problem.",
    )
    unit: str | None = Field(default=None, description="Unit, as documentation.")

    @model_validator(mode="after")
    def _default_of_places(self) -> Self:
        if isinstance(self.default, Formula):
            if self.on == "constant":
                raise SpecError(
                    "one constant has no places for an expression to be of: give a number",
                    path="default",
                )
            if self.shape:
                raise SpecError(
                    f"an expression is one number, and a value here has the shape {list(self.shape)}: give a file",
                    path="default",
                )
            check_of_places(self.default, "default")
        alone = self.on == "constant" and self.time is None and not self.shape
        if alone and isinstance(self.default, tuple):
            raise SpecError(
                f"received {len(self.default)} numbers for one: a vector has a shape=, one number for each place an "
                "on=; a batch is given to solve(...), or made of cases by a sweep",
                path="default",
            )
        return self


def check_of_places(formula: Formula, path: str, names: str = "xyz") -> None:
    """Check that a formula is a scalar of the coordinates.

    Raises
    ------
    SpecError
        At the path.
    """
    try:
        rank = formula.expression.check(dict.fromkeys(names, 0))
    except ExpressionError as error:
        raise ExpressionError(error.message, path=path) from None
    if rank:
        raise SpecError(f"a scalar of {', '.join(names)} is needed", path=path)


_TYPES = ("parameter", "file", "table", "grid")


def _kind_of_default(value: Any) -> str | None:
    function = isinstance(value, PythonFunction) or hasattr(value, "__code__")
    return "<function>" if function or is_reference(value) else _kind(value)


def _kind(value: Any) -> str | None:
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return "<number>"
    if isinstance(value, str):
        return "<formula>"
    if isinstance(value, list | tuple):
        return "<list>"
    if isinstance(value, Spec):
        return f"<{value.type}>" if value.type in _TYPES else None  # type: ignore[attr-defined]
    if isinstance(value, Mapping):
        kind = value.get("type")
        if kind in _TYPES:
            return f"<{kind}>"
        if isinstance(value.get("file"), str):
            return "<file>"
        return "<map>"
    return None


def _somewhere(value: Any) -> Any:
    """Read ``{value: v, on: tag}`` as a map that is zero elsewhere."""
    if isinstance(value, dict) and value.keys() == {"value", "on"}:
        on = value["on"] if isinstance(value["on"], list | tuple) else [value["on"]]
        if not on or not all(
            isinstance(tag, str | int) and not isinstance(tag, bool) for tag in on
        ):
            raise fault(f"on: names one cell tag or a list of them; received {value['on']!r}")
        rest = {} if "*" in on else {"*": 0.0}
        return {**{str(tag): value["value"] for tag in on}, **rest}
    return value


def is_nothing(value: Any) -> bool:
    """Whether a value of a map over cell tags is the number 0, which has the shape of the others there."""
    return isinstance(value, int | float) and value == 0


class _TagMap:
    """Keeps maps apart from parameters and files in the JSON Schema."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        reserved = [{"required": ["type"]}, {"required": ["file"]}]
        return {**handler(schema), "not": {"anyOf": reserved}}


def _one_of(what: str) -> Discriminator:
    return Discriminator(_kind, custom_error_type="needs", custom_error_message=f"should be {what}")


Leaf: TypeAlias = (
    Annotated[float, Tag("<number>")]
    | Annotated[FormulaText, Tag("<formula>")]
    | Annotated[Parameter, Tag("<parameter>")]
    | Annotated[ArrayFile, Tag("<file>")]
    | Annotated[Table, Tag("<table>")]
    | Annotated[Grid, Tag("<grid>")]
)
_LEAVES = "a number, an expression, a parameter, a file, a table, a grid"

# Three levels spelt out instead of a recursion: an entry, a list of entries (vector), a list of lists
# (matrix), and a map over cell tags of any of those.
Entry: TypeAlias = Annotated[Leaf, _one_of(_LEAVES), BeforeValidator(_plain)]
Row: TypeAlias = Annotated[
    Leaf | Annotated[Listed[Entry], Tag("<list>")],
    _one_of(f"{_LEAVES} or a list of those"),
    BeforeValidator(_plain),
]
TagValue: TypeAlias = Annotated[
    Leaf | Annotated[Listed[Row], Tag("<list>")],
    _one_of(f"{_LEAVES} or a list of those"),
    BeforeValidator(_plain),
]
Value: TypeAlias = Annotated[
    Leaf
    | Annotated[Listed[Row], Tag("<list>")]
    | Annotated[
        dict[str, TagValue],
        BeforeValidator(thaw),
        MinLen(1),
        AfterValidator(FrozenMap),
        _TagMap(),
        Tag("<map>"),
    ],
    _one_of(f"{_LEAVES}, a list of those, or a map over cell tags"),
    BeforeValidator(_plain),
]
"""A law: number, expression, `Parameter`, array by file, table, grid, list of those, or map over cell tags."""

Load: TypeAlias = Annotated[Value, BeforeValidator(_somewhere)]
"""A law that may act on some cells only: ``{value: v, on: tag}`` is zero elsewhere."""


def names_of(leaf: Any) -> frozenset[str]:
    """Return the names that one of the `leaves` of a value uses: of a formula all, its own of a parameter."""
    if isinstance(leaf, Parameter):
        return frozenset({leaf.name})
    return leaf.expression.names if isinstance(leaf, Formula) else frozenset()


def leaves(
    value: Any, path: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Yield every number, formula, parameter and file inside a value, with its path."""
    if isinstance(value, tuple):
        for i, item in enumerate(value):
            yield from leaves(item, (*path, i))
    elif isinstance(value, FrozenMap):
        for tag, item in value.items():
            yield from leaves(item, (*path, tag))
    elif isinstance(value, Table):
        yield path, value
        yield (*path, "of"), value.of
    elif value is not None:
        yield path, value
