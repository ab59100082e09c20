"""What is said before a solve is what it does."""

from __future__ import annotations

from typing import Any

import pytest

from torch_sla import (
    Dirichlet,
    HelmholtzProblem,
    PoissonProblem,
    RectangleMesh,
    Robin,
    StokesProblem,
)

MESH = RectangleMesh(cells=(6, 6))
LEFT = Dirichlet("left", 0.0)


def choice(plan: str) -> str:
    return next(line.strip() for line in plan.splitlines() if line.strip().startswith("choice"))


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
