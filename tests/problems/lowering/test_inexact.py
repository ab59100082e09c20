"""Inexact Newton: the same solution and gradient with less work in the linear solves."""

from __future__ import annotations

import pytest
import torch

from torch_sla import Dirichlet, DiskMesh, Integral, Newton, Parameter, PoissonProblem, Solver
from torch_sla.errors import SpecError

GRAPH = {"method": "cg", "preconditioner": "multigrid"}


def reacting(newton: Newton, **requests: str) -> PoissonProblem:
    """A cubic reaction on a disk, which is no lattice, so that multigrid goes by aggregation."""
    return PoissonProblem(
        mesh=DiskMesh(cells=12),
        reaction="u**2",
        source=Parameter("s", default=60.0),
        boundary=[Dirichlet("rim", 0.0)],
        outputs=[Integral("total", "u**2")],
        solver=Solver(nonlinear=newton, **requests),
    )


def test_the_same_solution_and_gradient() -> None:
    found = []
    for inexact in (False, True):
        s = torch.tensor(60.0, dtype=torch.float64, requires_grad=True)
        problem = reacting(Newton(inexact=inexact), **GRAPH)
        solution = problem.solve(s=s)
        (g,) = torch.autograd.grad(solution["total"], s)
        found.append((solution["total"].item(), g.item(), solution.info))
    (exact, slope, before), (value, gradient, after) = found
    assert value == pytest.approx(exact, rel=1e-9)
    assert gradient == pytest.approx(slope, rel=1e-8)
    assert after.residual <= 1e-10
    assert after.iterations <= before.iterations + 2


def test_one_hierarchy_serves_the_iterations() -> None:
    info = reacting(Newton(inexact=True), **GRAPH).solve().info
    assert info.iterations >= 3
    assert "1 multigrid set-ups" in info.notes


def test_direct_methods_are_as_they_were() -> None:
    one = reacting(Newton(), backend="native", method="cholesky").solve()["total"]
    two = reacting(Newton(inexact=True), backend="native", method="cholesky").solve()["total"]
    assert torch.equal(one, two)


def test_it_is_yes_or_no() -> None:
    with pytest.raises(SpecError, match="inexact"):
        Newton(inexact=0.1)  # type: ignore[arg-type]
