"""Periodic sides: what they give no number for is refused, not zero; values may be given on either."""

from __future__ import annotations

import math

import pytest
import torch

from torch_sla import (
    BoxMesh,
    Dirichlet,
    ElasticityProblem,
    Flux,
    Integral,
    MeshArrays,
    Parameter,
    Periodic,
    PoissonProblem,
    Reaction,
    RectangleMesh,
    Solver,
    clear_cache,
    distribute,
)
from torch_sla.errors import ArgumentError, GradientError, MeshError, SpecError

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


def _column(points, mesh) -> PoissonProblem:
    return PoissonProblem(
        mesh=MeshArrays(
            points=points.tolist(),
            cells=mesh.cells.tolist(),
            cell="hexahedron",
            facet_tags={n: mesh.facets[mesh.facet_tags[n]].tolist() for n in ("bottom", "top")},
        ),
        source="x*y + x",
        boundary=[Periodic("top", "bottom"), Dirichlet(at=[tuple(points[0].tolist())], value=0.0)],
        outputs=[Integral("mean", "u")],
    )


def test_sides_are_matched_on_the_coordinates_of_each_problem() -> None:
    # Straight, twisted by a quarter turn (other nodes repeat each other), and with a top that fits no longer.
    declared = PoissonProblem(mesh=BoxMesh(cells=(2, 2, 3), cell="hexahedron"))
    mesh = declared.mesh_data()
    straight = mesh.points - torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64)
    x, y, z = straight.unbind(1)
    turn = z * math.pi / 2
    twisted = torch.stack([turn.cos() * x - turn.sin() * y, turn.sin() * x + turn.cos() * y, z], 1)
    torn = straight + 0.1 * (straight[:, :1] == 0) * (z[:, None] == 1)
    clear_cache()
    alone = float(_column(twisted, mesh).solve()["mean"])
    clear_cache()
    _column(straight, mesh).solve()
    assert float(_column(twisted, mesh).solve()["mean"]) == pytest.approx(alone, rel=1e-9)
    with pytest.raises(SpecError, match=r"^boundary\.\d\.to: the node at .* has no partner"):
        _column(torn, mesh).solve()


def _held(*sides: Dirichlet) -> PoissonProblem:
    return PoissonProblem(
        mesh=MESH,
        source="x + y",
        parameters=[Parameter("g")],
        boundary=[Periodic("right", "left"), *sides],
    )


