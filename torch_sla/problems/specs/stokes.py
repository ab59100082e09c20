"""Slow viscous flow."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from torch_sla.errors import SpecError
from torch_sla.problems.specs.field_problem import FieldProblem
from torch_sla.problems.specs.place import NONNEGATIVE, POSITIVE, Place
from torch_sla.problems.specs.value import Load, Value  # noqa: TC001

__all__ = ["StokesProblem"]


class StokesProblem(FieldProblem):
    """−∇·(2 viscosity ε(u) − p 1) = body_force, ∇·u = 0; velocity u (a vector) and pressure p.

    Taylor-Hood elements: velocities of order 2, pressures of order 1. Boundary facets without a condition
    are free of traction; where the velocity is given all around, the pressure has mean zero.

    Examples
    --------
    >>> from torch_sla import Dirichlet, Integral, RectangleMesh, StokesProblem
    >>> channel = StokesProblem(
    ...     mesh=RectangleMesh(cells=(8, 4), size=(2.0, 1.0)),
    ...     boundary=[
    ...         Dirichlet(["bottom", "top"], 0.0),
    ...         Dirichlet(["left", "right"], ["y*(1 - y)", 0.0]),
    ...     ],
    ...     outputs=[Integral("through", "dot(u, normal)", on="right")],
    ... )
    >>> round(float(channel.solve()["through"]), 9)
    0.166666667
    """

    fields_of: ClassVar[dict[str, int]] = {"u": 1, "p": 0}
    derived_of: ClassVar[dict[str, int]] = {"stress": 2}
    conditions: ClassVar[tuple[str, ...]] = (
        *("dirichlet", "neumann.traction", "neumann.pressure", "point_load", "periodic"),
    )
    refused: ClassVar[dict[str, str]] = {
        "flux": "name what flows, as in the integral of dot(u, normal) on a boundary"
    }

    evolves: ClassVar[frozenset[int]] = frozenset({1})
    still: ClassVar[str] = "a flow is told by its velocity, which has one derivative in time"
    no_modes: ClassVar[str | None] = (
        "the pressure of a flow has no mass, and the eigenvalues of such a pencil are not available"
    )

    @model_validator(mode="after")
    def _pressures_are_tractions(self) -> Self:
        for i, condition in enumerate(self.boundary):
            sided = condition.type == "dirichlet" and condition.on is not None
            if sided and condition.unknown == "p":
                raise SpecError(
                    "the pressure on a side is what pushes there: neumann with pressure; its values replace the "
                    "conservation of volume, so dirichlet holds it at a point only, as its level: at",
                    path=f"boundary.{i}.on",
                )
        return self

    type: Literal["stokes"] = "stokes"
    order: Literal[2] = Field(default=2, description="Order of the velocity; the pressure has 1.")
    viscosity: Annotated[Value, Place("cells", within=POSITIVE)] = Field(
        default=1.0, description="Dynamic viscosity (Pa s), positive."
    )
    body_force: Annotated[Load | None, Place("cells", (1,), size="space")] = Field(
        default=None, description="Force per volume (N/m³)."
    )
    density: Annotated[Value, Place("cells", within=NONNEGATIVE)] = Field(
        default=1.0, description="Mass per volume (kg/m³); makes the mass matrix."
    )
