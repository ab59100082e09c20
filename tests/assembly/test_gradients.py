"""Derivatives of assembled matrices, vectors and numbers to everything they depend on."""

from __future__ import annotations

from itertools import pairwise
from math import log2

import pytest
import torch

import torch_sla.assembly as fem
from torch_sla.assembly import weak
from torch_sla.errors import MeshError

check = torch.autograd.gradcheck
check_twice = torch.autograd.gradgradcheck

FULL = fem.BilinearForm(
    lambda u, v, w: (
        w.k * fem.dot(fem.grad(u), fem.grad(v)) + w.k**2 * u * v + fem.grad(u)[..., 0] * v * w.k
    )
)


@pytest.mark.parametrize("cell", ["line", "triangle", "quad", "tetra", "hexahedron"])
@pytest.mark.parametrize("sites", ["cell", "point", "constant"])
def test_matrix_values_to_coefficients(tools, cell, sites, generator):
    mesh = tools.distorted(cell, 2 if cell in ("line", "triangle", "quad") else 1)
    dofs = fem.Dofs(mesh, fem.lagrange(cell, 1))
    basis = fem.CellBasis(mesh, dofs.element)
    shape = {"cell": (mesh.n_cells, 1), "point": basis.x.shape[:2], "constant": (1, 1)}[sites]
    k = torch.rand(2, *shape, generator=generator, dtype=torch.float64) + 0.5

    def function(k):
        return dofs.assemble_matrix(FULL(basis, k=k))

    assert check(function, k.requires_grad_(), fast_mode=True)
    assert check_twice(function, k, fast_mode=True)


def test_forward_mode_and_vmap(tools, generator):
    mesh = tools.distorted("triangle", 2)
    basis = fem.CellBasis(mesh, fem.lagrange("triangle", 1))
    k = torch.rand(mesh.n_cells, 1, generator=generator, dtype=torch.float64)
    t = torch.rand(mesh.n_cells, 1, generator=generator, dtype=torch.float64)

    def function(k):
        return weak.diffusion(basis, kappa=k)

    weak.diffusion(basis, kappa=1.0)
    _, tangent = torch.func.jvp(function, (k,), (t,))
    torch.testing.assert_close(tangent, function(t))
    many = torch.func.vmap(function)(torch.stack([k, t]))
    torch.testing.assert_close(many, torch.stack([function(k), function(t)]))
    gradient = torch.func.vmap(torch.func.grad(lambda k: function(k).square().sum()))
    torch.testing.assert_close(
        gradient(torch.stack([k]))[0],
        2 * k * function(torch.ones_like(k)).square().sum((1, 2))[:, None],
    )


@pytest.mark.parametrize("cell", ["triangle", "hexahedron"])
def test_elasticity_to_moduli(tools, cell, generator):
    mesh = tools.distorted(cell, 1)
    dofs = fem.Dofs(mesh, fem.lagrange(cell, 1), mesh.dim)
    basis = fem.CellBasis(mesh, dofs.element, components=mesh.dim)
    modulus = torch.rand(mesh.n_cells, 1, generator=generator, dtype=torch.float64).requires_grad_()

    def function(modulus):
        lam, mu = weak.lame_parameters(modulus, 0.3)
        return dofs.assemble_matrix(weak.elasticity(basis, lam=lam, mu=mu))

    assert check(function, modulus, fast_mode=True)


def test_loads_to_sources_and_fluxes(tools, generator):
    mesh = tools.distorted("tetra", 1)
    dofs = fem.Dofs(mesh, fem.lagrange("tetra", 1))
    cells, facets = fem.CellBasis(mesh, dofs.element), fem.FacetBasis(mesh, dofs.element)
    f = torch.rand(mesh.n_cells, 1, generator=generator, dtype=torch.float64).requires_grad_()
    q = torch.rand(mesh.n_facets, 1, generator=generator, dtype=torch.float64).requires_grad_()

    def function(f, q):
        flux = dofs.assemble_vector(weak.source(facets, f=q), facets.facets)
        return dofs.assemble_vector(weak.source(cells, f=f)) + flux

    assert check(function, (f, q), fast_mode=True)


def taylor_orders(function, x, direction, steps=(0.04, 0.02, 0.01)):
    """Orders of the first and second Taylor remainders."""
    x = x.detach().requires_grad_()
    value = function(x)
    (gradient,) = torch.autograd.grad(value, x, create_graph=True)
    slope = (gradient * direction).sum()
    (product,) = torch.autograd.grad(slope, x)
    bend = float((product * direction).sum())
    value, slope = float(value.detach()), float(slope.detach())
    first, second = [], []
    for h in steps:
        moved = float(function(x.detach() + h * direction))
        first.append(abs(moved - value - h * slope))
        second.append(abs(moved - value - h * slope - 0.5 * h * h * bend))
    return [min(log2(a / b) for a, b in pairwise(r)) for r in (first, second)]


@pytest.mark.parametrize("cell", ["line", "triangle", "quad", "tetra", "hexahedron"])
def test_shape_derivatives_to_second_order(tools, cell, generator):
    mesh = tools.distorted(cell, 2)
    dofs = fem.Dofs(mesh, fem.lagrange(cell, 1))
    u = torch.rand(dofs.n, generator=generator, dtype=torch.float64)
    direction = 0.3 * (
        torch.rand(mesh.points.shape, generator=generator, dtype=torch.float64) - 0.5
    )

    def function(points):
        cells = fem.CellBasis(mesh, dofs.element, points=points)
        facets = fem.FacetBasis(mesh, dofs.element, points=points)
        k = 1 + cells.x[..., 0] ** 2
        energy = (FULL(cells, k=k) @ dofs.restrict(u)[..., None])[..., 0] * dofs.restrict(u)
        load = dofs.assemble_vector(
            weak.source(facets, f=facets.normal[..., 0] + 2.0), facets.facets
        )
        return energy.sum() + (load * u).sum() ** 2

    first, second = taylor_orders(function, mesh.points, direction)
    assert first > 1.95
    assert second > 2.95


def test_inverted_cells_are_named(tools):
    mesh = tools.structured("triangle", 2)
    points = mesh.points.clone()
    points[4] = torch.tensor([1.4, 0.5])
    with pytest.raises(MeshError, match=r"cell \d+ \(points .*\) is inverted"):
        fem.CellBasis(mesh, fem.lagrange("triangle", 1), points=points)
    with pytest.raises(MeshError, match="not finite"):
        fem.CellBasis(mesh, fem.lagrange("triangle", 1), points=points * torch.nan)
    with pytest.raises(MeshError, match=r"got shape \(3, 2\)"):
        fem.CellBasis(mesh, fem.lagrange("triangle", 1), points=points[:3])
