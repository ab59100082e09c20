"""Designs of problems with several solutions: the search stays on one branch, and says which."""

from __future__ import annotations

import pytest
import torch

from torch_sla import (
    DesignProblem,
    Effort,
    Gaussian,
    Integral,
    IntervalMesh,
    Measured,
    Parameter,
    PoissonProblem,
    Robin,
    Variable,
)
from torch_sla.errors import ArgumentError


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


def snapping(**more: object) -> DesignProblem:
    """u³ - u = q: the branch below 0 ends at q = 0.385, where u is -0.577, and the one above 0 at -0.385."""
    body = PoissonProblem(
        mesh=IntervalMesh(cells=2),
        source="q + u - u**3",
        parameters=[Parameter("q", default=0.0)],
        boundary=[Robin("left", coefficient=1e-9)],
        outputs=[Integral("mean", "u")],
    )
    search = {
        "of": body,
        "variables": [Variable("q", bounds=(-1.0, 3.0), initial=-0.5)],
        "objective": "(mean + 0.7)**2",
        "effort": Effort(warm_start=True),
        "optimizer": {"type": "lbfgs", "max_iterations": 15},
    }
    return DesignProblem(**{**search, **more})


BELOW = torch.full((3,), -1.0, dtype=torch.float64)
BEST = 0.7 - 0.7**3


def test_a_trial_beyond_the_end_of_a_branch_leaves_the_search_on_it() -> None:
    oracle = snapping().oracle()
    oracle.begin(oracle.start)
    oracle.accept(oracle.start)
    near = oracle.start + 0.3
    alone = oracle.value_and_grad(near).value
    assert oracle.value_and_grad(oracle.start + 2.0).value > 1.0  # on the other branch
    assert oracle.value_and_grad(near).value == pytest.approx(alone, rel=1e-9)
    found = snapping().solve()
    assert found.converged
    assert float(found.design["q"]) == pytest.approx(BEST, abs=1e-6)
    assert float(found.solution["mean"]) == pytest.approx(-0.7, abs=1e-6)


@pytest.mark.parametrize("effort", [Effort(), Effort(warm_start=True)], ids=["every", "first"])
def test_a_start_chooses_the_branch(effort: Effort, tmp_path) -> None:
    variables = [Variable("q", bounds=(-0.3, 0.36), initial=0.0)]
    problem = snapping(effort=effort, variables=variables)
    found = problem.solve(start=BELOW, folder=tmp_path / "run")
    assert float(found.design["q"]) == pytest.approx(BEST, abs=1e-6)
    assert float(found.solution["mean"]) == pytest.approx(-0.7, abs=1e-6)
    above = problem.solve(start=-BELOW)
    assert float(above.design["q"]) == pytest.approx(-0.3, abs=1e-6)
    assert float(above.solution["mean"]) > 0.5
    again = problem.solve(start=BELOW, resume=tmp_path / "run")
    assert torch.equal(again.solution.u, found.solution.u)
    with pytest.raises(ArgumentError, match="another run: values"):
        problem.solve(start=-BELOW, resume=tmp_path / "run")
    assert problem.oracle(start=BELOW).value_and_grad(found.unknowns).value < 1e-10
    assert problem.check_gradients(start=BELOW).passed


def test_several_problems_start_each_on_a_branch_of_its_own() -> None:
    body = snapping().of
    problem = snapping(
        of={"low": body, "high": body},
        objective="(low_mean + high_mean)**2",
        variables=[Variable("q", bounds=(-0.3, 0.3), initial=0.1)],
    )
    found = problem.solve(start={"low": BELOW, "high": -BELOW})
    assert float(found.design["q"]) == pytest.approx(0.0, abs=1e-4)
    assert float(found.solution["low"]["mean"]) == pytest.approx(-1.0, abs=1e-3)
    assert float(found.solution["high"]["mean"]) == pytest.approx(1.0, abs=1e-3)
    with pytest.raises(ArgumentError, match=r"mapping by the names of the problems \(low high\)"):
        problem.solve(start=BELOW)
    with pytest.raises(ArgumentError, match="no problem is called 'hihg'"):
        problem.solve(start={"hihg": BELOW})
    with pytest.raises(ArgumentError, match="a search follows one solution"):
        snapping(effort=Effort()).solve(start=torch.stack([BELOW, -BELOW]))


def test_uncertainty_is_that_of_the_branch() -> None:
    problem = snapping(objective="misfit(mean)", data={"mean": Measured([-0.7], noise=0.01)})
    prior = {"q": Gaussian(std=10.0)}
    x = torch.tensor([BEST], dtype=torch.float64)
    spread = problem.laplace(x, start=BELOW, prior=prior).std["q"]
    slope = 3 * 0.7**2 - 1  # dq/du
    assert float(spread) == pytest.approx(0.01 * slope, rel=1e-4)
