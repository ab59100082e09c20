"""Values given at single mesh points: supports of beams, a level of pressure."""

from __future__ import annotations

import pytest
import torch

from torch_sla import (
    BoxMesh,
    Dirichlet,
    DiskMesh,
    ElasticityProblem,
    Neumann,
    Parameter,
    PointLoad,
    PoissonProblem,
    Probe,
    RectangleMesh,
    Solver,
    Spring,
    StokesProblem,
    load_problem,
)
from torch_sla.errors import SpecError


def plate(order: int = 1, **changes: object) -> ElasticityProblem:
    """A plate pulled along x, held at three points so that it can do nothing but stretch."""
    return ElasticityProblem(
        **{
            "mesh": RectangleMesh(cells=(3, 2), size=(3.0, 2.0), cell="quad"),
            "order": order,
            "model": "plane_stress",
            "young_modulus": Parameter("E", default=10.0),
            "poisson_ratio": 0.25,
            "boundary": [
                Dirichlet(at=[(0.0, 0.0)], value=0.0),
                Dirichlet(at=[(3.0, 0.0)], value=0.0, component=1),
                Neumann("left", traction=[-1.0, 0.0]),
                Neumann("right", traction=[1.0, 0.0]),
            ],
            "outputs": [Probe("end", at=[(3.0, 2.0)])],
            **changes,
        }
    )


@pytest.mark.parametrize("order", [1, 2])
def test_a_plate_on_three_supports_stretches(order: int, tmp_path) -> None:
    problem = plate(order)
    E = torch.tensor(10.0, dtype=torch.float64, requires_grad=True)
    end = problem.solve(E=E)["end"][0]
    exact = torch.tensor([3.0 / 10.0, -0.25 * 2.0 / 10.0], dtype=torch.float64)
    assert torch.allclose(end, exact, rtol=1e-10)
    (slope,) = torch.autograd.grad(end[0], E)
    assert slope.item() == pytest.approx(-3.0 / 100.0, rel=1e-9)
    problem.to_yaml(tmp_path / "p.yaml")
    again = load_problem(tmp_path / "p.yaml")
    assert again.spec_hash == problem.spec_hash
    assert "1 points" in problem.explain()


def test_a_value_at_a_point_is_differentiable_and_may_vary() -> None:
    problem = PoissonProblem(
        mesh=DiskMesh(cells=4, curved=True),
        boundary=[Dirichlet("rim", "x"), Dirichlet(at=[(0.0, 0.0)], value=Parameter("c"))],
        outputs=[Probe("middle", at=[(0.0, 0.0)])],
    )
    for value in (0.5, -2.0):
        c = torch.tensor(value, dtype=torch.float64, requires_grad=True)
        middle = problem.solve(c=c)["middle"].sum()
        assert middle.item() == pytest.approx(value, abs=1e-12)
        assert torch.autograd.grad(middle, c)[0].item() == pytest.approx(1.0, abs=1e-12)


def test_a_level_of_pressure() -> None:
    flow = StokesProblem(
        mesh=RectangleMesh(cells=(4, 4), cell="quad"),
        order=2,
        viscosity=1.0,
        body_force=["0", "1"],
        boundary=[
            Dirichlet(["left", "right", "bottom", "top"], 0.0, unknown="u"),
            Dirichlet(at=[(0.0, 0.0)], value=3.0, unknown="p"),
        ],
        outputs=[Probe("above", at=[(0.5, 1.0)], quantity="p")],
    )
    assert flow.solve()["above"].item() == pytest.approx(4.0, rel=1e-8)


def test_what_is_no_mesh_point_is_refused() -> None:
    mesh = BoxMesh(cells=(2, 2, 2))
    for at, message in (
        ([(0.1, 0.0, 0.0)], r"the nearest one is \(0.0, 0.0, 0.0\)"),
        ([(0.0, 0.0)], "2 coordinates; this mesh has 3"),
    ):
        with pytest.raises(SpecError, match=message) as caught:
            PoissonProblem(mesh=mesh, boundary=[Dirichlet(at=at, value=0.0)]).solve()
        assert caught.value.path == "boundary.0.at.0"
    with pytest.raises(SpecError, match="exactly one of on"):
        Dirichlet("left", 0.0, at=[(0.0, 0.0, 0.0)])
    with pytest.raises(SpecError, match="exactly one of on"):
        Dirichlet(value=0.0)


@pytest.mark.parametrize("end", [0.7, 1 / 3])
def test_places_on_the_surface_are_found_in_single_precision(end: float) -> None:
    body = ElasticityProblem(
        mesh=RectangleMesh(cells=(3, 2), size=(end, end)),
        model="plane_strain",
        boundary=[
            Dirichlet(at=[(0.0, 0.0)], value=0.0),
            Spring(at=[(end, end), (end, 0.0)], stiffness=1.0),
            PointLoad(at=[(end, end)], value=[0.1, 0.0]),
        ],
        outputs=[Probe("end", at=[(end, end), (end, end / 3)])],
        solver=Solver(dtype="float32"),
    )
    exact = body.updated(solver=Solver()).solve()["end"]
    torch.testing.assert_close(body.solve()["end"].double(), exact, rtol=1e-4, atol=1e-6)
