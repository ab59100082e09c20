"""What a body in motion holds: stored, kinetic, and their sum, which Newmark's method keeps."""

from __future__ import annotations

import pytest
import torch

from torch_sla import (
    Dirichlet,
    ElasticityProblem,
    Energy,
    Parameter,
    RectangleMesh,
    TransientProblem,
)
from torch_sla.errors import SpecError


def bar(**more: object) -> ElasticityProblem:
    return ElasticityProblem(
        mesh=RectangleMesh(cells=(8, 2), size=(4.0, 1.0), cell="quad"),
        model="plane_stress",
        young_modulus=20.0,
        density=Parameter("rho", default=2.0),
        boundary=[Dirichlet("left", 0.0)],
        outputs=[Energy("stored"), Energy("moving", "kinetic"), Energy("all", "total")],
        **more,
    )


def test_energy_is_kept_and_only_changes_its_form() -> None:
    run = TransientProblem(of=bar(), initial_velocity=["0", "x/4"], end=8.0, steps=64).solve()
    whole, moving = run["all"], run["moving"]
    # ½ ∫ ρ (x/4)² over 4 by 1 at the start
    assert float(moving[0]) == pytest.approx(0.5 * 2.0 * 4.0 / 3.0, rel=1e-6)
    assert float((whole / whole[0] - 1).abs().max()) < 1e-10
    assert torch.allclose(run["stored"] + moving, whole, rtol=1e-13)
    assert float(moving.min()) < 0.2 * float(whole[0])  # it turns around


def test_its_gradient_is_that_of_differences() -> None:
    problem = TransientProblem(of=bar(), initial_velocity=["0", "x/4"], end=1.0, steps=6)
    rho = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(problem.solve(rho=rho)["moving"][-1], rho)
    h = 1e-4
    ends = [float(problem.solve(rho=2.0 + s * h)["moving"][-1]) for s in (1, -1)]
    assert float(found) == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-6)


def test_what_does_not_move_has_none() -> None:
    with pytest.raises(SpecError, match=r"outputs\.1\.part.*nothing moves"):
        bar().solve()
