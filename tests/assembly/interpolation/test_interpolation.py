from __future__ import annotations

import pytest
import torch

import torch_sla.assembly as fem
from torch_sla.assembly.interpolation import locate
from torch_sla.errors import ArgumentError, MeshError

CELLS = ("line", "triangle", "quad", "tetra", "hexahedron")


def quadratic(x):
    return (x * (1.5 - x)).sum(-1) + x.prod(-1) * (x.shape[-1] == 2)


@pytest.mark.parametrize("cell", CELLS)
def test_fields_of_the_space_are_evaluated_exactly(tools, cell, generator):
    mesh = tools.distorted(cell, 4)
    slope = torch.arange(1.0, mesh.dim + 1, dtype=torch.float64)
    at = torch.rand(60, mesh.dim, generator=generator, dtype=torch.float64)
    for order in (1, 2):
        dofs = fem.Dofs(mesh, fem.lagrange(cell, order))
        probe = fem.Interpolation(mesh, dofs.element, at, dofs=dofs)
        u = dofs.points() @ slope
        torch.testing.assert_close(probe.value(u), at @ slope, rtol=0, atol=1e-13)
        torch.testing.assert_close(probe.gradient(u), slope.expand(60, -1), rtol=0, atol=1e-11)
    if mesh.reference.is_simplex:
        torch.testing.assert_close(probe.value(quadratic(dofs.points())), quadratic(at))


def test_vector_fields_and_batches(tools, generator):
    mesh = tools.distorted("triangle", 3)
    dofs = fem.Dofs(mesh, fem.lagrange("triangle", 1), 2)
    at = torch.rand(5, 2, generator=generator, dtype=torch.float64)
    probe = fem.Interpolation(mesh, dofs.element, at, dofs=dofs)
    u = torch.stack([mesh.points, 2 * mesh.points]).flatten(1)
    torch.testing.assert_close(probe.value(u), torch.stack([at, 2 * at]))
    eye = torch.eye(2, dtype=torch.float64).expand(5, 2, 2)
    torch.testing.assert_close(probe.gradient(u), torch.stack([eye, 2 * eye]))


@pytest.mark.parametrize("cell", CELLS)
def test_nodes_edges_and_the_boundary_are_inside(tools, cell):
    mesh = tools.distorted(cell, 3)
    dofs = fem.Dofs(mesh, fem.lagrange(cell, 2))
    probe = fem.Interpolation(mesh, dofs.element, dofs.points(), dofs=dofs)
    u = torch.arange(dofs.n, dtype=torch.float64)
    torch.testing.assert_close(probe.value(u), u, rtol=0, atol=1e-9)


