"""Gradients by moved points of what acts on facets, in time: their bases are seen first where nothing is recorded."""

from __future__ import annotations

import pytest
import torch

from torch_sla import (
    Dirichlet,
    HyperelasticityProblem,
    Neumann,
    PoissonProblem,
    Problem,
    Radiation,
    RectangleMesh,
    TransientProblem,
    Unknown,
    WeakFormProblem,
)

MESH = RectangleMesh(cells=(2, 2), cell="quad")
LEFT = Dirichlet("left", 0.0)


def rubber() -> HyperelasticityProblem:
    return HyperelasticityProblem(
        mesh=MESH,
        constants={"mu": 1.3, "lam": 2.0},
        boundary=[LEFT, Neumann("top", pressure=0.1)],
    )


def radiator() -> PoissonProblem:
    return PoissonProblem(
        mesh=MESH,
        boundary=[LEFT, Radiation("top", emissivity="0.9 - x/2", ambient=2.0, constant=1.0)],
    )


def written_out() -> WeakFormProblem:
    return WeakFormProblem(
        mesh=MESH,
        unknowns=[Unknown("u", test="v")],
        residual="dot(grad(u), grad(v)) + (1 + x)*(u**4 - 16)*v*ds('top')",
        boundary=[LEFT],
    )


@pytest.mark.parametrize(
    ("of", "scheme"),
    [
        (rubber(), "newmark"),
        (rubber(), "explicit"),
        (radiator(), "bdf2"),
        (radiator(), "crank_nicolson"),
        (written_out(), "backward_euler"),
    ],
    ids=lambda x: x if isinstance(x, str) else x.type,
)
def test_gradients_by_points_of_what_acts_on_facets(of: Problem, scheme: str) -> None:
    march = TransientProblem(of=of, end=0.1, steps=2, scheme=scheme)
    points = of.mesh_data().points + 0.02 * torch.randn(9, 2, dtype=torch.float64)
    weights = torch.randn_like(march.solve().u)

    def value(x: torch.Tensor) -> torch.Tensor:
        return (march.solve(points=x).u * weights).sum()

    moved = points.requires_grad_()
    (gradient,) = torch.autograd.grad(value(moved), moved)
    along, h = torch.randn_like(points), 1e-5
    with torch.no_grad():
        slope = (value(points + h * along) - value(points - h * along)) / (2 * h)
    assert float((gradient * along).sum()) == pytest.approx(float(slope), rel=1e-5, abs=1e-10)
