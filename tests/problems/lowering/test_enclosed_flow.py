"""A flow with given velocities all around lets out what it lets in."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import torch

from torch_sla import (
    Dirichlet,
    Integral,
    MeshArrays,
    Periodic,
    Reaction,
    RectangleMesh,
    StokesProblem,
)
from torch_sla.errors import MeshError, SpecError
from torch_sla.problems.distributed.problem import distribute

if TYPE_CHECKING:
    from tests.helpers.ranks import Ranks
    from torch_sla.problems.specs.mesh import MeshSpec

MESH = RectangleMesh(cells=(4, 4))


def cavity(inflow: str, outflow: str) -> StokesProblem:
    return StokesProblem(
        mesh=MESH,
        boundary=[
            Dirichlet(["bottom", "top"], 0.0),
            Dirichlet("left", [inflow, 0.0]),
            Dirichlet("right", [outflow, 0.0]),
        ],
        outputs=[Integral("net", "div(u)")],
    )


def test_what_enters_and_cannot_leave_is_refused() -> None:
    with pytest.raises(SpecError, match=r"boundary: .*-0\.166667 more leaves"):
        cavity("y*(1 - y)", "0").solve()


def test_a_level_of_pressure_lets_nothing_out() -> None:
    flow = cavity("y*(1 - y)", "0")
    level = Dirichlet(at=[(0.0, 0.0)], value=0.0, unknown="p")
    with pytest.raises(SpecError, match=r"boundary: .*-0\.166667 more leaves"):
        flow.updated(boundary=[*flow.boundary, level]).solve()


def test_the_pressure_on_a_side_is_a_traction() -> None:
    with pytest.raises(SpecError, match=r"boundary\.1\.on: .*neumann with pressure"):
        StokesProblem(
            mesh=MESH,
            boundary=[Dirichlet(["bottom", "top"], 0.0), Dirichlet("left", 1.0, unknown="p")],
        )


def test_what_enters_and_leaves_is_solved() -> None:
    net = cavity("y*(1 - y)", "y*(1 - y)").solve()["net"]
    assert abs(float(net)) < 1e-12
    cavity("0", "0").solve()


def test_a_given_pressure_has_no_reaction() -> None:
    flow = StokesProblem(
        mesh=MESH,
        boundary=[
            Dirichlet(["bottom", "top"], 0.0),
            Periodic("right", "left"),
            Dirichlet(at=[(1.0, 0.5)], value=2.0, unknown="p"),
        ],
        outputs=[Reaction("r", "right")],
    )
    with pytest.raises(SpecError, match=r"outputs\.0\.on: no Dirichlet condition holds 'u'"):
        flow.solve()


def test_a_level_where_none_is_open_is_refused() -> None:
    walls = [Dirichlet("left", ["y*(1 - y)", "0"]), Dirichlet(["bottom", "top"], 0.0)]
    level = Dirichlet(at=[(0.5, 0.5)], value=3.0, unknown="p")
    flow = StokesProblem(mesh=MESH, boundary=[*walls, level])
    several = cavity("0", "0")
    corners = Dirichlet(at=[(0.0, 0.0), (1.0, 1.0)], value=0.0, unknown="p")
    several = several.updated(boundary=[*several.boundary, corners])
    for problem, words in ((flow, r"boundary\.2: .*not given all around"), (several, "one level")):
        for parts in (None, 2):
            with pytest.raises(SpecError, match=f"{words}.*a source or a sink"):
                (problem if parts is None else distribute(problem, parts=parts)).solve()


@pytest.mark.parametrize("walls", [["left", "right", "bottom", "top"], ["bottom", "top"]])
@pytest.mark.parametrize("force", [["0", "-1"], ["y", "x*y"]])
def test_walls_at_rest_balance(walls: list[str], force: list[str]) -> None:
    ties = [] if len(walls) == 4 else [Periodic("right", "left")]
    boundary = [Dirichlet(walls, 0.0), *ties]
    flow = StokesProblem(mesh=MESH, body_force=force, boundary=boundary)
    assert float(flow.solve().u.abs().max()) < 0.1


SLIP = [
    Dirichlet(["left", "right"], 0.0, component=0),
    Dirichlet(["bottom", "top"], 0.0, component=1),
]


@pytest.mark.parametrize(
    "boundary",
    [
        SLIP[:1],  # free to move along y
        [Dirichlet(at=[(0.0, 0.0)], value=0.0)],  # free to turn
        [Periodic("right", "left"), SLIP[1]],  # free to move along x
    ],
)
def test_a_rigid_motion_that_is_left_is_refused(boundary: list[Any]) -> None:
    flow = StokesProblem(mesh=MESH, boundary=boundary)
    for solve in (flow.solve, lambda: distribute(flow, parts=2).solve()):
        with pytest.raises(
            SpecError, match=r"boundary: nothing holds the fluid .*components count"
        ):
            solve()


def test_walls_that_only_stop_what_crosses_them_leave_a_level_of_pressure() -> None:
    errors = []
    for n in (4, 8):
        flow = StokesProblem(
            mesh=RectangleMesh(cells=(n, n)),
            body_force=["pi**3*sin(pi*x)*cos(pi*y)", "0"],
            boundary=SLIP,
            outputs=[
                Integral("speed", "dot(u, u)"),
                Integral("mean", "p"),
                Integral("square", "p*p"),
            ],
        )
        for found in (flow.solve(), distribute(flow, parts=2).solve()):
            assert abs(float(found["mean"])) < 1e-9
            exact = (math.pi**2 / 32, math.pi**4 / 16)
            errors.append(
                [abs(float(found[k]) - e) for k, e in zip(("speed", "square"), exact, strict=True)]
            )
    for coarse, fine in zip(errors[0] + errors[1], errors[2] + errors[3], strict=True):
        assert fine < coarse / 10


def sliding(mesh: MeshSpec, viscosity: float = 1e13) -> StokesProblem:
    """A fluid between walls along which it slides."""
    return StokesProblem(
        mesh=mesh,
        viscosity=viscosity,
        body_force=["9e3*y", "-1e4*x*x"],
        boundary=[
            Dirichlet(["left", "right"], 0.0, component=0),
            Dirichlet(["bottom", "top"], 0.0, component=1),
        ],
        outputs=[Integral("p_mean", "p")],
    )


def tilted() -> tuple[torch.Tensor, MeshArrays]:
    """Coordinates on which the walls are not along the axes, and the mesh that has them."""
    mesh = sliding(MESH).mesh_data()
    x, y = mesh.points.unbind(-1)
    points = torch.stack([x + 0.05 * x * y, y + 0.04 * x * x * y], -1)
    tags = {name: mesh.facets[facets].numpy() for name, facets in mesh.facet_tags.items()}
    cells = mesh.cells.numpy()
    return points, MeshArrays(points=points.numpy(), cells=cells, cell="triangle", facet_tags=tags)


@pytest.mark.parametrize("viscosity", [1.0, 1e13])  # of much the matrix hardly sees the pressure
def test_walls_that_tilt_give_the_pressure_a_level(viscosity: float) -> None:
    points, mesh = tilted()
    level = float(sliding(mesh, viscosity).solve()["p_mean"])
    assert abs(level) > 1e3  # not the mean zero of an enclosed flow
    with pytest.raises(MeshError, match=r"points: .* all around on the declared mesh, .* declare"):
        sliding(MESH, viscosity).solve(points=points)


def test_a_level_that_is_given_makes_no_source_of_its_node() -> None:
    """On walls that tilt the pressure has a level of its own, and one more is a hole in the fluid."""
    points, _ = tilted()
    pinned = sliding(MESH, 1.0)
    corner = Dirichlet(at=[(0.0, 0.0)], value=5e4, unknown="p")
    pinned = pinned.updated(boundary=[*pinned.boundary, corner])
    with pytest.raises(MeshError, match=r"points: .* all around on the declared mesh, .* declare"):
        pinned.solve(points=points)


@pytest.mark.parametrize("parts", [1, 3])
def test_walls_in_parts_slide_along_themselves(parts: int) -> None:
    problem = sliding(MESH, 1.0).updated(
        outputs=[Integral("square", "dot(u, u)"), Integral("push", "p**2")]
    )
    x, y = problem.mesh_data().points.unbind(-1)
    moved = torch.stack([x + 0.3 * x * (1 - x) * y, y + 0.2 * y * (1 - y) * x], -1)
    found = []
    for solve in (problem.solve, distribute(problem, parts).solve):
        points = moved.clone().requires_grad_()
        solution = solve(points=points)
        (solution["square"] / 1e4 + solution["push"] / 1e6).backward()
        found.append((solution["square"].detach(), solution["push"].detach(), points.grad))
    for one, shared in zip(*found, strict=True):
        assert torch.allclose(one, shared, rtol=1e-7, atol=1e-9 * float(one.abs().max()))


@pytest.mark.parametrize("parts", [1, 3])
def test_walls_in_parts_do_not_tilt(parts: int) -> None:
    points, mesh = tilted()
    straight = sliding(MESH).mesh_data().points
    right = torch.where(straight[:, :1] > 0.9, points, straight)  # of which one part sees nothing
    for moved in (points, right):
        with pytest.raises(MeshError, match=r"points: .* all around on the declared mesh, .* decl"):
            distribute(sliding(MESH), parts).solve(points=moved)
    with pytest.raises(MeshError, match=r"points: .* all around on these coordinates, .* declare"):
        distribute(sliding(mesh), parts).solve(points=straight)


def tilting(group: Any) -> str:
    points, _ = tilted()
    straight = sliding(MESH).mesh_data().points
    moved = torch.where(straight[:, :1] > 0.9, points, straight)
    try:
        return str(distribute(sliding(MESH), group=group).solve(points=moved))
    except MeshError as error:
        return str(error)


@pytest.mark.distributed
def test_a_wall_that_tilts_on_one_process_is_refused_on_all(ranks: Ranks) -> None:
    for said in ranks.run(3, tilting):
        assert "points: the velocity through the boundary" in said


def test_walls_that_straighten_leave_the_pressure_open() -> None:
    _, mesh = tilted()
    straight = sliding(MESH).mesh_data().points
    with pytest.raises(MeshError, match=r"points: .* all around on these coordinates, .* declare"):
        sliding(mesh).solve(points=straight)


def test_walls_may_move_along_themselves() -> None:
    flow = sliding(MESH)
    points = flow.mesh_data().points
    points = torch.stack([points[:, 0] ** 2 + points[:, 0], points[:, 1]], -1)
    assert abs(float(flow.solve(points=points)["p_mean"])) < 1e-6
