"""One problem for many values of its parameters."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, TypeAlias

from annotated_types import MinLen
from pydantic import BeforeValidator, Discriminator, Field, PrivateAttr, Tag, model_validator

from torch_sla.errors import SpecError
from torch_sla.problems.expression import nearest
from torch_sla.problems.registry import PHYSICS
from torch_sla.problems.specs.faults import fault
from torch_sla.problems.specs.of import any_of
from torch_sla.problems.specs.problem import Problem
from torch_sla.problems.specs.samples import Samples
from torch_sla.problems.specs.written import FrozenMap, Listed, thaw

__all__ = ["SweepProblem"]

MOST_CASES = 1_000_000
"""More than that are a mistake, or an attack on the memory of whoever reads the file."""


if TYPE_CHECKING:
    from collections.abc import Iterable

    AnyProblem: TypeAlias = Problem
    Case: TypeAlias = dict[str, Any]
    Cases: TypeAlias = Any
else:
    AnyProblem: TypeAlias = any_of(
        tuple(k for k, e in PHYSICS.items() if k != "sweep" and e.kind != "search")
    )

    def _kind(value: Any) -> str | None:
        if isinstance(value, Samples):
            return "samples"
        if isinstance(value, dict | FrozenMap):
            return "samples" if value.get("type") == "samples" else "grid"
        return "list" if isinstance(value, list | tuple) else None

    def _shape(value: Any) -> str:
        return "list" if isinstance(value, list | tuple) else "number"

    def _numbers(value: Any) -> Any:
        """Read ranges, arrays and tensors as lists."""
        if getattr(value, "requires_grad", False):
            raise fault(
                "cases are data, and this requires grad: detach it, or give solve(...) a batch of the parameter"
            )
        if isinstance(value, range):
            return list(value)
        return value.tolist() if hasattr(value, "tolist") else value

    Number = Annotated[
        Annotated[float, Tag("number")] | Annotated[Listed[float], Tag("list")],
        Discriminator(_shape),
        BeforeValidator(_numbers),
    ]
    Case = Annotated[dict[str, Number], BeforeValidator(thaw), MinLen(1)]
    Grid = Annotated[
        dict[str, Annotated[Listed[Number], MinLen(1), BeforeValidator(_numbers)]],
        BeforeValidator(thaw),
        MinLen(1),
    ]
    Cases = Annotated[
        Annotated[Listed[Case], MinLen(1), Tag("list")]
        | Annotated[Grid, Tag("grid")]
        | Annotated[Samples, Tag("samples")],
        Discriminator(
            _kind,
            custom_error_type="needs",
            custom_error_message="should be a list of cases ({name: value}), a grid ({name: [values]}) or samples",
        ),
    ]


class SweepProblem(Problem):
    """Solve a problem for many cases at once: they share all that values do not change.

    Examples
    --------
    >>> from torch_sla import Dirichlet, Integral, IntervalMesh, Parameter, PoissonProblem
    >>> rod = PoissonProblem(
    ...     mesh=IntervalMesh(cells=8),
    ...     source=Parameter("f"),
    ...     boundary=[Dirichlet("left", 0.0)],
    ...     outputs=[Integral("heat", "f")],
    ... )
    >>> SweepProblem(of=rod, cases={"f": [1.0, 2.0]}).solve()["heat"].tolist()
    [1.0, 2.0]
    """

    kinds: ClassVar[frozenset[str] | None] = frozenset()
    goes_on: ClassVar[bool] = True
    ordered: ClassVar[frozenset[str]] = frozenset({"cases"})

    type: Literal["sweep"] = "sweep"
    of: AnyProblem = Field(description="The problem; its outputs become [*batch, cases, ...].")
    cases: Cases = Field(
        description="A list of cases ({name: value} each), a grid ({name: [values]}), of which all "
        "combinations are taken, the last name fastest, or random samples. In Python, ranges, arrays and tensors are "
        "lists, too."
    )

    _every: list[dict[str, Any]] | None = PrivateAttr(default=None)

    @property
    def inner(self) -> Problem:
        """The problem."""
        return self.of

    @property
    def fields(self) -> dict[str, int]:
        """Rank of each unknown."""
        return self.of.fields

    @property
    def every(self) -> list[dict[str, Any]]:
        """All cases, as a list."""
        if self._every is None:
            self._every = self._listed()
        return self._every

    def _listed(self) -> list[dict[str, Any]]:
        if isinstance(self.cases, Samples):
            shapes = {name: tuple(self.of.declared[name].shape) for name in self.cases.of}
            if any(len(shape) > 1 for shape in shapes.values()):
                raise SpecError("samples are numbers or vectors of them", path="cases.of")
            drawn = {name: values.tolist() for name, values in self.cases.draw(shapes).items()}
            rows = zip(*drawn.values(), strict=True)
            return [
                {n: tuple(v) if isinstance(v, list) else v for n, v in zip(drawn, row, strict=True)}
                for row in rows
            ]
        if not isinstance(self.cases, dict):
            return [dict(case) for case in self.cases]
        names = list(self.cases)
        combined = itertools.product(*self.cases.values())
        return [dict(zip(names, values, strict=True)) for values in combined]

    @model_validator(mode="after")
    def _named(self) -> Self:
        if isinstance(self.cases, dict):
            count = math.prod(len(values) for values in self.cases.values())
            if count > MOST_CASES:
                raise SpecError(
                    f"a grid of {count} cases; at most {MOST_CASES} are solved together",
                    path="cases",
                )
        if isinstance(self.cases, Samples):
            self._known(self.cases.of, "cases.of")
        first = self.every[0].keys()
        for i, case in enumerate(self.every):
            where = f"cases.{i}" if isinstance(self.cases, tuple | list) else "cases"
            self._known(case, where)
            if case.keys() != first:
                raise SpecError("all cases name the same parameters", path=where)
            for name, value in case.items():
                shape = self.of.declared[name].shape
                size = (len(value),) if isinstance(value, tuple) else ()
                if size and size != tuple(shape):
                    raise SpecError(
                        f"{name!r} is of shape {list(shape)}; received {len(value)} numbers",
                        path=where,
                    )
        return self

    def _known(self, names: Iterable[str], where: str) -> None:
        for name in names:
            if name not in self.of.declared:
                known = " ".join(self.of.declared) or "none"
                raise SpecError(
                    f"{name!r} is no parameter of the problem{nearest(name, self.of.declared)}; "
                    f"parameters: {known}",
                    path=where,
                )
