"""What is said before a solve is what it does."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from torch_sla import (
    Dirichlet,
    HelmholtzProblem,
    Parameter,
    PoissonProblem,
    RectangleMesh,
    Robin,
    Solver,
    StokesProblem,
    WeakFormProblem,
)

MESH = RectangleMesh(cells=(6, 6))
LEFT = Dirichlet("left", 0.0)


def choice(plan: str) -> str:
    return next(line.strip() for line in plan.splitlines() if line.strip().startswith("choice"))


def otherwise(plan: str) -> dict[str, str]:
    """Return the methods for what the values may make of the matrix."""
    lines = (line.strip() for line in plan.splitlines())
    found = [line.removeprefix("where the values make it ") for line in lines if "make it" in line]
    return {kind: said.split()[-1] for kind, _, said in (text.partition(": ") for text in found)}


@pytest.mark.parametrize(
    "physics",
    [
        {},
        {"advection": (5.0, 1.0)},
        {"reaction": -500.0},
        {"boundary": [LEFT, Robin("right", -30.0)]},
        {"diffusivity": "1 + u**2"},
    ],
    ids=["plain", "advection", "reaction", "exchange", "nonlinear"],
)
def test_explain_chooses_what_the_solve_does(physics: dict[str, Any]) -> None:
    given: dict[str, Any] = {"mesh": MESH, "source": 1.0, "boundary": [LEFT]}
    problem = PoissonProblem(**given | physics)
    told = problem.explain()
    assert choice(told) == choice(str(problem.solve().info.plan))
    assert "zeros on the diagonal" not in told
    assert ("positive definite, float64" in told) == (not physics)


def test_explain_of_waves() -> None:
    waves = HelmholtzProblem(mesh=MESH, wavenumber=3.0, source=1.0, boundary=[LEFT])
    assert choice(waves.explain()) == choice(str(waves.solve().info.plan))
    assert "zeros on the diagonal" not in waves.explain()


def test_a_pressure_has_zeros_on_the_diagonal() -> None:
    walls = [Dirichlet("left", (1.0, 0.0)), Dirichlet(["top", "bottom"], (0.0, 0.0))]
    flow = StokesProblem(mesh=MESH, boundary=walls)
    assert "zeros on the diagonal" in flow.explain()
    assert choice(flow.explain()) == choice(str(flow.solve().info.plan))


K = Parameter("K", shape=(2, 2), default=None)


@pytest.mark.parametrize(
    "diffusivity",
    [
        ((2.0, 0.3), (0.3, 1.0)),
        ((2.0, 0.3), (0.1, 1.0)),
        ((2.0, "0.2 + 0*x"), (0.2, 1.0)),
        K,
    ],
    ids=["mirrored", "unsymmetric", "written otherwise", "a parameter"],
)
def test_explain_of_a_matrix_promises_no_symmetry(diffusivity: Any) -> None:
    problem = PoissonProblem(mesh=MESH, diffusivity=diffusivity, source=1.0, boundary=[LEFT])
    told = problem.explain()
    values = [torch.eye(2), torch.eye(2) + torch.tensor([[0.0, 0.2], [0.0, 0.0]])]
    used = [problem.solve(K=v) for v in values] if diffusivity is K else [problem.solve()]
    for solution in used:
        assert solution.info.method in {choice(told).split()[-1], *otherwise(told).values()}
    # What is written the same on both sides of the diagonal needs no second choice.
    sure = diffusivity == ((2.0, 0.3), (0.3, 1.0))
    assert ("symmetric positive definite" in told.split("plan")[0]) == sure
    assert (otherwise(told) == {}) == sure


@pytest.mark.parametrize(
    ("term", "kind"),
    [("0*u*v", "symmetric positive definite"), ("5*grad(u)[0]*v", "unsymmetric")],
)
def test_explain_of_a_weak_form_says_what_its_values_decide(term: str, kind: str) -> None:
    form = WeakFormProblem(
        mesh=MESH, residual=f"dot(grad(u), grad(v)) + {term} - v", boundary=[LEFT]
    )
    assert otherwise(form.explain())[kind] == form.solve().info.method


def test_a_method_that_cannot_be_for_some_values_is_said_so() -> None:
    form = WeakFormProblem(
        mesh=MESH,
        residual="dot(grad(u), grad(v)) - v",
        boundary=[LEFT],
        solver=Solver(method="cholesky"),
    )
    assert "make it unsymmetric: refused: " in form.explain()
    assert form.solve().info.method == "cholesky"
