"""Schemes on small dense systems: every step against its defining equations, every estimate against the error made."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from torch_sla.problems.analyses.schemes import Past, Step, scheme_of

if TYPE_CHECKING:
    from collections.abc import Callable


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def definite(n: int, seed: int) -> Tensor:
    X = normal(n, n, seed=seed)
    return X @ X.T + n * torch.eye(n, dtype=torch.float64)


class Dense:
    """M ü + C u̇ + K u = f(t); the last two unknowns follow sin and a cubic of the time."""

    n, held = 5, 2

    def __init__(self, damped: bool = True, moving: bool = True) -> None:
        self.M, self.C, self.K = (definite(self.n, seed) for seed in (1, 2, 3))
        self.damped, self.moving = damped, moving
        self.free = torch.arange(self.n) < self.n - self.held

    def mass(self, v: Tensor) -> Tensor:
        return self.M @ v

    def damping(self, v: Tensor) -> Tensor | None:
        return self.C @ v if self.damped else None

    def residual(self, t: float, u: Tensor) -> Tensor:
        return self.K @ u - torch.linspace(1.0, 2.0, self.n, dtype=torch.float64) * t**2

    def motion(self, t: float, h: float) -> tuple[Tensor, Tensor, Tensor] | None:
        del h
        x = torch.tensor(t, dtype=torch.float64)
        rates = ([x.sin(), x**3], [x.cos(), 3 * x**2], [-x.sin(), 6 * x])
        return tuple(map(torch.stack, rates)) if self.moving else None  # type: ignore[return-value]

    def put(self, x: Tensor, given: Tensor) -> Tensor:
        return torch.cat([x[: -self.held], given])

    def given(self, t: float, u: Tensor) -> Tensor:
        motion = self.motion(t, 0.0)
        return self.put(u, torch.zeros_like(u[-self.held :]) if motion is None else motion[0])

    def implicit(
        self,
        t: float,
        factors: tuple[float, float],
        v: Tensor,
        guess: Callable[[], Tensor],
        b: Tensor | None = None,
    ) -> Tensor:
        assert guess().shape == v.shape
        u, free = self.given(t, torch.zeros_like(v)), self.free
        S = factors[0] * self.M + self.K + (factors[1] * self.C if self.damped else 0.0)
        load = self.M @ v - self.residual(t, u) + self.K @ u + (0.0 if b is None else b)
        u[free] = torch.linalg.solve(S[free][:, free], (load - S @ u)[free])
        return u

    def pushed(self, t: float, u: Tensor, v: Tensor, h: float) -> Tensor:
        lumped = torch.diag(self.M.sum(1))
        C = self.C if self.damped else torch.zeros_like(self.C)
        return torch.linalg.solve(lumped + h * C, -(C @ v + self.residual(t, u)))


@pytest.mark.parametrize("damped", [False, True], ids=["free", "damped"])
def test_central_differences_meet_their_equations(damped: bool) -> None:
    """The damping sees the velocity of the end, by the trapezoidal rule."""
    grid, (t, h) = Dense(damped), (0.7, 0.3)
    scheme = scheme_of(SimpleNamespace(method="explicit"))  # type: ignore[arg-type]
    u, v, a = (normal(grid.n, seed=seed) for seed in (4, 5, 6))
    new, v_new, a_new = scheme.step(grid, Step(t, t + h, h, 0.2), (u, v, a))
    torch.testing.assert_close(new, grid.given(t + h, u + h * v + h**2 / 2 * a))
    torch.testing.assert_close(v_new, v + h / 2 * (a + a_new))
    C = grid.C if damped else torch.zeros_like(grid.C)
    left = grid.M.sum(1) * a_new + C @ v_new + grid.residual(t + h, new)
    assert float(left.abs().max()) < 1e-10


@pytest.mark.parametrize("moving", [False, True], ids=["still", "moving"])
@pytest.mark.parametrize("damped", [False, True], ids=["free", "damped"])
@pytest.mark.parametrize("radius", [None, 0.0, 0.5, 1.0])
def test_newmark_meets_its_equations(radius: float | None, damped: bool, moving: bool) -> None:
    """Newmark's two recursions, and the balance between two times of Chung and Hulbert, with steps of one length."""
    grid, free = Dense(damped, moving), Dense().free
    name = "newmark" if radius is None else "generalized_alpha"
    scheme = scheme_of(SimpleNamespace(method=name, spectral_radius=radius))  # type: ignore[arg-type]
    rho = radius or 0.0
    am, af = (0.0, 0.0) if radius is None else ((2 * rho - 1) / (rho + 1), rho / (rho + 1))
    beta, gamma = (1 - am + af) ** 2 / 4, 0.5 - am + af
    t, h, before = 0.7, 0.3, 0.3
    motion = grid.motion(t, h)
    u, v, a = (normal(grid.n, seed=seed) for seed in (4, 5, 6))
    if motion is not None:
        u, v, a = (grid.put(x, g) for x, g in zip((u, v, a), motion, strict=True))
    new, v_new, *_, a_new = scheme.step(grid, Step(t, t + h, h, before), (u, v, a))
    C = grid.C if damped else torch.zeros_like(grid.C)
    ends = C @ v + grid.residual(t, u), C @ v_new + grid.residual(t + h, new)
    # What is given is known at the time of the forces.
    weight = torch.full_like(a, am).masked_fill(~free, af if moving else am)
    push = torch.lerp(a_new, a, weight)
    left = grid.M @ push + (1 - af) * ends[1] + af * ends[0]
    bend, rate = ((1 - w) * a + w * a_new for w in (2 * beta, gamma))
    close = {"rtol": 0.0, "atol": 1e-10}
    torch.testing.assert_close(left[free], torch.zeros(3, dtype=torch.float64), **close)
    torch.testing.assert_close((u + h * v + h**2 / 2 * bend)[free], new[free], **close)
    torch.testing.assert_close((v + h * rate)[free], v_new[free], **close)
    motion = grid.motion(t + h, h)
    if motion is not None:
        for found, given in zip((new, v_new, a_new), motion, strict=True):
            torch.testing.assert_close(found[-2:], given)


