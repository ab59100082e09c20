"""Schemes in time, written for any physics.

With the residual of what is steady, R(t, u) = K u − F + what is not linear, one derivative in time means
M u̇ + R = 0 and two mean M ü + R = 0 on the free unknowns. Every implicit scheme comes down to

    c M u + R(t, u) = b

at the new time, with c a number and b made of what is known. Hairer, Nørsett, Wanner, Solving Ordinary Differential
Equations I, Springer 1993, III.1 (BDF); Newmark, J. Eng. Mech. Div. 85 (1959), 67-94; Chung and Hulbert, J. Appl. Mech.
60 (1993), 371-375 (generalised α); Hughes, The Finite Element Method, Dover 2000, 9.1 (central differences).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

from torch import Tensor

if TYPE_CHECKING:
    from torch_sla.problems.specs.transient import TransientProblem

__all__ = ["SCHEMES", "Grid", "Scheme", "scheme_of"]

State = tuple[Tensor, ...]


class Grid(Protocol):
    """The operations of a problem on its time grid."""

    h: float

    def mass(self, v: Tensor) -> Tensor:
        """Return ``M v``."""

    def residual(self, i: int, u: Tensor) -> Tensor:
        """Return ``R(t_i, u)``, before constraints."""

    def implicit(self, i: int, c: float, b: Tensor, guess: Tensor) -> Tensor:
        """Return u with ``c M u + R(t_i, u) = b`` and the values given at ``t_i``."""

    def given(self, i: int, u: Tensor) -> Tensor:
        """Return u with the values given at ``t_i``."""

    def acceleration(self, i: int, u: Tensor, *, lumped: bool) -> Tensor:
        """Return a with ``M a + R(t_i, u) = 0``."""


class Scheme(Protocol):
    """What a scheme says; a state is ``(u, ...)``."""

    @property
    def factors(self) -> tuple[float, ...]:
        """Every c that `step` uses."""

    def start(self, grid: Grid, u: Tensor, v: Tensor) -> State:
        """Return the state at the start."""

    def step(self, grid: Grid, i: int, state: State) -> State:
        """Go from ``t_i`` to ``t_(i+1)``."""

    def rate(self, state: State) -> Tensor:
        """Return what the mass multiplies: u̇ or ü."""


class OneDerivative:
    """Backward Euler, Crank-Nicolson, BDF2; a state is ``(u, rate, u before)``."""

    def __init__(self, spec: TransientProblem, h: float) -> None:
        self.kind, self.h = spec.method, h

    @property
    def factors(self) -> tuple[float, ...]:
        """Every c that `step` uses; BDF2 starts with a step of backward Euler."""
        once = 1.0 / self.h
        return {"backward_euler": (once,), "crank_nicolson": (2.0 * once,)}.get(
            self.kind, (once, 1.5 * once)
        )

    def start(self, grid: Grid, u: Tensor, v: Tensor) -> State:
        """Return the state at the start; the rate is not known there and counts as zero."""
        del grid
        return u, v, u

    def step(self, grid: Grid, i: int, state: State) -> State:
        """Go from ``t_i`` to ``t_(i+1)``."""
        u, _, before = state
        c = self.factors[0]
        if self.kind == "crank_nicolson":
            b = c * grid.mass(u) - grid.residual(i, u)
            new = grid.implicit(i + 1, c, b, u)
            return new, (new - u) / self.h, u
        if self.kind == "backward_euler" or i == 0:
            new = grid.implicit(i + 1, c, c * grid.mass(u), u)
            return new, c * (new - u), u
        c = self.factors[1]
        known = (2.0 * u - 0.5 * before) / self.h
        new = grid.implicit(i + 1, c, grid.mass(known), 2.0 * u - before)
        return new, c * new - known, u

    def rate(self, state: State) -> Tensor:
        """Return u̇; for Crank-Nicolson its mean over the step."""
        return state[1]


class TwoDerivatives:
    """Newmark and generalised α; a state is ``(u, v, a)``."""

    def __init__(self, spec: TransientProblem, h: float) -> None:
        self.h = h
        if spec.method == "newmark":
            self.am = self.af = 0.0
        else:
            rho = spec.spectral_radius
            self.am, self.af = (2.0 * rho - 1.0) / (rho + 1.0), rho / (rho + 1.0)
        self.gamma = 0.5 - self.am + self.af
        self.beta = 0.25 * (1.0 - self.am + self.af) ** 2

    @property
    def factors(self) -> tuple[float, ...]:
        """Every c that `step` uses."""
        return ((1.0 - self.am) / ((1.0 - self.af) * self.beta * self.h**2),)

    def start(self, grid: Grid, u: Tensor, v: Tensor) -> State:
        """Return the state at the start, with the acceleration that balances it."""
        return u, v, grid.acceleration(0, u, lumped=False)

    def step(self, grid: Grid, i: int, state: State) -> State:
        """Go from ``t_i`` to ``t_(i+1)``."""
        u, v, a = state
        h, beta, gamma = self.h, self.beta, self.gamma
        (c,) = self.factors
        ahead = u + h * v + (0.5 - beta) * h**2 * a
        b = grid.mass(c * ahead - self.am / (1.0 - self.af) * a)
        if self.af:
            b = b - self.af / (1.0 - self.af) * grid.residual(i, u)
        new = grid.implicit(i + 1, c, b, ahead)
        a_new = (new - ahead) / (beta * h**2)
        return new, v + h * ((1.0 - gamma) * a + gamma * a_new), a_new

    def rate(self, state: State) -> Tensor:
        """Return ü."""
        return state[2]


class Explicit:
    """Central differences with lumped mass; a state is ``(u, v, a)``."""

    factors: ClassVar[tuple[float, ...]] = ()

    def __init__(self, spec: TransientProblem, h: float) -> None:
        del spec
        self.h = h

    def start(self, grid: Grid, u: Tensor, v: Tensor) -> State:
        """Return the state at the start, with the acceleration that balances it."""
        return u, v, grid.acceleration(0, u, lumped=True)

    def step(self, grid: Grid, i: int, state: State) -> State:
        """Go from ``t_i`` to ``t_(i+1)``."""
        u, v, a = state
        new = grid.given(i + 1, u + self.h * v + 0.5 * self.h**2 * a)
        a_new = grid.acceleration(i + 1, new, lumped=True)
        return new, v + 0.5 * self.h * (a + a_new), a_new

    def rate(self, state: State) -> Tensor:
        """Return ü."""
        return state[2]


SCHEMES: dict[str, type[OneDerivative | TwoDerivatives | Explicit]] = {
    "backward_euler": OneDerivative,
    "crank_nicolson": OneDerivative,
    "bdf2": OneDerivative,
    "newmark": TwoDerivatives,
    "generalized_alpha": TwoDerivatives,
    "explicit": Explicit,
}


def scheme_of(spec: TransientProblem) -> Scheme:
    """Return the scheme of a declaration, for its step."""
    return SCHEMES[spec.method](spec, spec.end / spec.steps)
