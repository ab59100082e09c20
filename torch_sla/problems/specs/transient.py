"""A problem in time."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from torch_sla.errors import SpecError
from torch_sla.problems.specs.of import Physics  # noqa: TC001  (pydantic reads it)
from torch_sla.problems.specs.problem import Problem
from torch_sla.problems.specs.value import Listed, Place, Value

__all__ = ["SCHEMES", "TransientProblem"]

SCHEMES = {
    "backward_euler": 1,
    "crank_nicolson": 1,
    "bdf2": 1,
    "newmark": 2,
    "generalized_alpha": 2,
    "explicit": 2,
}
"""Order of the time derivative that each scheme is for."""


class TransientProblem(Problem):
    """Follow a physics in time: capacity ∂u/∂t (or density ∂²u/∂t²) + what is steady = loads.

    Laws of the problem may use the time ``t``; `Parameter` with ``time="steps"`` has one value for each time.
    Its outputs become ``[*batch, steps + 1, ...]``, the first at the start.

    Examples
    --------
    >>> from torch_sla import Dirichlet, IntervalMesh, PoissonProblem, Probe
    >>> rod = PoissonProblem(
    ...     mesh=IntervalMesh(cells=20),
    ...     boundary=[Dirichlet("left", 0.0), Dirichlet("right", 0.0)],
    ...     outputs=[Probe("middle", at=[(0.5,)])],
    ... )
    >>> cooling = TransientProblem(
    ...     of=rod, initial="sin(pi*x)", end=0.1, steps=20, scheme="crank_nicolson"
    ... )
    >>> round(float(cooling.solve()["middle"][-1, 0]), 3)  # exp(-pi**2/10) = 0.373
    0.372
    """

    kinds: ClassVar[frozenset[str] | None] = frozenset()

    type: Literal["transient"] = "transient"
    of: Physics = Field(description="The physics; its outputs are taken at every time.")
    initial: Annotated[Value, Place("dofs", (0, 1))] = Field(
        default=0.0,
        description="The (first) unknown at t = 0; one number holds for all components.",
    )
    initial_velocity: Annotated[Value | None, Place("dofs", (0, 1))] = Field(
        default=None,
        description="Its rate at t = 0, with two derivatives in time; 0 when left out.",
    )
    end: Annotated[float, Field(gt=0)] = Field(description="The last time (s).")
    steps: Annotated[int, Field(ge=1)] = Field(description="Number of equal steps.")
    scheme: (
        Literal[
            "backward_euler",
            "crank_nicolson",
            "bdf2",
            "newmark",
            "generalized_alpha",
            "explicit",
        ]
        | None
    ) = Field(
        default=None,
        description="One derivative in time: backward_euler, crank_nicolson, bdf2; two: newmark (β = 1/4, γ = 1/2), "
        "generalized_alpha, explicit (central differences, lumped mass). Left out: bdf2 or newmark.",
    )
    spectral_radius: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.8,
        description="What generalized_alpha leaves of the highest frequencies each step.",
    )
    save: Listed[Literal["u", "velocity", "acceleration"]] = Field(
        default=(), description="Histories that are kept, [*batch, steps + 1, ...]."
    )
    checkpoints: Annotated[int, Field(ge=2)] = Field(
        default=16,
        description="States kept at each level for gradients; what lies between is computed again.",
    )

    @property
    def inner(self) -> Problem:
        """The physics."""
        return self.of

    @property
    def fields(self) -> dict[str, int]:
        """Rank of each unknown."""
        return self.of.fields

    @property
    def method(self) -> str:
        """The scheme, chosen where none is given."""
        if self.scheme is not None:
            return self.scheme
        return "bdf2" if 1 in self.of.evolves else "newmark"

    @model_validator(mode="after")
    def _meaning(self) -> Self:
        of = self.of
        if not of.evolves:
            raise SpecError(f"{of.type} has no time: {of.still}", path="of")
        order = SCHEMES[self.method]
        if order not in of.evolves:
            fits = " ".join(n for n, o in SCHEMES.items() if o in of.evolves)
            raise SpecError(
                f"{self.method!r} is for {('one derivative', 'two derivatives')[order - 1]} in time, and {of.still}; "
                f"schemes here: {fits}",
                path="scheme",
            )
        if self.method == "crank_nicolson" and of.type == "stokes":
            raise SpecError(
                "crank_nicolson leaves the pressure to oscillate; take backward_euler or bdf2",
                path="scheme",
            )
        if order == 1 and self.initial_velocity is not None:
            raise SpecError(
                "with one derivative in time the problem says the rate itself",
                path="initial_velocity",
            )
        if order == 1 and "acceleration" in self.save:
            raise SpecError(f"{self.method!r} knows no acceleration", path="save")
        return self
