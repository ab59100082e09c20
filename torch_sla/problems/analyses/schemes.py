"""Schemes in time, written for any physics.

With the residual of what is steady, R(t, u) = K u − F + what is not linear, one derivative in time means
M u̇ + R = 0 and two mean M ü + C u̇ + R = 0 on the free unknowns. Every implicit scheme comes down to

    c M u + d C u + R(t, u) = M v + b

at the new time, with numbers c and d, and v and b made of what is known. Hairer, Nørsett, Wanner, Solving Ordinary
Differential Equations I, Springer 1993, III.1 and III.5 (BDF, variable steps); Newmark, J. Eng. Mech. Div. 85 (1959),
67-94; Chung and Hulbert, J. Appl. Mech. 60 (1993), 371-375 (generalised α); Hughes, The Finite Element Method, Dover
2000, 9.1 (central differences). Errors of a step: divided differences, Hairer et al., III.5; of Newmark's method:
Zienkiewicz and Xie, Earthq. Eng. Struct. Dyn. 20 (1991), 871-887.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch_sla.problems.specs.transient import TransientProblem

__all__ = ["SCHEMES", "Grid", "Past", "Scheme", "State", "Step", "scheme_of"]

State = tuple[Tensor, ...]

_REACH = 2.0
"""How many lengths of a step its accelerations are carried on; from about 3, frequencies that are not resolved grow."""


class Step(NamedTuple):
    """From one time to the next.

    Parameters
    ----------
    start, end
        Times.
    h
        Their difference; the same number for steps that are meant to be equal.
    before
        Length of the step before; 0 at the start.
    """

    start: float
    end: float
    h: float
    before: float


class Past(NamedTuple):
    """A time and what was known then."""

    t: float
    u: Tensor


class Grid(Protocol):
    """The operations of a problem in time."""

    def mass(self, v: Tensor) -> Tensor:
        """Return ``M v``."""

    def damping(self, v: Tensor) -> Tensor | None:
        """Return ``C v``; None without damping."""

    def residual(self, t: float, u: Tensor) -> Tensor:
        """Return ``R(t, u)``, before constraints."""

    def implicit(
        self,
        t: float,
        factors: tuple[float, float],
        v: Tensor,
        guess: Callable[[], Tensor],
        b: Tensor | None = None,
    ) -> Tensor:
        """Return u with ``c M u + d C u + R(t, u) = M v + b`` and the values given at t, near a guess."""

    def given(self, t: float, u: Tensor) -> Tensor:
        """Return u with the values given at t."""

    def put(self, x: Tensor, given: Tensor) -> Tensor:
        """Return x with something else where values are given."""

    def motion(self, t: float, h: float) -> tuple[Tensor, Tensor, Tensor] | None:
        """Return the given values at t with their first and second rates; None where they do not change."""

    def acceleration(self, t: float, u: Tensor, v: Tensor) -> Tensor:
        """Return a with ``M a + C v + R(t, u) = 0``."""

    def pushed(self, t: float, u: Tensor, v: Tensor, h: float) -> Tensor:
        """Return a with ``M a + C (v + h a) + R(t, u) = 0``, M lumped."""


class Scheme(Protocol):
    """What a scheme says; a state is ``(u, ...)``."""

    order: ClassVar[int] = 2
    """An error of a step is of one power more."""
    looks_back: ClassVar[bool] = False
    """Whether its estimate needs earlier solutions."""

    def start(self, grid: Grid, u: Tensor, v: Tensor) -> State:
        """Return the state at the start."""

    def step(self, grid: Grid, step: Step, state: State) -> State:
        """Go one step."""

    def rate(self, state: State) -> Tensor:
        """Return what the mass multiplies: u̇ or ü."""

    def error(self, step: Step, old: State, new: State, past: Sequence[Past]) -> Tensor:
        """Estimate the error of one step; the past ends at its start."""


class BackwardEuler:
    """Backward Euler; a state is ``(u, rate, u before)``."""

    order: ClassVar[int] = 1
    looks_back: ClassVar[bool] = True

    def __init__(self, spec: TransientProblem) -> None:
        del spec

    def start(self, grid: Grid, u: Tensor, v: Tensor) -> State:
        """Return the state at the start; the rate is not known there and counts as zero."""
        del grid
        return u, v, u

    def step(self, grid: Grid, step: Step, state: State) -> State:
        """Go one step."""
        u, c = state[0], 1.0 / step.h

        def ahead() -> Tensor:
            return torch.add(u, state[1], alpha=step.h) if step.before else u

        known = c * u
        new = grid.implicit(step.end, (c, 0.0), known, ahead)
        return new, torch.sub(c * new, known), u

    def rate(self, state: State) -> Tensor:
        """Return u̇; after one step of Crank-Nicolson its mean over it."""
        return state[1]

    def error(self, step: Step, old: State, new: State, past: Sequence[Past]) -> Tensor:
        """Estimate ``h²/2 ü``."""
        del old
        difference, k = _divided(step, new[0], past, 2)
        return step.h**2 * difference if k == 2 else step.h * difference


class CrankNicolson(BackwardEuler):
    """Crank-Nicolson, the trapezoidal rule."""

    order: ClassVar[int] = 2

    def step(self, grid: Grid, step: Step, state: State) -> State:
        """Go one step."""
        u, _, before = state
        c = 2.0 / step.h
        push = -grid.residual(step.start, u)
        new = grid.implicit(step.end, (c, 0.0), c * u, lambda: u, push)
        if not step.before:
            return new, (new - u) / step.h, u
        # The rate at the end, to the order of the scheme: the mean over the step is that of its middle.
        c, known = _backward(step, u, before)
        return new, torch.sub(c * new, known), u

    def error(self, step: Step, old: State, new: State, past: Sequence[Past]) -> Tensor:
        """Estimate ``h³/12 u⃛``."""
        del old
        difference, k = _divided(step, new[0], past, 3)
        return (0.5 if k == 3 else 1.0) * step.h**k * difference


class BDF2(BackwardEuler):
    """Two backward differences, for steps of any lengths; starts with backward Euler."""

    order: ClassVar[int] = 2

    def step(self, grid: Grid, step: Step, state: State) -> State:
        """Go one step."""
        if not step.before:
            return super().step(grid, step, state)
        u, _, before = state
        w = step.h / step.before
        c, known = _backward(step, u, before)
        # On a line: a parabola is nearer to what moves, but enlarges what solves leave where nothing does.
        new = grid.implicit(step.end, (c, 0.0), known, lambda: torch.lerp(before, u, 1.0 + w))
        return new, torch.sub(c * new, known), u

    def error(self, step: Step, old: State, new: State, past: Sequence[Past]) -> Tensor:
        """Estimate ``h²(h + h₋)(1 + w)/(1 + 2w) u⃛/6``."""
        if not step.before:
            return super().error(step, old, new, past)
        difference, k = _divided(step, new[0], past, 3)
        if k < 3:
            return step.h**k * difference
        w = step.h / step.before
        return step.h**2 * (step.h + step.before) * (1.0 + w) / (1.0 + 2.0 * w) * difference


class Newmark:
    """Newmark with β = 1/4, γ = 1/2, and generalised α; a state is ``(u, v, a)``, or ``(u, v, ü, a)``.

    The a that generalised α goes on with is the acceleration of an earlier time, by αf − αm steps, so that ü is what
    the line through the last two a says of the end of the step (Erlicher, Bonaventura, Bursi, Comput. Mech. 28
    (2002), 83-104). Where the length of steps changes, the line through a and ü says what a would be with the new
    length, for what is up to twice as long; else velocities are of first order there (Brüls and Arnold, J. Comput.
    Nonlinear Dyn. 3 (2008), 041007).
    """

    order: ClassVar[int] = 2
    looks_back: ClassVar[bool] = False

    def __init__(self, spec: TransientProblem) -> None:
        self.am = self.af = 0.0
        if spec.method == "generalized_alpha":
            rho = spec.spectral_radius
            self.am, self.af = (2.0 * rho - 1.0) / (rho + 1.0), rho / (rho + 1.0)
        self._late = self.af - self.am
        self.gamma = 0.5 - self.am + self.af
        self.beta = 0.25 * (1.0 - self.am + self.af) ** 2

    def start(self, grid: Grid, u: Tensor, v: Tensor) -> State:
        """Return the state at the start, with the acceleration that balances it."""
        a = grid.acceleration(0.0, u, v)
        return (u, v, a, a.clone()) if self._late else (u, v, a)

    def step(self, grid: Grid, step: Step, state: State) -> State:
        """Go one step."""
        u, v, now, a = *state[:3], state[-1]
        h, beta, gamma = step.h, self.beta, self.gamma
        share = min(1.0, _REACH * step.before / h)
        if self._late and step.before and h != step.before:
            a = torch.lerp(now, a, share * h / step.before)
        c = (1.0 - self.am) / ((1.0 - self.af) * beta * h**2)
        d = gamma / (beta * h)
        ahead = u + h * v + (0.5 - beta) * h**2 * a
        known = c * ahead
        # The new velocity is v + h (1 − γ) a + d (new − ahead).
        slow = d * ahead - v - h * (1.0 - gamma) * a
        motion, before = grid.motion(step.end, h), self.am * a
        if motion is not None:
            # The recursions would swing about the rates of given values, more with every step. Accelerations of
            # given values are never late, so what they push is weighted like the forces.
            g, rate, bend = motion
            known = grid.put(known, c * g - bend)
            slow = grid.put(slow, d * g - rate)
            before = torch.add(grid.put(before - self.af * now, 0.0 * bend), now, alpha=self.af)
        known = known - before / (1.0 - self.af) if self.am or self.af else known
        b = grid.damping(slow)
        if self.af:
            held = grid.residual(step.start, u)
            old = grid.damping(v)
            held = held if old is None else held + old
            held = -self.af / (1.0 - self.af) * held
            b = held if b is None else b + held
        new = grid.implicit(step.end, (c, d), known, lambda: ahead, b)
        a_new = (new - ahead) / (beta * h**2)
        v_new = v + h * ((1.0 - gamma) * a + gamma * a_new)
        late, a_then, a_next = self._late, a_new, a_new
        if late:
            # The first a is of the start itself; one that is late by a share of it all is followed by one so late:
            late *= (1.0 - self.am * share) / (1.0 - self.am)
            since = 1.0 + self._late * share - late
            a_then = torch.add(a_new, a_new - a, alpha=late / since)
            a_next = torch.lerp(a_then, a_new, self._late / late) if share < 1.0 else a_new
        if motion is not None:
            v_new, a_then = grid.put(v_new, rate), grid.put(a_then, bend)
            a_next = grid.put(a_next, bend) if late else a_then
        return (new, v_new, a_then, a_next) if late else (new, v_new, a_then)

    def rate(self, state: State) -> Tensor:
        """Return ü."""
        return state[2]

    def error(self, step: Step, old: State, new: State, past: Sequence[Past]) -> Tensor:
        """Estimate ``h³ (β − 1/6 − (αf − αm)/2) u⃛``, of accelerations as late as they are."""
        del past
        return step.h**2 * (self.beta - 1.0 / 6.0 - 0.5 * self._late) * (new[2] - old[2])


class Explicit:
    """Central differences with lumped mass; a state is ``(u, v, a)``."""

    order: ClassVar[int] = 2
    looks_back: ClassVar[bool] = False

    def __init__(self, spec: TransientProblem) -> None:
        del spec

    def start(self, grid: Grid, u: Tensor, v: Tensor) -> State:
        """Return the state at the start, with the acceleration that balances it."""
        return u, v, grid.pushed(0.0, u, v, 0.0)

    def step(self, grid: Grid, step: Step, state: State) -> State:
        """Go one step."""
        u, v, a = state
        h = step.h
        new = grid.given(step.end, u + h * v + 0.5 * h**2 * a)
        a_new = grid.pushed(step.end, new, v + 0.5 * h * a, 0.5 * h)
        return new, v + 0.5 * h * (a + a_new), a_new

    def rate(self, state: State) -> Tensor:
        """Return ü."""
        return state[2]

    def error(self, step: Step, old: State, new: State, past: Sequence[Past]) -> Tensor:
        """Estimate ``h³/6 u⃛``."""
        del past
        return step.h**2 / 6.0 * (new[2] - old[2])


def _backward(step: Step, u: Tensor, before: Tensor) -> tuple[float, Tensor]:
    """Return c and what is known of ``c new − known``, the rate at the end of the parabola through three times."""
    w = step.h / step.before
    c = (1.0 + 2.0 * w) / (1.0 + w) / step.h
    return c, torch.sub((1.0 + w) / step.h * u, before, alpha=w**2 / (1.0 + w) / step.h)


def _divided(step: Step, new: Tensor, past: Sequence[Past], k: int) -> tuple[Tensor, int]:
    """Return the divided difference of order k, or of the highest order there is, and that order."""
    times = [step.end, *(p.t for p in reversed(past[-k:]))]
    column = [new, *(p.u for p in reversed(past[-k:]))]
    for j in range(1, len(times)):
        column = [
            (column[i] - column[i + 1]) / (times[i] - times[i + j]) for i in range(len(column) - 1)
        ]
    return column[0], len(times) - 1


SCHEMES: dict[str, type[BackwardEuler | Newmark | Explicit]] = {
    "backward_euler": BackwardEuler,
    "crank_nicolson": CrankNicolson,
    "bdf2": BDF2,
    "newmark": Newmark,
    "generalized_alpha": Newmark,
    "explicit": Explicit,
}


def scheme_of(spec: TransientProblem) -> Scheme:
    """Return the scheme of a declaration."""
    return SCHEMES[spec.method](spec)
