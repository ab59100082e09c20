"""What varies in a search, what was measured, and how hard each solve works."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from torch_sla.errors import SpecError
from torch_sla.problems.design.transforms import TRANSFORMS
from torch_sla.problems.specs.arrays import Array
from torch_sla.problems.specs.base import Spec
from torch_sla.problems.specs.faults import fault
from torch_sla.problems.specs.options import options_of
from torch_sla.problems.specs.value import Default, check_of_places
from torch_sla.problems.specs.written import Formula, FrozenMap, Listed, Text, listed, thaw

__all__ = ["POINTS", "Data", "Effort", "Measured", "Variable"]

POINTS = "points"
"""What the points of the mesh are called where they vary."""


if TYPE_CHECKING:
    AnyTransform: TypeAlias = Any
    Bounds: TypeAlias = Any
    Numbers: TypeAlias = Any
else:
    AnyTransform = options_of(TRANSFORMS, "transform")
    Bounds = Annotated[tuple[Default | None, Default | None], BeforeValidator(listed)]
    Numbers = Array


class Variable(Spec):
    """What varies: a parameter of the problem, or the points of its mesh.

    The transforms run from the unknowns of the search to the values of the parameter. Bounds and starting
    values are those of the parameter where the chain begins with a change of variable (``log softplus
    logit``); filters and projections act on what bounds speak of.

    Examples
    --------
    >>> Variable("kappa", bounds=(0.1, 10.0), transform=["log"], initial=1.0).bounds
    (0.1, 10.0)
    """

    type: Literal["variable"] = "variable"
    parameter: Text = Field(
        kw_only=False,
        description="Name of a parameter, of every problem that declares it; or points, those of the mesh.",
    )
    bounds: Bounds | None = Field(
        default=None,
        description="Least and greatest value, each a number, an expression of the sites, a file, or null.",
    )
    transform: Listed[AnyTransform] = Field(
        default=(), description="Chain from the unknowns to the values, first applied first."
    )
    initial: Default | None = Field(
        default=None, description="Where the search starts; the parameter's default when left out."
    )

    @model_validator(mode="after")
    def _of_places(self) -> Self:
        low, high = self.bounds or (None, None)
        for path, value in (("bounds.0", low), ("bounds.1", high), ("initial", self.initial)):
            if isinstance(value, Formula):
                check_of_places(value, path)
        return self


def _deviation(value: Any) -> Any:
    """Refuse a deviation of zero, which would weigh what was measured without bound."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and not value > 0:
        raise fault(
            f"a standard deviation is positive; received {value:g}: leave it out (1) where nothing is known of it; for "
            "a share of the data alone give relative, and a noise far below it"
        )
    return value


class Measured(Spec):
    """Data with its noise, for ``misfit(name)`` = ½ Σ ((found − measured)/noise)².

    Examples
    --------
    >>> Measured([1.0, 2.0], noise=0.1).noise
    0.1
    """

    type: Literal["measured"] = "measured"
    values: Numbers = Field(
        kw_only=False, description="What was measured, in the shape of the result."
    )
    imaginary: Numbers | None = Field(default=None, description="Imaginary part of complex data.")
    noise: Annotated[Annotated[float, Field(gt=0)] | Numbers, BeforeValidator(_deviation)] = Field(
        default=1.0, description="Standard deviation, one for all or one each."
    )
    relative: Annotated[float, Field(ge=0)] = Field(
        default=0.0,
        description="Further deviation as a share of what was measured; the squares of both add up.",
    )

    @model_validator(mode="after")
    def _shapes(self) -> Self:
        shape = self.values.array.shape
        for name in ("imaginary", "noise"):
            other = getattr(self, name)
            if isinstance(other, Array) and other.array.shape != shape:
                raise SpecError(
                    f"values are of shape {list(shape)}, and these of {list(other.array.shape)}",
                    path=name,
                )
        if isinstance(self.noise, Array) and not bool((self.noise.array > 0).all()):
            raise SpecError(
                f"a deviation is positive; the least is {float(self.noise.array.min()):g}",
                path="noise",
            )
        return self


def _as_measured(value: Any) -> Any:
    """Say how numbers become data."""
    if isinstance(value, list | tuple) or hasattr(value, "shape"):
        raise fault(
            "numbers alone are no data: Measured(values, noise=...), in a file {values: [...], noise: ...}; leave what "
            "was not measured out of values and result alike"
        )
    return value


if TYPE_CHECKING:
    Data: TypeAlias = Any
else:
    Data = Annotated[
        dict[Text, Annotated[Measured, BeforeValidator(_as_measured)]],
        BeforeValidator(thaw),
        AfterValidator(FrozenMap),
    ]


class Effort(Spec):
    """How hard each forward solve works; what depends on the history of the search is asked for here.

    Examples
    --------
    >>> Effort(first_rtol=1e-4).follow
    0.01
    """

    type: Literal["effort"] = "effort"
    first_rtol: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None,
        description="Tolerance of iterative solves in the first iteration; it falls to that of the problem as "
        "the search converges. Left out: always that of the problem.",
    )
    follow: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.01,
        description="The tolerance is this share of how far the optimality has fallen since the start.",
    )
    warm_start: bool = Field(
        default=False,
        description="Whether iterative solves start from the solution of the last iterate, which follows a branch of "
        "solutions.",
    )
    multigrid: Literal["new", "hierarchy", "aggregates"] = Field(
        default="new",
        description="Whether the multigrid hierarchy of earlier values, or its aggregates, are used while they serve.",
    )
