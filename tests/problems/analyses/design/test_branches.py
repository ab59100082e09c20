"""Designs of problems with several solutions: the search stays on one branch, and says which."""

from __future__ import annotations

import torch

from torch_sla import (
    DesignProblem,
    Effort,
    Integral,
    IntervalMesh,
    Parameter,
    PoissonProblem,
    Robin,
    Variable,
)


def followed(**more: object) -> DesignProblem:
    """0.3 + a u = u³, whose solution grows from 0.57 at a = -0.2; at 0.94 Newton's method from 0 finds another."""
    body = PoissonProblem(
        mesh=IntervalMesh(cells=2),
        source="0.3 + a*u - u**3",
        parameters=[Parameter("a", default=-0.2)],
        boundary=[Robin("left", coefficient=1e-9)],
        outputs=[Integral("mean", "u")],
    )
    return DesignProblem(
        of=body,
        variables=[Variable("a", bounds=(-0.2, 1.0), initial=-0.2)],
        objective="(mean - 1.1)**2",
        effort=Effort(warm_start=True),
        optimizer={"type": "lbfgs", "max_iterations": 12},
        **more,
    )


def test_the_solution_is_the_one_that_was_optimised(tmp_path) -> None:
    problem = followed()
    found = problem.solve(folder=tmp_path / "run")
    exact = (1.1**3 - 0.3) / 1.1
    assert abs(float(found.design["a"]) - exact) < 1e-5
    assert abs(float(found.solution["mean"]) - 1.1) < 1e-5
    assert float(problem.of.solve(a=exact)["mean"]) < 0
    again = problem.solve(resume=tmp_path / "run")
    assert torch.equal(again.solution.u, found.solution.u)


def test_a_further_stage_stays_on_the_branch() -> None:
    found = followed(stages=[{"objective": "(mean - 1.11)**2"}]).solve()
    assert abs(float(found.design["a"]) - (1.11**3 - 0.3) / 1.11) < 1e-5
    assert abs(float(found.solution["mean"]) - 1.11) < 1e-5
