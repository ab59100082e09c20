"""Marches that fail on the way: what is told, and what is left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from tests.helpers.marches import bar, cooling, rod
from torch_sla import (
    Adaptive,
    Dirichlet,
    HyperelasticityProblem,
    Integral,
    Maximum,
    Neumann,
    Probe,
    RectangleMesh,
    SpecError,
    TransientProblem,
)
from torch_sla.errors import Result, SolveError

if TYPE_CHECKING:
    from pathlib import Path


def test_what_fails_on_the_way_is_told() -> None:
    rubber = HyperelasticityProblem(
        mesh=RectangleMesh(cells=(2, 1), size=(2.0, 1.0)),
        law="neo_hookean",
        constants={"young_modulus": 1.0, "poisson_ratio": 0.3},
        boundary=[Dirichlet("left", 0.0), Neumann("right", traction=["-1e6*(t > 2.5)", 0.0])],
        outputs=[Maximum("most", "abs(u[0])")],
    )
    problem = TransientProblem(of=rubber, end=4.0, steps=4)
    with pytest.raises(SolveError, match=r"step to t = 3"):
        problem.solve()
    s = problem.solve(throw=False)
    assert not s.info.converged
    assert s.info.result is not Result.CONVERGED
    assert s.times.tolist() == [0.0, 1.0, 2.0]
    assert s["most"].shape == (3,)
    assert "failed after t = 2" in " ".join(s.info.notes)
    # What lies ahead of a body that shrinks so fast is turned inside out.
    falling = problem.updated(initial_velocity=["-2*x", 0.0], end=1.0, steps=1)
    with pytest.raises(SolveError, match=r"nonfinite: .*step to t = 1"):
        falling.solve()
    assert falling.solve(throw=False).times.tolist() == [0.0]
    with pytest.raises(
        SolveError, match=r"step: .*above the tolerance after 3 halvings.*adaptive.rtol"
    ):
        cooling(adaptive=Adaptive(rtol=1e-9, halvings=3)).solve()
    with pytest.raises(SpecError, match=r"adaptive.*bound by what is stable"):
        TransientProblem(of=bar(), end=1.0, steps=9, scheme="explicit", adaptive=Adaptive())


@pytest.mark.parametrize("scheme", ["backward_euler", "crank_nicolson", "bdf2"])
def test_what_fails_between_equal_steps_ends_at_the_last_of_them(scheme: str) -> None:
    side = "where(t < 0.35, 0, 1e3*(t - 0.35)*sin(200*t))"
    wall = rod(source=1.0, boundary=[Dirichlet("left", side)], outputs=[Integral("m", "u**2")])
    problem = TransientProblem(
        of=wall, end=1.0, steps=4, scheme=scheme, adaptive=Adaptive(halvings=7), save=["u"]
    )
    k = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    s = problem.solve(k=k, throw=False)
    assert s.info.result is Result.STEP
    assert s.times.tolist() == [0.0, 0.25]
    assert s.step_times[-1] == 0.25
    assert "failed after t = 0.25" in " ".join(s.info.notes)
    assert torch.equal(s.history["u"][-1], s.u)
    (slope,) = torch.autograd.grad(s.u.square().sum(), k)
    early = problem.updated(end=0.25, steps=1).solve(k=k)
    assert torch.equal(s.step_times, early.step_times)
    assert torch.allclose(slope, torch.autograd.grad(early.u.square().sum(), k)[0], rtol=1e-9)


def test_what_fails_before_the_first_time_that_is_asked_for_has_no_rows(tmp_path: Path) -> None:
    hot = rod(source="1e3*exp(30*u)", outputs=[Integral("m", "u"), Probe("p", at=[(0.2,), (0.5,)])])
    problem = TransientProblem(of=hot, end=2.0, steps=4, times=[1.0, 2.0], save=["u"])
    s = problem.solve(throw=False)
    assert not s.info.converged
    assert s["m"].shape == (0,)
    assert s["p"].shape == (0, 2)
    assert s.history["u"].shape == (0, 65)
    for ending in ("csv", "json", "npz"):
        s.save(tmp_path / f"s.{ending}")
    assert problem.solve(k=torch.tensor([1.0, 2.0]), throw=False)["p"].shape == (2, 0, 2)
