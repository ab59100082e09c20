from __future__ import annotations

import math

import pytest
import torch

from torch_sla import (
    Dirichlet,
    ElasticityProblem,
    Line,
    Maximum,
    Minimum,
    Neumann,
    Parameter,
    PoissonProblem,
    Probe,
    RectangleMesh,
    SpecError,
    TransientProblem,
)


def plate(*outputs: object) -> PoissonProblem:
    return PoissonProblem(
        mesh=RectangleMesh(cells=(4, 4)),
        boundary=[
            Dirichlet("left", 0.0),
            Dirichlet("right", Parameter("T", default=1.0)),
        ],
        outputs=outputs,
    )


def test_a_polyline_is_sampled_at_equal_lengths() -> None:
    line = Line("cut", at=[(0.0, 0.0), (0.6, 0.0), (0.6, 0.3)], n=4)
    solution = plate(line).solve()
    s = solution.arcs["cut"]
    assert s.dtype == torch.float64
    assert torch.allclose(s, torch.tensor([0.0, 0.3, 0.6, 0.9], dtype=s.dtype), atol=1e-15)
    # the solution is x
    wanted = torch.tensor([0.0, 0.3, 0.6, 0.6], dtype=s.dtype)
    assert torch.allclose(solution["cut"], wanted, atol=1e-12)


def test_ends_are_exact_however_many_points() -> None:
    for n in (2, 3, 7, 50, 101):
        line = Line("cut", at=[(0.1, 0.3), (0.7, 0.9), (0.2, 0.3)], n=n)
        assert line.points[0] == (0.1, 0.3)
        assert line.points[-1] == (0.2, 0.3)
        assert len(line.points) == len(line.arc) == n
        steps = [math.dist(a, b) for a, b in zip(line.points, line.points[1:], strict=False)]
        assert max(steps) <= line.arc[1] * (1 + 1e-12)


def test_lines_of_vectors_batches_and_gradients() -> None:
    problem = plate(Line("flow", at=[(0.1, 0.2), (0.8, 0.7)], n=3, quantity="-grad(u)"))
    T = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    flow = problem.solve(T=T)["flow"]
    assert flow.shape == (2, 3, 2)
    flow[..., 0].sum().backward()
    assert torch.allclose(T.grad, torch.full((2,), -3.0, dtype=torch.float64))


def test_lines_in_time() -> None:
    of = plate(Line("cut", at=[(0.0, 0.5), (1.0, 0.5)], n=5))
    solution = TransientProblem(of=of, end=50.0, steps=3, scheme="backward_euler").solve()
    assert solution["cut"].shape == (4, 5)
    assert torch.allclose(solution["cut"][-1], solution.arcs["cut"], atol=1e-5)


def test_a_line_that_is_none_is_refused() -> None:
    with pytest.raises(SpecError, match="needs a length"):
        Line("cut", at=[(0.5, 0.5), (0.5, 0.5)])
    with pytest.raises(SpecError, match="one number of coordinates"):
        Line("cut", at=[(0.5, 0.5), (0.5,)])
    with pytest.raises(SpecError, match=r"outputs\.0\.at"):
        plate(Line("cut", at=[(0.5, 0.5), (1.5, 0.5)])).solve()


def test_smallest_and_largest() -> None:
    solution = plate(Minimum("low", "u - 2*x*(1-y)"), Maximum("high", "u")).solve(T=3.0)
    # 3x - 2x(1-y) = x + 2xy at the nodes; over all its smallest is 0
    assert float(solution["low"]) == pytest.approx(0.0, abs=1e-12)
    assert float(solution["high"]) == pytest.approx(3.0)
    assert float(plate(Minimum("low", "grad(u)[0]")).solve(T=3.0)["low"]) == pytest.approx(3.0)


def test_principal_stresses_of_shear_and_tension() -> None:
    outputs = [
        Probe("s", at=[(0.4, 0.6)], quantity="principal(stress)"),
        Probe("tresca", at=[(0.4, 0.6)], quantity="principal(stress)[0] - principal(stress)[2]"),
    ]
    bar = ElasticityProblem(
        mesh=RectangleMesh(cells=(2, 2), cell="quad"),
        model="plane_stress",
        young_modulus=100.0,
        poisson_ratio=0.0,
        boundary=[
            Dirichlet("left", 0.0),
            Neumann("right", traction=[Parameter("pull", default=2.0), 0.0]),
        ],
        outputs=outputs,
    )
    t = torch.tensor(-2.0, dtype=torch.float64, requires_grad=True)
    solution = bar.solve(pull=t)
    assert torch.allclose(solution["s"], torch.tensor([[0.0, 0.0, -2.0]]).double(), atol=1e-9)
    (gradient,) = torch.autograd.grad(solution["tresca"].sum(), t)
    assert float(gradient) == pytest.approx(-1.0)
