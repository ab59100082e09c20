"""Derivatives on a branch: where there are several solutions, `start=` chooses the one that is differentiated.

Bratu's problem −u″ = λ exp(u) on the unit interval has two solutions below λ = 3.51, u = 2 ln(cosh(θ/4) / cosh(θ(x −
1/2)/2)) with θ = √(2λ) cosh(θ/4): the low one grows with λ, and the high one falls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from torch_sla import (
    Dirichlet,
    Gaussian,
    Integral,
    IntervalMesh,
    NonlinearProblem,
    Parameter,
    PoissonProblem,
    Probe,
    Root,
    distribute,
)

if TYPE_CHECKING:
    from torch import Tensor

LAM = 1.0
STEP = 1e-4


@pytest.fixture(scope="module")
def bratu() -> PoissonProblem:
    return PoissonProblem(
        mesh=IntervalMesh(cells=16),
        source="lam*exp(u)",
        parameters=[Parameter("lam", default=LAM)],
        boundary=[Dirichlet("left", 0.0), Dirichlet("right", 0.0)],
        outputs=[Probe("top", at=[(0.5,)]), Integral("total", "u")],
    )


@pytest.fixture(params=["low", "high"])
def start(request: pytest.FixtureRequest, bratu: PoissonProblem) -> Tensor:
    x = bratu.dof_points()[:, 0]
    return (16.0 if request.param == "high" else 0.0) * x * (1 - x)


def differences(problem: PoissonProblem, start: Tensor) -> tuple[float, float]:
    """Return the first and the second derivative of the integral by λ, by central differences."""
    at = [
        float(problem.solve(lam=LAM + h, start=start)["total"])
        for h in (-10 * STEP, -STEP, 0.0, STEP, 10 * STEP)
    ]
    return (at[3] - at[1]) / (2 * STEP), (at[4] - 2 * at[2] + at[0]) / (10 * STEP) ** 2


def test_the_start_chooses_the_branch(bratu: PoissonProblem, start: Tensor) -> None:
    high = bool(start.any())
    theta = 10.9387 if high else 1.5172  # roots of θ = √2 cosh(θ/4) for λ = 1
    top = 2 * torch.log(torch.cosh(torch.tensor(theta / 4)))
    assert float(bratu.solve(start=start)["top"]) == pytest.approx(float(top), rel=1e-2)
    slope, _ = differences(bratu, start)
    assert (slope < 0) == high


def test_first_derivatives_are_those_of_the_branch(bratu: PoissonProblem, start: Tensor) -> None:
    slope, _ = differences(bratu, start)
    value, gradient = bratu.value_and_grad("total", lam=LAM, start=start)
    assert float(value) == pytest.approx(float(bratu.solve(start=start)["total"]))
    known = pytest.approx(slope, rel=1e-5)
    assert float(gradient["lam"]) == known
    assert float(bratu.jvp({"lam": 1.0}, lam=LAM, start=start)["total"]) == known
    assert float(bratu.vjp({"total": 1.0}, lam=LAM, start=start)["lam"]) == known
    table = bratu.sensitivities(lam=LAM, start=start)
    assert float(table.derivatives["total"]["lam"]) == known
    module = bratu.module(["lam"])
    module(start=start)["total"].backward()
    assert float(module.trained["lam"].grad) == known
    _, shared = distribute(bratu, 1).value_and_grad("total", lam=LAM, start=start)
    assert float(shared["lam"]) == known


def test_second_derivatives_are_those_of_the_branch(bratu: PoissonProblem, start: Tensor) -> None:
    _, curvature = differences(bratu, start)
    product = bratu.hvp("total", {"lam": 1.0}, lam=LAM, start=start)["lam"]
    assert float(product) == pytest.approx(curvature, rel=1e-3)


def test_gradients_are_checked_on_the_branch(bratu: PoissonProblem, start: Tensor) -> None:
    check = bratu.check_gradients(lam=LAM, start=start, output="total")
    assert check.passed
    assert check.second_orders["lam"] > 2.75


def test_what_data_tell_is_that_of_the_branch(bratu: PoissonProblem, start: Tensor) -> None:
    slope, _ = differences(bratu, start)
    posterior = bratu.laplace(
        {"total": 0.1}, {"lam": Gaussian(std=2.0)}, lam=LAM, start=start, rank=1
    )
    wanted = (2.0**-2 + (slope / 0.1) ** 2) ** -0.5
    assert float(posterior.std["lam"]) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_roots_of_equations_without_a_mesh(sign: float) -> None:
    problem = NonlinearProblem(
        unknowns=[Root("x", start=1.0)], residual=["x**2 - c"], parameters=[Parameter("c")]
    )
    start = torch.tensor([sign], dtype=torch.float64)
    value, gradient = problem.value_and_grad(lambda s: s.x.sum(), c=4.0, start=start)
    assert (float(value), float(gradient["c"])) == pytest.approx((2 * sign, sign / 4))


def test_a_start_has_no_derivative(bratu: PoissonProblem, start: Tensor) -> None:
    first = start.clone().requires_grad_()
    _, gradient = bratu.value_and_grad("total", lam=LAM, start=first)
    assert first.grad is None
    assert list(gradient) == ["lam"]
