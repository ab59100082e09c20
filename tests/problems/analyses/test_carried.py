"""Advection in time, stabilised along the flow: exact solutions, weights of the residual written out densely."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch

from torch_sla import (
    Dirichlet,
    EigenProblem,
    Energy,
    Integral,
    IntervalMesh,
    Parameter,
    Periodic,
    PoissonProblem,
    Probe,
    Table,
    TransientProblem,
)
from torch_sla.errors import SpecError


def along_the_flow(n: int, k: float, a: float, cap: float) -> tuple[np.ndarray, ...]:
    """Return stiffness, capacity and the load of 1 + x on n cells of the unit interval, tested along the flow."""
    h = 1.0 / n
    tau = 1.0 / math.sqrt((2 * a / h) ** 2 + 144 * (k / h**2) ** 2)
    A, M, F = np.zeros((n + 1, n + 1)), np.zeros((n + 1, n + 1)), np.zeros(n + 1)
    slope = np.array([-1.0, 1.0]) / h
    for i in range(n):
        at = np.ix_([i, i + 1], [i, i + 1])
        for s in (0.5 - math.sqrt(1 / 12), 0.5 + math.sqrt(1 / 12)):
            shape = np.array([1 - s, s])
            test = shape + tau * a * slope
            A[at] += h / 2 * (k * np.outer(slope, slope) + a * np.outer(test, slope))
            M[at] += h / 2 * cap * np.outer(test, shape)
            F[i : i + 2] += h / 2 * test * (1 + (i + s) * h)
    return A, M, F


def wave(n: int, steps: int = 40, **fields: Any) -> float:
    """Return the error of a sine that is carried a quarter around, relative to it."""
    ring = PoissonProblem(
        mesh=IntervalMesh(cells=n),
        diffusivity=1e-4,
        advection=[1.0],
        boundary=[Periodic(on="right", to="left")],
        outputs=[Integral("error", "2*(u - exp(-4e-4*pi**2*t)*sin(2*pi*(x - t)))**2")],
    ).updated(**fields)
    march = TransientProblem(
        of=ring, initial="sin(2*pi*x)", end=0.25, steps=steps, scheme="crank_nicolson"
    )
    return math.sqrt(float(march.solve()["error"][-1]))


def test_a_wave_is_carried_with_the_order_of_the_elements() -> None:
    coarse, fine = wave(16), wave(32)
    assert fine < 0.01
    assert math.log2(coarse / fine) > 1.9


def test_a_source_that_sees_the_solution_leaves_the_order_as_it_is() -> None:
    assert wave(8, 4, reaction="0*u") == pytest.approx(wave(8, 4), rel=1e-6)


def test_one_step_tests_the_rate_along_the_flow() -> None:
    n, dt, k, a, cap = 5, 0.1, 0.02, 1.5, 1.3
    rod = PoissonProblem(
        mesh=IntervalMesh(cells=n),
        diffusivity=Parameter("k", default=k),
        advection=[Parameter("a", default=a)],
        capacity=Parameter("c", default=cap),
        source="1 + x",
        boundary=[Dirichlet("left", 0.0)],
        outputs=[Probe("end", at=[1.0])],
    )
    march = TransientProblem(of=rod, initial="x**2", end=dt, steps=1, scheme="backward_euler")

    def dense(k: float, a: float, cap: float) -> float:
        A, M, F = along_the_flow(n, k, a, cap)
        u = np.linspace(0.0, 1.0, n + 1) ** 2
        step = np.linalg.solve((M / dt + A)[1:, 1:], (M @ u / dt + F)[1:])
        return float(step[-1])

    names = {"k": k, "a": a, "c": cap}
    values = {n: torch.tensor(v, dtype=torch.float64, requires_grad=True) for n, v in names.items()}
    end = march.solve(**values)["end"][-1, 0]
    assert float(end.detach()) == pytest.approx(dense(k, a, cap), rel=1e-12)
    found = torch.autograd.grad(end, list(values.values()))
    for j, gradient in enumerate(found):
        up, down = ([*names.values()] for _ in range(2))
        up[j], down[j] = up[j] * (1 + 1e-5), down[j] * (1 - 1e-5)
        slope = (dense(*up) - dense(*down)) / (up[j] - down[j])
        assert float(gradient) == pytest.approx(slope, rel=1e-7)


@pytest.mark.parametrize(
    "advection", [[Table(of="t", at=[0.0, 1.0], values=[1.0, 2.0])], ["1 + u"]]
)
def test_a_flow_that_changes_is_followed(advection: list[Any]) -> None:
    rod = PoissonProblem(
        mesh=IntervalMesh(cells=20),
        diffusivity=0.05,
        advection=advection,
        boundary=[Dirichlet("left", 0.0)],
        outputs=[Probe("middle", at=[0.5])],
    )
    march = TransientProblem(of=rod, initial="x", end=0.2, steps=5)
    plain = march.updated(of=rod.updated(stabilization="none")).solve()["middle"][-1]
    assert float(march.solve()["middle"][-1]) == pytest.approx(float(plain), rel=5e-2)


def channel(n: int, k: float, a: float, cap: float = 1.0) -> EigenProblem:
    rod = PoissonProblem(
        mesh=IntervalMesh(cells=n),
        diffusivity=Parameter("k", default=k),
        advection=[Parameter("a", default=a)],
        capacity=Parameter("c", default=cap),
        boundary=[Dirichlet("left", 0.0), Dirichlet("right", 0.0)],
    )
    return EigenProblem(of=rod, k=2)


def test_modes_of_a_flow_keep_the_order_of_the_elements() -> None:
    """−κ u'' + a u' with u = 0 at both ends: λ = κ (m π)² + a² / 4 κ."""
    exact = 0.05 * math.pi**2 + 5.0
    coarse, fine = (float(channel(n, 0.05, 1.0).solve().eigenvalues[0].real) for n in (20, 40))
    assert fine == pytest.approx(exact, rel=6e-3)
    assert math.log2((exact - coarse) / (exact - fine)) > 1.8