@dataclass
class Quadrature:
    """u̇ or ü equal to a polynomial of the time: what one step is off is known in closed form."""

    rate: Callable[[float], float]

    def residual(self, t: float, u: Tensor) -> Tensor:
        return torch.full_like(u, -self.rate(t))

    def implicit(self, t: float, factors: tuple[float, float], v: Tensor, *more: Any) -> Tensor:
        b = more[1] if len(more) > 1 and more[1] is not None else 0.0
        return (v + b - self.residual(t, v)) / factors[0]

    def damping(self, v: Tensor) -> None:
        del v

    def motion(self, t: float, h: float) -> None:
        del t, h

    def given(self, t: float, u: Tensor) -> Tensor:
        del t
        return u

    def pushed(self, t: float, *more: Any) -> Tensor:
        return -self.residual(t, more[0])


def one(x: float) -> Tensor:
    return torch.tensor([x], dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "order"), [("backward_euler", 1), ("crank_nicolson", 2), ("bdf2", 2)]
)
def test_estimates_are_the_errors_of_a_step(name: str, order: int) -> None:
    scheme = scheme_of(SimpleNamespace(method=name))  # type: ignore[arg-type]
    power = order + 1
    grid = Quadrature(lambda t: power * t**order)

    def along(t: float) -> Tensor:
        return one(t**power)

    step = Step(1.0, 1.7, 0.7, 0.2)
    past = [Past(t, along(t)) for t in (0.3, 0.8, 1.0)]
    old = (along(1.0), one(grid.rate(1.0)), along(0.8))
    wrong = scheme.step(grid, step, old)[0] - along(1.7)  # type: ignore[arg-type]
    estimate = scheme.error(step, old, (along(1.7),), past)
    assert float(wrong.abs()) > 0.1
    torch.testing.assert_close(estimate.abs(), wrong.abs())
    # What is known later only counts as a change of lower order.
    late = scheme.error(step, old, (along(1.7),), past[-1:])
    first = Step(1.0, 1.7, 0.7, 0.0)
    early = scheme.error(first, old, (along(1.7),), past[-1:])
    change = along(1.7) - along(1.0)
    torch.testing.assert_close(late, change)
    torch.testing.assert_close(early, change)
    if order == 2:
        slopes = [change / 0.7, (along(1.0) - along(0.8)) / 0.2]
        bend = scheme.error(step, old, (along(1.7),), past[-2:])
        torch.testing.assert_close(bend, 0.7**2 * (slopes[0] - slopes[1]) / 0.9)


