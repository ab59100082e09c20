"""Diffusion: heat conduction, electrostatics, Darcy flow, diffusion of a species."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from torch_sla.errors import SpecError
from torch_sla.problems.specs.field_problem import FieldProblem
from torch_sla.problems.specs.place import NONNEGATIVE, POSITIVE, Place
from torch_sla.problems.specs.value import Load, Value  # noqa: TC001

__all__ = ["PoissonProblem"]


class PoissonProblem(FieldProblem):
    """−∇·(κ ∇u) + advection·∇u + reaction·u = source in the body; u is a scalar.

    Coefficients may see ``u`` and ``grad(u)``; the problem is then nonlinear and solved by Newton's
    method. Boundary facets without a condition are insulated (κ ∂u/∂n = 0).

    Examples
    --------
    >>> from torch_sla import Dirichlet, PoissonProblem, RectangleMesh
    >>> problem = PoissonProblem(
    ...     mesh=RectangleMesh(cells=(8, 8)),
    ...     order=2,
    ...     source=1.0,
    ...     boundary=[Dirichlet("left", 0.0)],
    ... )
    >>> round(float(problem.solve().u.max()), 4)
    0.5
    """

    fields_of: ClassVar[dict[str, int]] = {"u": 0}
    conditions: ClassVar[tuple[str, ...]] = (
        *("dirichlet", "neumann.flux", "robin", "radiation", "point_load", "periodic"),
    )
    seeing: ClassVar[frozenset[str]] = frozenset(
        {"diffusivity", "advection", "reaction", "source", "boundary"}
    )

    evolves: ClassVar[frozenset[int]] = frozenset({1, 2})

    type: Literal["poisson"] = "poisson"
    diffusivity: Annotated[Value, Place("cells", (0, 2), within=POSITIVE, size="space")] = Field(
        default=1.0, description="κ: conductivity (heat: W/(m K)), positive; scalar or matrix."
    )
    advection: Annotated[Value | None, Place("cells", (1,), size="space")] = Field(
        default=None,
        description="Velocity that carries u (heat: ρc times velocity, W/(m² K)), a vector.",
    )
    reaction: Annotated[Value | None, Place("cells")] = Field(
        default=None, description="Coefficient of u (heat: W/(m³ K)), per volume."
    )
    source: Annotated[Load, Place("cells")] = Field(
        default=0.0,
        description="Right-hand side per volume (heat: W/m³); {value: v, on: tag} acts there alone.",
    )
    stabilization: Literal["auto", "supg", "none"] = Field(
        default="auto",
        description="Of advection: streamline upwinding (supg) on elements of order 1 when auto.",
    )
    capacity: Annotated[Value, Place("cells", within=NONNEGATIVE)] = Field(
        default=1.0, description="Coefficient of ∂u/∂t (heat: J/(m³ K)); makes the mass matrix."
    )

    @model_validator(mode="after")
    def _check_stabilization(self) -> Self:
        if self.stabilization != "supg":
            return self
        if self.order != 1:
            raise SpecError(
                "supg tests the residual without its second derivatives, which is right on elements of order 1 "
                "only; take order: 1, or stabilization: none",
                path="stabilization",
            )
        if self.advection is None:
            raise SpecError(
                "supg is of advection, and there is none; give advection, or leave stabilization out",
                path="stabilization",
            )
        return self
