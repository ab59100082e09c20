"""Compliance counts every load, also one that sees the solution or follows the body."""

from __future__ import annotations

from typing import Any

import pytest

from torch_sla import (
    Compliance,
    Dirichlet,
    Energy,
    HyperelasticityProblem,
    Neumann,
    PoissonProblem,
    Radiation,
    RectangleMesh,
    Robin,
    Unknown,
    WeakFormProblem,
)
from torch_sla.errors import SpecError

MESH = RectangleMesh(cells=(4, 2), cell="quad")


def compliance(order: int = 2, **laws: Any) -> float:
    boundary = [Dirichlet("left", 0.0), *laws.pop("also", ())]
    problem = PoissonProblem(
        mesh=MESH, order=order, boundary=boundary, outputs=[Compliance("c")], **laws
    )
    return float(problem.solve()["c"])


@pytest.mark.parametrize(
    ("blind", "seeing"),
    [
        ({"source": "1 + x"}, {"source": "1 + x + 0*u"}),
        ({"source": 1.0}, {"source": 1.0, "diffusivity": "1 + 0*u"}),
        ({"also": [Neumann("right", flux="y")]}, {"also": [Neumann("right", flux="y + 0*u")]}),
        ({"also": [Robin("right", 2.0, "y")]}, {"also": [Robin("right", 2.0, "y + 0*u")]}),
        (
            {"source": "x", "advection": [3.0, 1.0], "order": 1},
            {"source": "x + 0*u", "advection": [3.0, 1.0], "order": 1},
        ),
    ],
)
def test_a_law_that_could_see_the_solution_works_as_much(
    blind: dict[str, Any], seeing: dict[str, Any]
) -> None:
    assert compliance(**seeing) == pytest.approx(compliance(**blind), rel=1e-9)


def test_surroundings_that_radiate_do_work() -> None:
    # Flux s (1 - u^4) = u at the right edge of a bar of length 1; the surroundings give s.
    radiating = [Radiation("right", emissivity=0.5, ambient=1.0, constant=2.0)]
    found = compliance(also=radiating)
    assert found == pytest.approx(0.7244919590005156, rel=1e-8)  # root of 1 - u^4 = u


def test_a_pressure_that_follows_does_work() -> None:
    problem = HyperelasticityProblem(
        mesh=MESH,
        constants={"mu": 1.0, "lam": 1.0},
        boundary=[Dirichlet("left", 0.0), Neumann("right", pressure=1e-5)],
        outputs=[Compliance("c"), Energy("e")],
    )
    solution = problem.solve()
    assert float(solution["c"]) == pytest.approx(2.0 * float(solution["e"]), rel=1e-4)


def test_a_weak_form_that_is_not_linear_names_no_loads() -> None:
    with pytest.raises(SpecError, match=r"outputs\.0\.type: .*which terms are loads"):
        WeakFormProblem(
            mesh=MESH,
            unknowns=[Unknown("u", test="v")],
            residual="(dot(grad(u), grad(v)) + u**3*v - v)*dx",
            boundary=[Dirichlet("left", 0.0)],
            outputs=[Compliance("c")],
        )