def test_strongly_graded_and_stretched_meshes(generator):
    mesh = fem.rectangle_mesh((40, 6))
    points = mesh.points.clone()
    points[:, 0] = 2.0 ** (-(1 - points[:, 0]) * 30)
    points[:, 1] *= 1e-4
    graded = fem.make_mesh(points, mesh.cells, "triangle")
    inside = torch.rand(200, 2, generator=generator, dtype=torch.float64)
    at = torch.stack([2.0 ** (-inside[:, 0] * 30), 1e-4 * inside[:, 1]], 1)
    probe = fem.Interpolation(graded, fem.lagrange("triangle"), at)
    torch.testing.assert_close(probe.value(points[:, 0]), at[:, 0], rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("cell", CELLS)
def test_points_on_the_surface_are_inside_whatever_their_precision(tools, cell):
    mesh = tools.structured(cell, 3)
    mesh = fem.make_mesh(0.7 * mesh.points + 100.3, mesh.cells, cell)
    single = mesh.points.float()
    assert (single.double() - mesh.points).abs().amax() > 1e-6  # of cells of 0.2
    for at, points in ((single, None), (mesh.points, single), (single, single)):
        cells, X = locate(mesh, at, points)
        assert float(mesh.reference.slack(X).min()) > -1e-3
        around = mesh.points[mesh.vertices[cells]].mean(1)
        assert float((around - mesh.points).abs().max()) < 0.7 / 3
    with pytest.raises(MeshError, match="outside the mesh"):
        locate(mesh, single - 1e-3)


def test_points_outside_are_named(tools):
    mesh = tools.structured("triangle", 3)
    element = fem.lagrange("triangle")
    at = torch.tensor([[0.5, 0.5], [1.1, 0.2], [3.0, 0.0]], dtype=torch.float64)
    with pytest.raises(MeshError, match=r"point 1 at \[1.1, 0.2\] is outside the mesh \(2 of 3"):
        fem.Interpolation(mesh, element, at)
    with pytest.raises(MeshError, match=r"point 0 is .*finite"):
        fem.Interpolation(mesh, element, at * torch.nan)
    with pytest.raises(MeshError, match=r"points in this mesh are \[m, 2\]"):
        fem.Interpolation(mesh, element, torch.zeros(2, 3))
    hole = fem.make_mesh(
        mesh.points, mesh.cells[torch.tensor([*range(8), *range(10, 18)])], "triangle"
    )
    with pytest.raises(MeshError, match="outside the mesh"):
        fem.Interpolation(hole, element, torch.tensor([[0.5, 0.5]], dtype=torch.float64))
    with pytest.raises(ArgumentError, match="number another element or another mesh"):
        fem.Interpolation(mesh, element, at[:1], dofs=fem.Dofs(mesh, fem.lagrange("triangle", 2)))
    with pytest.raises(ArgumentError, match=r"u: got shape \(3,\)"):
        fem.Interpolation(mesh, element, at[:1]).value(torch.zeros(3))


def test_no_points_at_all(tools):
    mesh = tools.structured("quad", 2)
    probe = fem.Interpolation(mesh, fem.lagrange("quad"), torch.zeros(0, 2, dtype=torch.float64))
    assert probe.value(torch.zeros(9, dtype=torch.float64)).shape == (0,)


@pytest.mark.parametrize("cell", CELLS)
def test_derivatives_to_field_points_and_places(tools, cell, generator):
    mesh = tools.distorted(cell, 2)
    dofs = fem.Dofs(mesh, fem.lagrange(cell, 2))
    u = torch.rand(dofs.n, generator=generator, dtype=torch.float64).requires_grad_()
    at = (
        0.2 + 0.13 * torch.rand(2, mesh.dim, generator=generator, dtype=torch.float64)
    ).requires_grad_()
    points = mesh.points.clone().requires_grad_()

    def function(u, at, points):
        probe = fem.Interpolation(mesh, dofs.element, at, points=points, dofs=dofs)
        return probe.value(u), probe.gradient(u)

    assert torch.autograd.gradcheck(function, (u, at, points), fast_mode=True)
    assert torch.autograd.gradgradcheck(function, (u, at, points), fast_mode=True)


def test_locating_prefers_the_deepest_cell_then_the_lowest(tools):
    mesh = tools.structured("triangle", 2)
    centre = torch.tensor([[0.5, 0.5], [0.25, 0.25]], dtype=torch.float64)
    cells, X = locate(mesh, centre)
    assert cells.tolist() == [0, 0]
    assert (mesh.reference.slack(X) >= -1e-12).all()


@pytest.mark.parametrize("cell", ["line", "triangle", "quad", "tetra", "hexahedron"])
def test_point_loads_and_springs_are_adjoint_to_evaluation(tools, cell, generator):
    mesh = tools.distorted(cell, 2)
    dofs = fem.Dofs(mesh, fem.lagrange(cell, 2), 2)
    at = torch.rand(5, mesh.dim, generator=generator, dtype=torch.float64)
    probe = fem.Interpolation(mesh, dofs.element, at, dofs=dofs)
    u, v = torch.rand(2, dofs.n, generator=generator, dtype=torch.float64)
    force = torch.rand(3, 5, 2, generator=generator, dtype=torch.float64)
    expected = (force * probe.value(v)).sum((-2, -1))
    torch.testing.assert_close(probe.load(force) @ v, expected)
    k = torch.rand(5, 2, 2, generator=generator, dtype=torch.float64)
    zero = torch.zeros(dofs.n).double()
    K = probe.springs(k)
    expected = torch.einsum("pa,pab,pb->", probe.value(v), k, probe.value(u))
    torch.testing.assert_close(fem.residual(dofs.pattern, K, zero, u) @ v, expected)
    same = torch.eye(2).double() * k[:, :1, :1]
    torch.testing.assert_close(probe.springs(k[:, 0, 0]), probe.springs(same))
    with pytest.raises(ArgumentError, match="stiffness: got shape"):
        probe.springs(k[:2])
    with pytest.raises(ArgumentError, match="force: got shape"):
        probe.load(force[..., 0])


@pytest.mark.parametrize("axis", [0, 1])
def test_places_are_found_where_one_coordinate_is_right_from_the_start(tools, axis):
    straight = fem.curved(tools.structured("quad", 1))
    points = straight.points.clone()
    points[:, axis] += 0.4 * points[:, axis] * (1 - points[:, axis])
    mesh = fem.make_mesh(points, straight.cells, straight.cell)
    X = torch.full((5, 2), 0.5, dtype=torch.float64)
    X[:, axis] = torch.linspace(0.1, 0.9, 5, dtype=torch.float64)
    _, found = locate(mesh, mesh.geometry.values(X) @ mesh.points[mesh.cells[0]])
    torch.testing.assert_close(found, X, rtol=0, atol=1e-10)


@pytest.mark.parametrize("cell", ["quad", "hexahedron", "triangle6"])
@pytest.mark.parametrize("far", [1e6, 5e7])
def test_places_in_warped_cells_are_found_far_from_the_origin(tools, cell, far):
    near = tools.distorted("triangle" if cell == "triangle6" else cell, 3)
    if cell == "triangle6":
        near = fem.disk_mesh(3, curve=True)
    # Coordinates that are exact there, so that nothing but the search rounds.
    points = (near.points * 2.0**20).round() / 2.0**20
    mesh = fem.make_mesh(points + far, near.cells, near.cell)
    at = torch.full((3, near.dim), 0.5, dtype=torch.float64)
    at[1, 0], at[2, 1] = 0.3125, 0.125
    cells, X = locate(mesh, at + far)
    here = torch.einsum("mk,mka->ma", mesh.geometry.values(X), points[mesh.cells[cells]])
    torch.testing.assert_close(here, at, rtol=0, atol=1e-14)
    assert float(mesh.reference.slack(X).min()) > -1e-12
