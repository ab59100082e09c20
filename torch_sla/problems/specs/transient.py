"""A problem in time."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from torch_sla.errors import SpecError
from torch_sla.problems.expression import nearest
from torch_sla.problems.specs.base import Spec
from torch_sla.problems.specs.of import Physics
from torch_sla.problems.specs.place import NONNEGATIVE, Place
from torch_sla.problems.specs.problem import Problem
from torch_sla.problems.specs.value import Value
from torch_sla.problems.specs.written import Listed, Text

__all__ = ["SCHEMES", "Adaptive", "Event", "TransientProblem"]

SCHEMES = {
    "backward_euler": 1,
    "crank_nicolson": 1,
    "bdf2": 1,
    "newmark": 2,
    "generalized_alpha": 2,
    "explicit": 2,
}
"""Order of the time derivative that each scheme is for."""


class Adaptive(Spec):
    """Steps as long as the error allows: each of the equal steps is halved as often as it has to be.

    The error of a step is estimated from divided differences of the solution, with two derivatives in time from the
    jump of the acceleration, and compared with ``atol + rtol · size``, both root mean squares over the unknowns.

    Examples
    --------
    >>> Adaptive(rtol=1e-4)
    Adaptive(rtol=0.0001)
    """

    type: Literal["adaptive"] = "adaptive"
    rtol: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=1e-3, description="Error of a step allowed, relative to the size of the field."
    )
    atol: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="Error of a step allowed besides, in units of the field."
    )
    halvings: Annotated[int, Field(ge=1, le=40)] = Field(
        default=20, description="How often an equal step may be halved; more is a failure."
    )


class Event(Spec):
    """Something that happens when an output crosses a level; when it does is found between the ends of equal steps.

    Examples
    --------
    >>> Event("molten", of="hottest", level=660.0, direction="up", stop=True).stop
    True
    """

    type: Literal["event"] = "event"
    name: Text = Field(kw_only=False, description="Its name in the results.")
    of: Text = Field(description="Name of an output of the physics that is one number.")
    level: float = Field(default=0.0, description="The value that is crossed.")
    direction: Literal["up", "down", "both"] = Field(
        default="both", description="Which crossings count."
    )
    stop: bool = Field(
        default=False, description="End at the first of equal steps after it (in all of a batch)."
    )


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
    goes_on: ClassVar[bool] = True

    type: Literal["transient"] = "transient"
    of: Physics = Field(description="The physics; its outputs are taken at every time.")
    initial: Annotated[Value, Place("dofs", (0, 1))] = Field(
        default=0.0,
        description="The (first) unknown at t = 0; one number applies to all components.",
    )
    initial_velocity: Annotated[Value | None, Place("dofs", (0, 1))] = Field(
        default=None,
        description="Velocity at t = 0, with two derivatives in time; 0 when left out.",
    )
    end: Annotated[float, Field(gt=0)] = Field(description="The last time (s).")
    steps: Annotated[int, Field(ge=1, le=100_000_000)] = Field(description="Number of equal steps.")
    adaptive: Adaptive | None = Field(
        default=None,
        description="Halve the equal steps where the error asks for it; outputs stay at their times.",
    )
    times: Listed[Annotated[float, Field(ge=0)]] = Field(
        default=(),
        description="Times of the outputs instead of all steps, ascending; they are met exactly (s).",
    )
    events: Listed[Event] = Field(default=(), description="Levels that outputs may cross.")
    mass_damping: Annotated[Value, Place("constant", within=NONNEGATIVE)] = Field(
        default=0.0, description="α of the damping α M + β K, with two derivatives in time (1/s)."
    )
    stiffness_damping: Annotated[Value, Place("constant", within=NONNEGATIVE)] = Field(
        default=0.0,
        description="β of that damping (s); K is the stiffness of the undeformed body at the start.",
    )
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
        default=8,
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
        if getattr(of, "control", "load") != "load":
            raise SpecError(
                "arc_length follows the equilibria of a growing load, and in time loads are what their laws say; "
                "leave control out",
                path="of.control",
            )
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
        self._damped(order)
        self._timely()
        return self

    @property
    def damped(self) -> bool:
        """Whether there is damping, by structure."""
        return self.mass_damping != 0.0 or self.stiffness_damping != 0.0

    def _damped(self, order: int) -> None:
        if order == 1 and self.damped:
            path = "mass_damping" if self.mass_damping != 0.0 else "stiffness_damping"
            raise SpecError("damping acts on velocities, with two derivatives in time", path=path)
        if self.method == "explicit" and self.stiffness_damping != 0.0:
            raise SpecError(
                "it would need a solve, or steps far below the critical one; take mass_damping, or newmark",
                path="stiffness_damping",
            )

    def _timely(self) -> None:
        if self.method != "generalized_alpha" and self.spectral_radius != 0.8:
            raise SpecError(
                f"{self.method} has no such choice; generalized_alpha has", path="spectral_radius"
            )
        if self.method == "explicit" and self.adaptive is not None:
            raise SpecError(
                "the steps of explicit are bound by what is stable, not by the error; choose steps, or newmark",
                path="adaptive",
            )
        for i, (a, b) in enumerate(zip(self.times[:-1], self.times[1:], strict=True)):
            if not a < b:
                raise SpecError(f"times ascend; received {a} before {b}", path=f"times.{i + 1}")
        if self.times and self.times[-1] > self.end * (1 + 1e-12):
            raise SpecError(
                f"the last time is {self.end}; received {self.times[-1]}",
                path=f"times.{len(self.times) - 1}",
            )
        known = [output.name for output in self.of.outputs if output.type != "field"]
        names = [event.name for event in self.events]
        for i, event in enumerate(self.events):
            if event.of not in known:
                listed = " ".join(known) or "none"
                raise SpecError(
                    f"{event.of!r} is no output that is a number{nearest(event.of, known)}; outputs: {listed}",
                    path=f"events.{i}.of",
                )
            if event.name in {*self.of.fields, *(output.name for output in self.of.outputs)}:
                raise SpecError(
                    f"{event.name!r} is a field or an output; an event needs a name of its own",
                    path=f"events.{i}.name",
                )
            if names.count(event.name) > 1:
                raise SpecError(f"two events are called {event.name!r}", path=f"events.{i}.name")
