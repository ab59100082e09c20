"""Objective and constraints of marches and of mode shapes are pulled back through the same steps and solves."""

from __future__ import annotations

import pytest
import torch

from torch_sla import (
    DesignProblem,
    Dirichlet,
    EigenProblem,
    ElasticityProblem,
    Integral,
    Parameter,
    PoissonProblem,
    Probe,
    RectangleMesh,
    TransientProblem,
    Variable,
)
from torch_sla.linalg import SparseTensor, cache_counters
from torch_sla.linalg.adjoint.jacobian import jacobian
from torch_sla.linalg.eigen import complement

GOALS = {
    "objective": "heat[6]",
    "constraints": ["readings[5, 0] <= 0.04", "readings[3, 1] <= 0.05", "material[6] <= 1.2"],
}


def cooled(diffusivity: str = "k", **changes) -> DesignProblem:
    plate = PoissonProblem(
        mesh=RectangleMesh(cells=(5, 4)),
        diffusivity=diffusivity,
        capacity=Parameter("c", default=1.0),
        parameters=[Parameter("k", on="cells", default=1.0)],
        source=1.0,
        boundary=[Dirichlet(on=["left", "right"], value=0.0)],
        outputs=[
            Probe("readings", at=[[0.3, 0.4], [0.6, 0.7]]),
            Integral("heat", "u"),
            Integral("material", "k"),
        ],
    )
    return DesignProblem(
        of=TransientProblem(of=plate, initial=0.02, end=0.1, steps=6, **changes),
        variables=[Variable("k", bounds=(0.2, 5.0)), Variable("c", bounds=(0.5, 2.0))],
        optimizer="mma",
        **GOALS,
    )


def check(problem: DesignProblem, goals: int) -> tuple[int, int]:
    """Compare with differences; return the solves of a point, and those without gradients."""
    oracle = problem.oracle()
    x = oracle.start + 0.1 * torch.sin(torch.arange(len(oracle.start), dtype=torch.float64))
    oracle.begin(x + 0.01)
    values = oracle.unknowns.values(x)
    start = cache_counters()["solve"]
    with torch.no_grad():
        problem.of.solve(**values)
    forward = cache_counters()["solve"]
    found = oracle.value_and_grad(x)
    solves = cache_counters()["solve"] - forward
    step = torch.cos(torch.arange(len(x), dtype=torch.float64))
    above, below = (oracle.value_and_grad(x + h * step) for h in (1e-5, -1e-5))
    slope = torch.cat(
        [torch.tensor([above.value - below.value]), above.constraints - below.constraints]
    )
    rows = torch.cat([found.gradient[None], found.jacobian])
    assert len(rows) == goals
    torch.testing.assert_close(rows @ step, slope / 2e-5, rtol=1e-5, atol=1e-8)
    return solves, forward - start


@pytest.mark.parametrize(
    "changes",
    [{}, {"checkpoints": 2}, {"scheme": "bdf2"}, {"diffusivity": "k*(1 + u**2)"}],
    ids=str,
)
def test_goals_of_a_march_share_its_steps(changes) -> None:
    alone = cooled(**changes)
    alone = alone.updated(constraints=alone.constraints[:1])
    work, _ = check(cooled(**changes), 4)
    # Steps are done again once, and every one of them has one adjoint solve, whatever the number of goals.
    assert work == check(alone, 2)[0]


def test_readings_of_a_march_in_one_pass() -> None:
    problem = cooled().of
    k = torch.linspace(0.8, 1.2, 40, dtype=torch.float64).requires_grad_()
    readings = problem.solve(k=k)["readings"]
    ((rows,),) = jacobian([readings], [k])
    for i in (1, 4):
        (one,) = torch.autograd.grad(readings[i, 1], k, retain_graph=True)
        torch.testing.assert_close(rows[i, 1], one, rtol=1e-10, atol=1e-14)


def test_mode_shapes_share_their_solves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(complement, "_DENSE", 10)
    made: list[int] = []
    solver_of = complement.solver_of
    monkeypatch.setattr(complement, "solver_of", lambda A: (made.append(1), solver_of(A))[1])
    body = ElasticityProblem(
        mesh=RectangleMesh(cells=(5, 2), size=(3.0, 1.0), cell="quad"),
        model="plane_stress",
        young_modulus=Parameter("E", on="cells", default=1.0),
        density=1.0,
        boundary=[Dirichlet("left", 0.0)],
    )
    E = (1 + 0.1 * torch.arange(10, dtype=torch.float64)).requires_grad_()
    found = EigenProblem(of=body, k=2).solve(E=E)
    shapes, w = found.modes, found.eigenvalues
    numbers = [w[0] + w[1] ** 2, shapes[0, -1, 1] ** 2, shapes[1].square()[:3, 0].sum(), w[0]]
    rows = jacobian(numbers, [E])
    assert len(made) == 2  # one factor for each pair
    for number, (row,) in zip(numbers, rows, strict=True):
        (one,) = torch.autograd.grad(number, E, retain_graph=True)
        torch.testing.assert_close(row, one, rtol=1e-8, atol=1e-12)
    # Of both, one factor a pair for each number of the shapes.
    assert len(made) > 4


def test_what_no_eigenpair_allows_is_refused_for_columns_too() -> None:
    d = torch.tensor([1.0, 1.0, 2.0, 3.0], dtype=torch.float64, requires_grad=True)
    w, V = SparseTensor.diag(d).eigsh(2, "SA")
    with pytest.raises(Exception, match="coincide"):
        jacobian([w.sum(), w[0]], [d])
    with pytest.raises(Exception, match="coincide"):
        jacobian([(V[0, 0] * V[1, 0]), w.sum()], [d])
