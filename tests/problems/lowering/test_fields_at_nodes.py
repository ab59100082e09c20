"""Outputs at nodes: every unknown has its own values there; integrals look only where they are taken."""

from __future__ import annotations

import pytest
import torch

from torch_sla import (
    AnnulusMesh,
    Dirichlet,
    Field,
    Integral,
    Maximum,
    MeshArrays,
    Minimum,
    PoissonProblem,
    Probe,
    RectangleMesh,
    StokesProblem,
)

TWO = MeshArrays(
    points=[[0, 0], [1, 0], [2, 0], [0, 1], [1, 1], [2, 1]],
    cells=[[0, 1, 4, 3], [1, 2, 5, 4]],
    cell="quad",
    cell_tags={"a": [0], "b": [1]},
    facet_tags={"start": [[0, 3]]},
)


def test_a_pressure_of_lower_order_than_the_velocity_has_its_values_at_nodes() -> None:
    flow = StokesProblem(
        mesh=RectangleMesh(cells=(4, 2), size=(2.0, 1.0)),
        boundary=[Dirichlet(["bottom", "top"], 0.0), Dirichlet("left", ["y*(1 - y)", 0.0])],
        outputs=[
            Field("at_nodes", "p", on="nodes"),
            Field("both", "p + u[0]", on="nodes"),
            Maximum("most", "p"),
            Minimum("least", "p"),
        ],
    )
    found = flow.solve()
    p, n = found["p"], flow.mesh_data().n_points
    assert torch.equal(found["at_nodes"], p)
    assert torch.equal(found["both"], p + found.u[:n, 0])
    assert float(found["most"]) == float(p.max())
    assert float(found["least"]) == float(p.min())


@pytest.mark.parametrize("cell", ["triangle", "quad"])
@pytest.mark.parametrize("order", [1, 2])
def test_points_in_the_middle_of_curved_edges_have_values(cell: str, order: int) -> None:
    ring = PoissonProblem(
        mesh=AnnulusMesh(cells=(2, 8), cell=cell, curved=True),
        order=order,
        source=1.0,
        boundary=[Dirichlet("inner", "x")],
        outputs=[Field("twice", "2*u", on="nodes"), Field("slope", "grad(u)", on="nodes")],
    )
    points = ring.mesh_data().points.clone().requires_grad_()
    found = ring.solve(points=points)
    inside = points.detach().norm(dim=1) < 0.9
    there = found.evaluate("2*u", at=points.detach()[inside])
    assert torch.allclose(found["twice"][inside], there, rtol=0, atol=1e-9)
    assert bool(torch.isfinite(found["slope"]).all())
    (moved,) = torch.autograd.grad(found["twice"].square().sum(), points)
    along = torch.sin(7.0 * points.detach())
    step = 1e-4
    ends = [
        float(ring.solve(points=points.detach() + s * step * along)["twice"].square().sum())
        for s in (1, -1)
    ]
    assert float((moved * along).sum()) == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-6)


def test_an_integral_over_some_cells_asks_for_no_value_elsewhere() -> None:
    x = torch.tensor(1.0, dtype=torch.float64)
    body = PoissonProblem(
        mesh=TWO,
        boundary=[Dirichlet("start", 0.0)],
        source=1.0,
        outputs=[
            Integral("root", "sqrt(x - 1)", on="b"),
            Integral("flow", "u", on="b"),
            Probe("end", at=[(2.0, 0.5)]),
        ],
    )
    found = body.solve(points=body.mesh_data().points * x)
    # Two points of Gauss of the root of x on an edge of length 1.
    gauss = [0.5 - 0.5 / 3**0.5, 0.5 + 0.5 / 3**0.5]
    assert float(found["root"]) == pytest.approx(sum(0.5 * g**0.5 for g in gauss), rel=1e-12)
    assert float(found["flow"]) == pytest.approx(0.5 * float(found.u[[1, 2]].sum()), rel=1e-12)
