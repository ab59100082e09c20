"""Damping proportional to mass and stiffness."""

from __future__ import annotations

import math

import pytest
import torch

from tests.helpers.marches import bar, cooling
from torch_sla import (
    Parameter,
    SpecError,
    TransientProblem,
)


@pytest.mark.parametrize("scheme", ["newmark", "generalized_alpha", "explicit"])
def test_rayleigh_damping_of_a_mode(scheme: str) -> None:
    """A mode of ω decays like exp(-ζ ω t) with ζ = (α/ω + β ω)/2: Bathe, Finite Element Procedures, 9.3.3."""
    from torch_sla import EigenProblem

    modes = EigenProblem(of=bar(), k=6).solve()
    axial = int(modes.effective_mass[:, 0].argmax())
    omega = float(modes.eigenvalues[axial].sqrt())
    alpha, beta = 0.06, 0.0 if scheme == "explicit" else 0.05
    problem = TransientProblem(
        of=bar(),
        initial=["sin(pi*x/8)", 0.0],
        end=12.0,
        steps=400,
        scheme=scheme,
        mass_damping=alpha,
        stiffness_damping=beta,
    )
    zeta = 0.5 * (alpha / omega + beta * omega)
    s = problem.solve()
    damped = omega * math.sqrt(1 - zeta**2)
    decay = torch.exp(-zeta * omega * s.times)
    exact = decay * (
        torch.cos(damped * s.times) + zeta * omega / damped * torch.sin(damped * s.times)
    )
    # Explicit lumps the mass, which moves the frequency a little.
    assert float((s["tip"][:, 0] - exact).abs().max()) < (0.03 if scheme == "explicit" else 0.01)


def test_damped_explicit_steps_are_of_second_order() -> None:
    ends = [
        TransientProblem(
            of=bar(),
            initial=["sin(pi*x/8)", 0.0],
            end=1.0,
            steps=steps,
            times=[1.0],
            scheme="explicit",
            mass_damping=2.0,
        ).solve()["tip"][-1, 0]
        for steps in (10, 20, 40)
    ]
    assert float((ends[0] - ends[1]) / (ends[1] - ends[2])) == pytest.approx(4.0, rel=0.1)


def test_damping_is_differentiable_and_checked() -> None:
    problem = TransientProblem(
        of=bar(),
        initial=["0.1*x", 0.0],
        end=3.0,
        steps=8,
        mass_damping=Parameter("alpha", default=0.1),
        stiffness_damping=Parameter("beta", default=0.1),
    )
    check = problem.check_gradients(
        {"alpha": 0.1, "beta": 0.2}, output=lambda s: s["tip"].square().sum()
    )
    assert check.passed, str(check)
    both = problem.solve(alpha=torch.tensor([0.1, 0.2], dtype=torch.float64))
    assert torch.allclose(both["tip"][1], problem.solve(alpha=0.2)["tip"], atol=1e-12)
    with pytest.raises(SpecError, match=r"mass_damping: damping acts on velocities"):
        cooling(mass_damping=1.0)
    with pytest.raises(SpecError, match=r"stiffness_damping: it would need a solve"):
        problem.updated(scheme="explicit")
    with pytest.raises(SpecError, match=r"mass_damping.*one number for all places"):
        TransientProblem(of=bar(), end=1.0, steps=1, mass_damping="x")
