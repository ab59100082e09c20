"""Outputs: named numbers and fields taken from a solution."""

from __future__ import annotations

import math
from itertools import accumulate, pairwise
from typing import Annotated, Literal, TypeAlias

import pydantic
from annotated_types import MinLen

from torch_sla.problems.specs.base import Spec
from torch_sla.problems.specs.boundary import Selector
from torch_sla.problems.specs.faults import fault
from torch_sla.problems.specs.place import Place
from torch_sla.problems.specs.written import FormulaText, Listed, Points, Text

__all__ = [
    "Compliance",
    "Component",
    "Energy",
    "Field",
    "Flux",
    "Integral",
    "Line",
    "Maximum",
    "Minimum",
    "Output",
    "OutputSpec",
    "Probe",
    "Reaction",
]


Quantity: TypeAlias = Annotated[FormulaText, Place("output", (0, 1, 2), fields=True)]
Scalar: TypeAlias = Annotated[FormulaText, Place("output", (0,), fields=True)]


class OutputSpec(Spec):
    """The base of all outputs."""

    name: Text = pydantic.Field(kw_only=False, description="Key in the solution.")
    unit: str | None = pydantic.Field(default=None, description="Unit, as documentation.")


class Probe(OutputSpec):
    """A quantity at given points, on nodes or off: ``[*batch, n_points, *shape]``.

    Examples
    --------
    >>> Probe("sensors", at=[(0.3, 0.4), (0.7, 0.2)]).at
    ((0.3, 0.4), (0.7, 0.2))
    """

    type: Literal["probe"] = "probe"
    at: Points = pydantic.Field(kw_only=False, description="Positions [n, dim].")
    quantity: Quantity = pydantic.Field(default="u", kw_only=False, description="What is measured.")

    @property
    def points(self) -> tuple[tuple[float, ...], ...]:
        """Where it is measured."""
        return self.at


class Line(OutputSpec):
    """A quantity along a segment, or a polyline: ``[*batch, n, *shape]`` at equal distances, both ends among them.

    ``solution.arcs["name"]`` is the length along it. A quantity that jumps between cells has the value of one
    of them where the line crosses.

    Examples
    --------
    >>> Line("cut", at=[(0.0, 0.0), (3.0, 4.0)], n=3).points
    ((0.0, 0.0), (1.5, 2.0), (3.0, 4.0))
    """

    type: Literal["line"] = "line"
    at: Annotated[Points, MinLen(2)] = pydantic.Field(
        kw_only=False, description="Corners of the polyline [m, dim]."
    )
    n: Annotated[int, pydantic.Field(ge=2, le=1_000_000)] = pydantic.Field(
        default=101, kw_only=False, description="Number of points along it."
    )
    quantity: Quantity = pydantic.Field(default="u", kw_only=False, description="What is measured.")

    @pydantic.model_validator(mode="after")
    def _long(self) -> Line:
        if len({len(p) for p in self.at}) > 1:
            raise fault("the corners of a line have one number of coordinates")
        if not self._corners[-1]:
            raise fault("the corners of a line lie at one point; it needs a length")
        return self

    @property
    def _corners(self) -> tuple[float, ...]:
        """Length along the line at each corner."""
        return tuple(accumulate((math.dist(a, b) for a, b in pairwise(self.at)), initial=0.0))

    @property
    def arc(self) -> tuple[float, ...]:
        """Length along the line at each of its points."""
        length = self._corners[-1]
        return tuple(length * (i / (self.n - 1)) for i in range(self.n))

    @property
    def points(self) -> tuple[tuple[float, ...], ...]:
        """Its points ``[n, dim]``; those of corners and ends are exact."""
        corners, found, piece = self._corners, [], 0
        for s in self.arc:
            while piece < len(corners) - 2 and s > corners[piece + 1]:
                piece += 1
            a, b = self.at[piece], self.at[piece + 1]
            size = corners[piece + 1] - corners[piece]
            t = (s - corners[piece]) / size if size else 0.0
            inside = 0.0 < t < 1.0
            end = a if t <= 0.0 else b
            found.append(
                tuple(x + t * (y - x) for x, y in zip(a, b, strict=True)) if inside else end
            )
        return tuple(found)


class Integral(OutputSpec):
    """The integral of an expression over cells, or over facets where ``on`` is a facet tag.

    Examples
    --------
    >>> Integral("mean", "u")
    Integral(name='mean', expression='u')
    >>> Integral("lift", "u*normal[1]", on="top")
    Integral(name='lift', expression='u*normal[1]', on=('top',))
    """

    type: Literal["integral"] = "integral"
    expression: Scalar = pydantic.Field(kw_only=False, description="Integrand.")
    on: Selector | None = pydantic.Field(
        default=None, kw_only=False, description="Cell tags or facet tags; all cells when left out."
    )


