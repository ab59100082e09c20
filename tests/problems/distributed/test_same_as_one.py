"""Problems in parts against the same problems whole: solutions, outputs and gradients to 1e-10."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import pytest
import torch

import torch_sla as sla
from tests.helpers.shared_problems import CASES, Found, on_ranks, problem_of, solved
from torch_sla.errors import ArgumentError
from torch_sla.problems.distributed.problem import distribute

if TYPE_CHECKING:
    from torch import Tensor

    from tests.helpers.ranks import Ranks


@cache
def whole(case: str) -> Found:
    return solved(*problem_of(case))


def close(found: Tensor, wanted: Tensor, name: str) -> None:
    assert found.shape == wanted.shape, name
    scale = max(float(wanted.abs().max()), 1e-6)
    assert float((found - wanted).abs().max()) <= 1e-10 * scale, name


def same(found: Found, wanted: Found) -> None:
    close(found.u, wanted.u, "u")
    close(found.loss, wanted.loss, "loss")
    assert found.outputs.keys() == wanted.outputs.keys()
    for name, value in wanted.outputs.items():
        close(found.outputs[name], value, name)
    assert found.gradients.keys() == wanted.gradients.keys()
    for name, value in wanted.gradients.items():
        close(found.gradients[name], value, f"gradient of {name}")


@pytest.mark.parametrize("parts", [3, 7])
@pytest.mark.parametrize("case", CASES)
def test_parts_in_one_process(case: str, parts: int) -> None:
    problem, values = problem_of(case)
    same(solved(distribute(problem, parts), values), whole(case))


@pytest.mark.parametrize("case", ["corner", "learned"])
def test_parts_of_a_problem_that_asks_for_a_quadrature(case: str) -> None:
    problem, values = problem_of(case)
    fine = problem.updated(quadrature_degree=7)
    wanted = solved(fine, values)
    same(solved(distribute(fine, 3), values), wanted)
    assert float((wanted.loss - whole(case).loss).abs()) > 1e-9 * float(wanted.loss.abs())


@pytest.mark.parametrize("measure", ["ds('x > 0.9')", "ds('x > 0.4')", "ds('y > 0.2')"])
def test_measures_of_weak_forms_are_chosen_on_the_whole(measure: str) -> None:
    problem = sla.WeakFormProblem(
        mesh=sla.RectangleMesh(cells=(6, 4)),
        unknowns=[sla.Unknown("u", test="v")],
        residual=f"dot(grad(u), grad(v)) - v*{measure}",
        boundary=[sla.Dirichlet("left", 0.0)],
        outputs=[sla.Integral("mean", "u")],
    )
    mean = distribute(problem, 3).solve()["mean"]
    close(mean, problem.solve()["mean"], "mean")
    if measure == "ds('x > 0.9')":
        assert float(mean) == pytest.approx(0.5)  # of u = x


@pytest.mark.distributed
@pytest.mark.parametrize(
    ("case", "size"),
    [
        ("disk", 1),
        ("disk", 2),
        ("disk", 3),
        ("disk", 4),
        ("disk", 7),
        ("bracket", 3),
        ("corner", 4),
        ("stream", 2),
        ("learned", 2),
        ("two_materials", 4),
        ("bar", 7),
        ("strip", 4),
        ("strip", 7),
        ("two_materials", 7),
        ("rolled", 4),
        ("sleeve", 3),
        ("pinned", 4),
        ("bent", 3),
        ("waves", 3),
        ("ripple", 3),
        ("lossy", 2),
        ("pair", 3),
        ("links", 3),
        ("coupled", 2),
        ("system", 3),
        ("drums", 2),
        ("reaction", 4),
        ("cases", 2),
        ("channel", 1),
        ("channel", 2),
        ("channel", 3),
        ("cavity", 4),
        ("ring", 3),
        ("box", 2),
        ("basin", 3),
        ("drop", 7),
    ],
)
def test_processes(ranks: Ranks, case: str, size: int) -> None:
    for found in ranks.run(size, on_ranks, case):
        same(found, whole(case))


def test_parts_without_loaded_facets_have_no_thickness_to_check() -> None:
    plate = sla.ElasticityProblem(
        mesh=sla.RectangleMesh(cells=(6, 2), size=(3.0, 1.0)),
        model="plane_stress",
        thickness=sla.Parameter("thick", on="nodes"),
        boundary=[
            sla.Dirichlet("left", 0.0),
            sla.Neumann("right", traction=(0.1, 0.2)),
            sla.Spring("right", stiffness=0.3),
        ],
        outputs=[sla.Probe("stress", at=[(0.2, 0.3)], quantity="stress"), sla.Compliance("work")],
        solver=sla.Solver(rtol=1e-13),
    )
    values = {"thick": torch.linspace(0.5, 1.5, 21, dtype=torch.float64)}
    same(solved(distribute(plate, 4), values), solved(plate, values))
    with pytest.raises(ArgumentError, match="thickness must be positive"):
        distribute(plate, 4).solve(thick=-values["thick"])