@pytest.mark.parametrize("parts", [None, 3])
def test_a_value_on_either_side_holds_on_both(parts: int | None) -> None:
    found = []
    for sides in (["left"], ["right"], ["left", "right"]):
        g = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
        problem = _held(*(Dirichlet(side, "g*y") for side in sides))
        solved = (problem if parts is None else distribute(problem, parts)).solve(g=g)
        u = solved.u if parts is None else solved.whole("u")
        (slope,) = torch.autograd.grad((u**3).sum(), g)
        found.append((u.detach(), slope))
    for u, slope in found[1:]:
        torch.testing.assert_close(u, found[0][0], rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(slope, found[0][1], rtol=1e-8, atol=1e-10)
    points = _held(Dirichlet("left", 0.0)).mesh_data().points
    side = points[:, 0] > 1 - 1e-9
    torch.testing.assert_close(found[0][0][side], 0.3 * points[side, 1])


@pytest.mark.parametrize("parts", [None, 3])
@pytest.mark.parametrize("order", [1, 2])
def test_what_holds_one_side_bears_the_load_of_both(parts: int | None, order: int) -> None:
    for sides in (["left"], ["right"], ["left", "right"]):
        plate = PoissonProblem(
            mesh=RectangleMesh(cells=(6, 4)),
            order=order,
            source="1 + x*y",
            boundary=[Periodic("right", "left"), Dirichlet(sides, 0.3)],
            outputs=[Reaction("held", sides), Reaction("all", ["left", "right"])],
        )
        body = ElasticityProblem(
            mesh=RectangleMesh(cells=(6, 4), cell="quad"),
            order=order,
            model="plane_strain",
            body_force=["1 + x*y", "x"],
            boundary=[
                Periodic("top", "bottom"),
                Dirichlet(["left" if side == "left" else "top" for side in sides], 0.0),
                Dirichlet("bottom", 0.0, component=1),
            ],
            outputs=[Reaction("all", ["left", "top", "bottom"])],
        )
        for problem, load in ((plate, -1.25), (body, [-1.25, -0.5])):
            solved = (problem if parts is None else distribute(problem, parts)).solve()
            expected = torch.tensor(load, dtype=torch.float64)
            for value in solved.outputs.values():
                torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("parts", [None, 2])
def test_values_that_differ_on_periodic_sides_are_an_error(parts: int | None) -> None:
    problem = PoissonProblem(
        mesh=MESH,
        boundary=[Periodic("right", "left"), Dirichlet("left", 0.3), Dirichlet("right", 0.1)],
    )
    with pytest.raises(ArgumentError, match=r"boundary: values given at nodes .* differ by 0\.2"):
        (problem if parts is None else distribute(problem, parts)).solve()


@pytest.mark.parametrize("parts", [None, 2])
def test_values_that_differ_by_rounding_are_the_same_in_single_precision(parts: int | None) -> None:
    problem = PoissonProblem(
        mesh=MESH,
        source="sin(2*pi*x)",
        boundary=SIDES,
        outputs=[Integral("size", "u**2")],
        solver=Solver(dtype="float32"),
    )
    found = (problem if parts is None else distribute(problem, parts)).solve()["size"]
    exact = problem.updated(solver=Solver()).solve()["size"]
    assert float(found) == pytest.approx(float(exact), rel=1e-4)


def test_the_later_of_two_values_holds() -> None:
    problem = PoissonProblem(
        mesh=MESH,
        parameters=[Parameter("g")],
        boundary=[Dirichlet(["left", "right"], "g"), Dirichlet("left", 2.0)],
    )
    g = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    u, x = problem.solve(g=g).u, problem.mesh_data().points[:, 0]
    torch.testing.assert_close(u.detach(), 2.0 - x)
    hidden = problem.updated(boundary=[Dirichlet("left", "g"), Dirichlet(["left", "right"], 2.0)])
    with pytest.raises(GradientError, match="'g' requires grad, but no law and no output uses it"):
        hidden.solve(g=g)


def _cracked(columns: int) -> MeshArrays:
    """Two bodies of one row of squares, one on the other, whose nodes between them coincide."""
    points: list[list[float]] = []
    cells: list[list[int]] = []
    for low in (0.0, 0.5):
        first = len(points)
        points += [[i / columns, y] for y in (low, low + 0.5) for i in range(columns + 1)]
        above = first + columns + 1
        cells += [[first + i, first + i + 1, above + i + 1, above + i] for i in range(columns)]
    return MeshArrays(points=points, cells=cells, cell="quad", duplicate_nodes="allow")


@pytest.mark.parametrize("order", [1, 2])
def test_a_crack_through_periodic_sides_stays_open(order: int) -> None:
    ends = [Dirichlet("y < 1e-9", 1.0), Dirichlet("y > 1 - 1e-9", 0.0)]
    for on, to in (("x < 1e-9", "x > 1 - 1e-9"), ("x > 1 - 1e-9", "x < 1e-9")):
        problem = PoissonProblem(
            mesh=_cracked(3),
            order=order,
            boundary=[*ends, Periodic(on, to)],
        )
        u = problem.solve().u
        assert torch.allclose(u * (1 - u), torch.zeros_like(u), atol=1e-12)
        assert float(u.sum()) == pytest.approx(u.numel() / 2)


def test_a_finer_side_is_refused_whichever_is_named_first() -> None:
    mesh = MeshArrays(
        points=[[0, 0], [0, 0.5], [0, 1], [1, 0], [1, 0.25], [1, 0.5], [1, 0.75], [1, 1]],
        cells=[[0, 3, 4], [0, 4, 1], [4, 5, 1], [1, 5, 6], [1, 6, 2], [6, 7, 2]],
        cell="triangle",
    )
    for sides in (("x < 1e-9", "x > 1 - 1e-9"), ("x > 1 - 1e-9", "x < 1e-9")):
        problem = PoissonProblem(mesh=mesh, boundary=[Dirichlet("y < 1e-9", 0.0), Periodic(*sides)])
        with pytest.raises(
            SpecError, match=r"^boundary\.1\.to: the node at \[1\.0, 0\.25\].*need matching meshes"
        ):
            problem.solve()