class Flux(OutputSpec):
    """−κ ∂u/∂n integrated over boundary facets: what leaves the body, conserved to rounding.

    At a corner where facets with given values meet, what leaves through the shared nodes is split by
    area: the whole is exact, the parts on coarse meshes are of first order.

    Examples
    --------
    >>> Flux("heat", on="left")
    Flux(name='heat', on=('left',))
    """

    type: Literal["flux"] = "flux"
    on: Selector = pydantic.Field(
        kw_only=False, description="Boundary facets: tag, tags or predicate."
    )


class Reaction(OutputSpec):
    """What Dirichlet conditions on these facets put into the body to hold their values.

    Examples
    --------
    >>> Reaction("support", on="left")
    Reaction(name='support', on=('left',))
    """

    type: Literal["reaction"] = "reaction"
    on: Selector = pydantic.Field(
        kw_only=False, description="Boundary facets: tag, tags or predicate."
    )


class Energy(OutputSpec):
    """The energy stored in the cells: ½ ∫ κ|∇u|² + ½ ∫ reaction·u² in diffusion, ½ ∫ σ:ε in elasticity.

    What springs and exchanges with surroundings hold is not in it: the total of a body on springs is not constant.
    Of what moves, in a `TransientProblem` with two derivatives in time, also the kinetic one, ½ ∫ density |u̇|².

    Examples
    --------
    >>> Energy("stored")
    Energy(name='stored')
    """

    type: Literal["energy"] = "energy"
    part: Literal["stored", "kinetic", "total"] = pydantic.Field(
        default="stored", kw_only=False, description="Which energy; total is the sum of both."
    )


class Compliance(OutputSpec):
    """The work of all loads: Fᵀu, with F from sources, fluxes and surroundings.

    Examples
    --------
    >>> Compliance("work")
    Compliance(name='work')
    """

    type: Literal["compliance"] = "compliance"


class Maximum(OutputSpec):
    """The largest value of an expression, or its p-mean, which is smooth and tends to it.

    Without ``p``: the maximum over the nodes where the expression has values there, else over the
    quadrature points. With ``p``: (∫|e|ᵖ / ∫1)^(1/p).

    Examples
    --------
    >>> Maximum("hottest", "u")
    Maximum(name='hottest', expression='u')
    >>> Maximum("worst", "von_mises(stress)", p=20.0)
    Maximum(name='worst', expression='von_mises(stress)', p=20.0)
    """

    type: Literal["maximum"] = "maximum"
    expression: Scalar = pydantic.Field(kw_only=False, description="What is maximised.")
    p: Annotated[float, pydantic.Field(ge=1, le=1000)] | None = pydantic.Field(
        default=None, kw_only=False, description="Exponent of the p-mean."
    )


class Minimum(OutputSpec):
    """The smallest value of an expression: over the nodes where it has values there, else over quadrature points.

    Examples
    --------
    >>> Minimum("coldest", "u")
    Minimum(name='coldest', expression='u')
    """

    type: Literal["minimum"] = "minimum"
    expression: Scalar = pydantic.Field(kw_only=False, description="What is minimised.")


class Field(OutputSpec):
    """An expression as a field: ``[*batch, n_sites, *shape]``.

    On cells: the mean over the volume of each cell, of which the thickness, or the circumference of a body of
    revolution, is a part. On nodes: the value there; where the expression jumps between cells, the mean over the volume
    of all cells around.

    Examples
    --------
    >>> Field("flow", "-kappa*grad(u)", on="cells")
    Field(name='flow', expression='-kappa*grad(u)')
    """

    type: Literal["field"] = "field"
    expression: Quantity = pydantic.Field(kw_only=False, description="What is evaluated.")
    on: Literal["cells", "nodes", "quadrature"] = pydantic.Field(
        default="cells", kw_only=False, description="Where the field has its values."
    )


class Component(OutputSpec):
    """Some components of the solution of an algebraic problem: ``[*batch, n]``.

    Examples
    --------
    >>> Component("first", index=[0])
    Component(name='first', index=(0,))
    """

    type: Literal["component"] = "component"
    index: Annotated[Listed[Annotated[int, pydantic.Field(ge=0)]], MinLen(1)] = pydantic.Field(
        kw_only=False, description="Indices of the components, counted from 0."
    )


Output: TypeAlias = Annotated[
    Probe
    | Line
    | Integral
    | Flux
    | Reaction
    | Energy
    | Compliance
    | Maximum
    | Minimum
    | Field
    | Component,
    pydantic.Field(discriminator="type"),
]
