"""A parameter that cannot change the answer is an error, not a silent zero."""

from __future__ import annotations

import pytest
import torch

from torch_sla import Dirichlet, Parameter, PoissonProblem, RectangleMesh, Robin
from torch_sla.errors import GradientError, SolveError


def test_a_capacity_does_not_reach_a_steady_solve_but_the_mass() -> None:
    problem = PoissonProblem(
        mesh=RectangleMesh(cells=(3, 3)),
        capacity=Parameter("c", default=1.0),
        source=1.0,
        boundary=[Dirichlet("left", 0.0)],
    )
    c = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    with pytest.raises(GradientError, match="'c'"):
        problem.solve(c=c)
    mass = problem.assemble(c=c).mass
    assert mass.requires_grad


def test_a_value_replaced_everywhere_does_not_reach() -> None:
    problem = PoissonProblem(
        mesh=RectangleMesh(cells=(3, 3)),
        boundary=[Dirichlet("left", Parameter("a", default=1.0)), Dirichlet("left", 2.0)],
    )
    with pytest.raises(GradientError, match="'a'"):
        problem.solve(a=torch.tensor(1.0, dtype=torch.float64, requires_grad=True))


def test_a_robin_coefficient_of_zero_leaves_a_singular_problem() -> None:
    problem = PoissonProblem(
        mesh=RectangleMesh(cells=(6, 5)),
        source="x + y",
        boundary=[Robin("left", coefficient=Parameter("h", default=0.0), ambient=1.0)],
    )
    with pytest.raises(SolveError, match="singular"):
        problem.solve()
