"""Assembly in one call, with the quadrature the form needs."""

from __future__ import annotations

import pytest
import torch

import torch_sla.assembly as fem
from torch_sla.assembly import weak
from torch_sla.errors import ArgumentError

CELLS = ["line", "triangle", "quad", "tetra", "hexahedron"]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("order", [1, 2])
def test_equal_to_much_finer_quadrature(tools, cell, order, generator):
    mesh = tools.structured(cell, 2)
    dofs = fem.Dofs(mesh, fem.lagrange(cell, order))
    k = torch.rand(2, mesh.n_cells, 1, generator=generator, dtype=torch.float64)
    for form, name in ((weak.diffusion, "kappa"), (weak.mass, "c")):
        fine = dofs.assemble_matrix(form(fem.CellBasis(mesh, dofs.element, 8), **{name: k}))
        torch.testing.assert_close(fem.assemble(form, dofs, **{name: k}), fine)
    seen = fem.LinearForm(lambda v, w: w.x[..., 0] ** 2 * v)
    fine = dofs.assemble_vector(seen(fem.CellBasis(mesh, dofs.element, 8)))
    torch.testing.assert_close(fem.assemble(seen, dofs), fine)
    right = mesh.facet_tags["right"]
    facets = fem.FacetBasis(mesh, dofs.element, right, 8)
    torch.testing.assert_close(
        fem.assemble(weak.mass, dofs, facets=right, c=2.0),
        dofs.assemble_matrix(weak.mass(facets, c=2.0), right),
    )


def test_no_more_points_than_needed(tools):
    mesh = tools.structured("triangle", 1)
    quadratic = fem.CellBasis(mesh, fem.lagrange("triangle", 2))
    assert weak.diffusion.needed_degree(quadratic, kappa=1.0) == 2
    assert weak.mass.needed_degree(quadratic, c=1.0) == 4
    assert weak.source.needed_degree(quadratic, f=1.0) == 2
    linear = fem.CellBasis(mesh, fem.lagrange("triangle", 1))
    assert weak.diffusion.needed_degree(linear, kappa=1.0) == 0
    advection = fem.BilinearForm(lambda u, v, w: w.x[..., 0] * fem.grad(u)[..., 0] * v)
    assert advection.needed_degree(linear) == 3
    square = fem.CellBasis(tools.structured("quad", 1), fem.lagrange("quad", 1))
    assert weak.diffusion.needed_degree(square, kappa=1.0) == 2


def test_vectors_moved_points_and_refusals(tools, generator):
    mesh = tools.distorted("tetra", 1)
    dofs = fem.Dofs(mesh, fem.lagrange("tetra"), 3)

    def function(points):
        return fem.assemble(weak.elasticity, dofs, points=points, lam=1.0, mu=2.0)

    assert torch.autograd.gradcheck(function, mesh.points.clone().requires_grad_(), fast_mode=True)
    k = torch.rand(mesh.n_cells, 4, generator=generator, dtype=torch.float64)
    with pytest.raises(ArgumentError, match="integrand has shape"):
        fem.assemble(weak.elasticity, dofs, lam=k, mu=1.0)
    assert fem.assemble(weak.elasticity, dofs, degree=2, lam=k, mu=1.0).shape == (dofs.pattern.nnz,)
    with pytest.raises(ArgumentError, match="form: got Functional"):
        fem.assemble(fem.Functional(lambda w: w.x), dofs)


def test_a_basis_stands_for_facets_points_and_degree(tools):
    mesh = tools.structured("triangle", 2)
    dofs = fem.Dofs(mesh, fem.lagrange("triangle", 2))
    right = mesh.facet_tags["right"]
    facets = fem.FacetBasis(mesh, dofs.element, right)
    some = fem.CellBasis(mesh, dofs.element, cells=torch.tensor([1, 3]))
    torch.testing.assert_close(
        fem.assemble(weak.mass, dofs, basis=facets, c=2.0),
        fem.assemble(weak.mass, dofs, facets=right, c=2.0),
    )
    torch.testing.assert_close(
        fem.assemble(weak.mass, dofs, basis=some, c=2.0),
        dofs.assemble_matrix(weak.mass(some, c=2.0), cells=some.cells),
    )
    torch.testing.assert_close(
        fem.assemble(weak.source, dofs, basis=facets, f=2.0),
        fem.assemble(weak.source, dofs, facets=right, f=2.0),
    )
    with pytest.raises(ArgumentError, match="basis: it has its own"):
        fem.assemble(weak.mass, dofs, basis=facets, degree=3, c=1.0)


def test_straight_cells_are_seen_when_the_mesh_hands_over_its_own_points(tools):
    mesh = tools.structured("hexahedron", 2)
    own = fem.CellBasis(mesh, fem.lagrange("hexahedron"), points=mesh.points)
    other = fem.CellBasis(mesh, fem.lagrange("hexahedron"), points=mesh.points.clone())
    assert own.geometry.inverse.shape[1] == 1
    assert other.geometry.inverse.shape[1] == len(other.rule)


@pytest.mark.parametrize("size", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize("corner", [(0.8, 0.7), (1.2, 1.3)])
def test_cells_that_are_no_parallelograms_are_seen_at_any_size(corner, size):
    points = size * torch.tensor([[0, 0], [1, 0], corner, [0, 1]], dtype=torch.float64)
    mesh = fem.make_mesh(points, torch.tensor([[0, 1, 2, 3]]), "quad")
    area = fem.assemble(weak.source, fem.Dofs(mesh, fem.lagrange("quad")), f=1.0).sum()
    assert float(area) == pytest.approx(size**2 * sum(corner) / 2)