def test_modes_test_the_rate_along_the_flow() -> None:
    n, names = 12, {"k": 0.07, "a": 1.2, "c": 1.3}

    def dense(*coefficients: float) -> np.ndarray:
        A, R, _ = (x[1:n] for x in along_the_flow(n, *coefficients))
        w = scipy.linalg.eigvals(A[:, 1:n], R[:, 1:n])
        return w[np.argsort(np.abs(w))[:2]].real

    values = {n: torch.tensor(v, dtype=torch.float64, requires_grad=True) for n, v in names.items()}
    solution = channel(n, *names.values()).solve(**values)
    w, flat = solution.eigenvalues.real, solution.flat.detach()
    np.testing.assert_allclose(w.detach(), dense(*names.values()), rtol=1e-9)
    # They are scaled by the capacity itself: c ∫ |φ|² = 1.
    ends = flat[:, :-1].conj() * flat[:, 1:]
    inside = (flat[:, :-1].abs() ** 2 + flat[:, 1:].abs() ** 2 + ends.real).sum(1)
    torch.testing.assert_close(names["c"] * inside / (3 * n), torch.ones(2).double())
    found = torch.autograd.grad(w.sum(), list(values.values()))
    for j, gradient in enumerate(found):
        up, down = ([*names.values()] for _ in range(2))
        up[j], down[j] = up[j] * (1 + 1e-5), down[j] * (1 - 1e-5)
        slope = (dense(*up) - dense(*down)).sum() / (up[j] - down[j])
        assert float(gradient) == pytest.approx(slope, rel=1e-6)


def test_damped_modes_test_both_rates_along_the_flow() -> None:
    n, k, a, cap, alpha, beta = 12, 0.07, 1.2, 1.3, 0.4, 0.01
    A, R, _ = (x[1:n, 1:n] if x.ndim > 1 else x for x in along_the_flow(n, k, a, cap))
    rest, one = np.zeros_like(A), np.eye(n - 1)
    state = np.block([[rest, one], [-A, -alpha * R - beta * A]])
    w = scipy.linalg.eigvals(state, np.block([[one, rest], [rest, R]]))
    w = w[w.imag > 0]
    damped = channel(n, k, a, cap).updated(mass_damping=alpha, stiffness_damping=beta)
    found = damped.solve(k=k, a=a, c=cap).eigenvalues
    np.testing.assert_allclose(found, w[np.argsort(np.abs(w))[:2]], rtol=1e-8)


def test_two_derivatives_in_time_are_tested_along_the_flow() -> None:
    n, k, a, cap, alpha, h = 12, 0.07, 1.2, 1.3, 0.4, 0.1
    A, R, _ = (x[1:n, 1:n] if x.ndim > 1 else x for x in along_the_flow(n, k, a, cap))
    x = np.arange(1, n) / n
    u = x * (1 - x)
    v, acc = 0 * u, np.linalg.solve(R, -A @ u)
    weight = cap / (6 * n) * (4 * np.eye(n - 1) + np.eye(n - 1, k=1) + np.eye(n - 1, k=-1))
    for _ in range(5):  # Newmark, Journal of the Engineering Mechanics Division 85 (1959) 67-94
        ahead, speed = u + h * v + h**2 / 4 * acc, v + h / 2 * acc
        acc = np.linalg.solve(
            R * (1 + alpha * h / 2) + h**2 / 4 * A, -A @ ahead - alpha * R @ speed
        )
        u, v = ahead + h**2 / 4 * acc, speed + h / 2 * acc
    rod = channel(n, k, a, cap).of.updated(
        diffusivity=k, advection=[a], capacity=cap, outputs=[Energy("moving", part="kinetic")]
    )
    march = TransientProblem(
        of=rod, initial="x*(1 - x)", end=5 * h, steps=5, scheme="newmark", mass_damping=alpha
    )
    solution = march.solve()
    np.testing.assert_allclose(solution.u[1:n], u, rtol=1e-10)
    assert float(solution["moving"][-1]) == pytest.approx(0.5 * v @ weight @ v, rel=1e-10)
    explicit = march.updated(scheme="explicit", steps=500)
    for verb in (explicit.check, explicit.solve):
        with pytest.raises(SpecError, match=r"scheme: explicit lumps the mass.*take newmark"):
            verb()
    explicit.updated(of=rod.updated(stabilization="none")).check()
