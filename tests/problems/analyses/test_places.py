"""Analyses know the mesh, and where parameters live, as the problem they are of does."""

from __future__ import annotations

import pytest
import torch

from torch_sla import (
    DesignProblem,
    Dirichlet,
    EigenProblem,
    IntervalMesh,
    LinearProblem,
    Parameter,
    PoissonProblem,
    Problem,
    SweepProblem,
    TransientProblem,
    Variable,
)
from torch_sla.errors import ArgumentError

ROD = PoissonProblem(
    mesh=IntervalMesh(cells=4),
    source=Parameter("f", on="cells"),
    capacity=1.0,
    boundary=[Dirichlet("left", 0.0)],
)
COOLING = TransientProblem(of=ROD, initial=Parameter("first", on="nodes"), end=1.0, steps=2)
SEARCH = DesignProblem(of=ROD, variables=[Variable("f", initial=1.0)], objective="mean(u)")
EVERY = [
    COOLING,
    SEARCH,
    EigenProblem(of=ROD, k=1),
    SweepProblem(of=COOLING, cases=[{"first": 1.0}]),
]


@pytest.mark.parametrize("problem", EVERY, ids=lambda p: p.type)
def test_they_are_those_of_the_problem(problem: Problem) -> None:
    assert torch.equal(problem.mesh_data().points, ROD.mesh_data().points)
    assert torch.equal(problem.sites("f"), ROD.sites("f"))
    if "first" in problem.declared:
        assert torch.equal(problem.sites("first"), ROD.mesh_data().points)
    with pytest.raises(ArgumentError, match="'g' is no parameter"):
        problem.sites("g")


def test_none_is_refused() -> None:
    several = DesignProblem(
        of={"a": ROD, "b": ROD}, variables=[Variable("f", initial=1.0)], objective="mean(a_u)"
    )
    with pytest.raises(ArgumentError, match="a design problem has no mesh of its own; ask one"):
        several.mesh_data()
    alone = LinearProblem(matrix=Parameter("A"), rhs=Parameter("b"))
    with pytest.raises(ArgumentError, match="a linear problem has no mesh"):
        alone.sites("b")
