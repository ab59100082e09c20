"""What a periodic condition gives no number for is refused, not zero."""

from __future__ import annotations

import math

import pytest
import torch

from torch_sla import Dirichlet, Flux, Integral, Periodic, PoissonProblem, RectangleMesh
from torch_sla.errors import MeshError, SpecError

MESH = RectangleMesh(cells=(8, 2), cell="quad")
WAVE = "sin(2*pi*x)/(4*pi**2)"
SIDES = [Periodic("right", "left"), Dirichlet(["bottom", "top"], WAVE)]


def test_a_flux_through_periodic_sides_is_an_integral() -> None:
    problem = PoissonProblem(
        mesh=MESH,
        order=2,
        source="sin(2*pi*x)",
        boundary=SIDES,
        outputs=[Integral("through", "-dot(grad(u), normal)", on="right")],
    )
    assert float(problem.solve()["through"]) == pytest.approx(-1 / (2 * math.pi), rel=0.06)
    with pytest.raises(SpecError, match=r"outputs\.0\.on: 'right' holds facets of a periodic"):
        problem.updated(outputs=[Flux("through", "right")]).solve()


def test_a_side_cannot_repeat_itself() -> None:
    boundary = [Periodic("right", ["left", "right"]), Dirichlet("top", 0.0)]
    with pytest.raises(SpecError, match=r"boundary\.0\.to: a facet cannot repeat itself"):
        PoissonProblem(mesh=MESH, boundary=boundary).solve()


def test_moved_sides_stay_copies_of_each_other() -> None:
    problem = PoissonProblem(
        mesh=RectangleMesh(cells=(3, 3)),
        source="sin(2*pi*x)",
        boundary=[Periodic("right", "left"), Dirichlet("bottom", 0.0)],
        outputs=[Integral("mean", "u")],
    )
    points = problem.mesh_data().points.clone()
    inside = (points[:, 0] > 0.1) & (points[:, 0] < 0.9)
    points[inside, 1] *= 0.9
    points[:, 0] *= 1.5
    assert torch.isfinite(problem.solve(points=points)["mean"]).all()
    right = torch.nonzero((points[:, 0] > 1.4) & (points[:, 1] > 0.9))[0]
    points[right, 1] += 0.05
    with pytest.raises(MeshError, match=f"point {int(right)}"):
        problem.solve(points=points)