@pytest.mark.parametrize("name", ["newmark", "explicit"])
def test_estimates_are_the_errors_of_a_step_in_motion(name: str) -> None:
    scheme = scheme_of(SimpleNamespace(method=name))  # type: ignore[arg-type]
    grid = Quadrature(lambda t: 6 * t)
    old = (one(2.0), one(4.0), one(6.0))  # of t³ + t
    new = scheme.step(grid, Step(1.0, 1.7, 0.7, 0.2), old)  # type: ignore[arg-type]
    estimate = scheme.error(Step(1.0, 1.7, 0.7, 0.2), old, new, [])
    torch.testing.assert_close(estimate.abs(), (new[0] - one(1.7**3 + 1.7)).abs())
    torch.testing.assert_close(scheme.rate(new), one(6 * 1.7))


@pytest.mark.parametrize("name", ["crank_nicolson", "bdf2"])
def test_rates_at_the_end_are_those_of_a_parabola(name: str) -> None:
    """Steps of different lengths follow a parabola exactly, and so does the rate at each end."""
    scheme = scheme_of(SimpleNamespace(method=name))  # type: ignore[arg-type]
    grid = Quadrature(lambda t: 2 * t + 1)

    def along(t: float) -> Tensor:
        return one(t**2 + t)

    state = (along(0.8), one(0.0), along(0.3))
    before = 0.5
    for start, end in ((0.8, 1.0), (1.0, 1.7)):
        state = scheme.step(grid, Step(start, end, end - start, before), state)  # type: ignore[arg-type]
        torch.testing.assert_close(state[0], along(end))
        torch.testing.assert_close(scheme.rate(state), one(2 * end + 1))
        before = end - start


@pytest.mark.parametrize("radius", [0.0, 0.01, 0.2, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("lengths", [(0.1,), (0.1, 0.07), (0.1, 0.2, 0.05), (0.1, 0.01, 0.01)])
def test_generalised_alpha_on_a_cubic(radius: float, lengths: tuple[float, ...]) -> None:
    """The acceleration told is that of the end of a step, of any length; the velocity is exact but for its start."""
    scheme = scheme_of(SimpleNamespace(method="generalized_alpha", spectral_radius=radius))  # type: ignore[arg-type]
    grid: Any = Quadrature(lambda t: 6 * t)
    state: tuple[Tensor, ...] = (one(0.0), one(0.0), one(0.0), one(0.0))
    t, before = 0.0, 0.0
    for k in range(40):
        h = lengths[k % len(lengths)]
        old = (one(t**3), one(3 * t**2), *state[2:])
        step = Step(t, t + h, h, before)
        state, t, before = scheme.step(grid, step, old), t + h, h
        assert float(scheme.rate(state)) == pytest.approx(6 * t, rel=1e-6)
        # Where a step is more than twice as long as the one before it, it begins more like the first one.
        if step.before and h < 2.001 * step.before:
            torch.testing.assert_close(state[1], one(3 * t**2), rtol=1e-9, atol=0)
            estimate, off = scheme.error(step, old, state, []), state[0] - t**3
            torch.testing.assert_close(estimate, off, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("radius", [0.0, 0.2, 0.5, 0.8])
@pytest.mark.parametrize("lengths", [(1.0, 0.5), (1.0, 0.3), (1.0, 0.11)])
def test_generalised_alpha_does_not_swell_what_steps_of_any_lengths_do_not_resolve(
    radius: float, lengths: tuple[float, ...]
) -> None:
    """Energies of oscillators of all frequencies end below what they begin with."""
    scheme = scheme_of(SimpleNamespace(method="generalized_alpha", spectral_radius=radius))  # type: ignore[arg-type]
    k = torch.logspace(-2, 8, 11, dtype=torch.float64)

    class Oscillators(Quadrature):
        def residual(self, t: float, u: Tensor) -> Tensor:
            return k * u

        def implicit(self, t: float, factors: tuple[float, float], v: Tensor, *more: Any) -> Tensor:
            b = more[1] if more[1] is not None else 0.0
            return (v + b) / (factors[0] + k)

    grid: Any = Oscillators(lambda t: t)
    u = torch.ones_like(k)
    state: tuple[Tensor, ...] = (u, 0.0 * u, -k * u, -k * u)
    before = 0.0
    for i in range(400):
        h = lengths[i % 2]
        state = scheme.step(grid, Step(0.0, h, h, before), state)
        before = h
    energy = (k * state[0] ** 2 + state[1] ** 2) / k
    assert float(energy.max()) < 1.0 + 1e-6
