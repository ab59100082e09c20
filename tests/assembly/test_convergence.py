"""Rates of convergence on manufactured solutions, and exactness where it is due."""

from __future__ import annotations

from math import log2

import pytest
import torch

import torch_sla.assembly as fem
from torch_sla.assembly import weak

PI = torch.pi


def smooth(x):
    return torch.sin(2.0 * x + 0.3).prod(-1)


def smooth_gradient(x):
    s, c = torch.sin(2.0 * x + 0.3), 2.0 * torch.cos(2.0 * x + 0.3)
    columns = []
    for d in range(x.shape[-1]):
        factors = [c[..., e] if e == d else s[..., e] for e in range(x.shape[-1])]
        columns.append(torch.stack(factors).prod(0))
    return torch.stack(columns, -1)


def poisson_error(tools, mesh, order):
    dofs = fem.Dofs(mesh, fem.lagrange(mesh.reference.name, order))
    basis = fem.CellBasis(mesh, dofs.element, 2 * order + 2)
    values = dofs.assemble_matrix(weak.diffusion(basis, kappa=1.0))
    load = dofs.assemble_vector(weak.source(basis, f=4.0 * mesh.dim * smooth(basis.x)))
    fixed = dofs.facet_dofs(mesh.boundary)
    u = tools.solve_dirichlet(dofs, values, load, fixed, smooth(dofs.points()[fixed]))
    return (
        float(fem.l2_error(dofs, u, smooth)),
        float(fem.h1_seminorm_error(dofs, u, smooth_gradient)),
    )


SIZES = {
    ("line", 1): (16, 32),
    ("line", 2): (16, 32),
    ("triangle", 1): (16, 32),
    ("triangle", 2): (8, 16),
    ("quad", 1): (12, 24),
    ("quad", 2): (6, 12),
    ("tetra", 1): (8, 16),
    ("tetra", 2): (5, 10),
    ("hexahedron", 1): (6, 12),
    ("hexahedron", 2): (3, 6),
}


@pytest.mark.parametrize(("cell", "order"), SIZES)
def test_poisson_converges_at_the_optimal_rate(tools, cell, order):
    coarse, fine = (
        poisson_error(tools, tools.structured(cell, n), order) for n in SIZES[cell, order]
    )
    l2, h1 = (log2(a / b) for a, b in zip(coarse, fine, strict=True))
    assert l2 == pytest.approx(order + 1, abs=0.1)
    assert h1 == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize("cell", ["line", "triangle", "quad", "tetra", "hexahedron"])
@pytest.mark.parametrize("order", [1, 2])
def test_linear_fields_are_reproduced_on_irregular_meshes(tools, cell, order):
    mesh = tools.distorted(cell, 3)
    dofs = fem.Dofs(mesh, fem.lagrange(cell, order))
    basis = fem.CellBasis(mesh, dofs.element)
    slope = torch.arange(1.0, mesh.dim + 1, dtype=torch.float64)
    exact = dofs.points() @ slope + 0.5
    values = dofs.assemble_matrix(weak.diffusion(basis, kappa=3.0))
    fixed = dofs.facet_dofs(mesh.boundary)
    zero = torch.zeros(dofs.n, dtype=torch.float64)
    u = tools.solve_dirichlet(dofs, values, zero, fixed, exact[fixed])
    torch.testing.assert_close(u, exact, rtol=0, atol=1e-12)


@pytest.mark.parametrize("cell", ["triangle", "quad", "tetra", "hexahedron"])
@pytest.mark.parametrize("order", [1, 2])
def test_elastic_patch_test(tools, cell, order):
    mesh = tools.distorted(cell, 2)
    dim = mesh.dim
    dofs = fem.Dofs(mesh, fem.lagrange(cell, order), components=dim)
    basis = fem.CellBasis(mesh, dofs.element, components=dim)
    lam, mu = weak.lame_parameters(2.0, 0.3)
    values = dofs.assemble_matrix(weak.elasticity(basis, lam=lam, mu=mu))
    strain = 0.1 * torch.arange(float(dim * dim), dtype=torch.float64).reshape(dim, dim)
    exact = (dofs.points() @ strain.T).flatten()
    fixed = dofs.facet_dofs(mesh.boundary)
    zero = torch.zeros(dofs.n, dtype=torch.float64)
    u = tools.solve_dirichlet(dofs, values, zero, fixed, exact[fixed])
    torch.testing.assert_close(u, exact, rtol=0, atol=1e-12)


@pytest.mark.parametrize("cell", ["triangle", "quad"])
def test_isoparametric_elements_keep_their_rate_on_a_disk(tools, cell):
    coarse, fine = (fem.disk_mesh(n, cell=cell, curve=True) for n in (6, 12))
    (l2, h1), (l2_fine, h1_fine) = (poisson_error(tools, mesh, 2) for mesh in (coarse, fine))
    assert log2(l2 / l2_fine) == pytest.approx(3, abs=0.1)
    assert log2(h1 / h1_fine) == pytest.approx(2, abs=0.1)
    area = fem.CellBasis(fine, fem.lagrange(cell, 2)).dx.sum()
    assert float(area) == pytest.approx(torch.pi, rel=1e-5)


def shell(tools, cell, n):
    """A quarter of a thick pipe, with second-order cells on both cylinders."""
    box = fem.box_mesh((n, 2 * n, n), (1.0, PI / 2, 1.0), (1.0, 0.0, 0.0), cell)
    r, angle, z = box.points.unbind(1)
    points = torch.stack([r * torch.cos(angle), r * torch.sin(angle), z], 1)
    tags = {name: box.facets[index] for name, index in box.facet_tags.items()}

    straight = fem.make_mesh(points, box.cells, cell, facet_tags=tags)
    return fem.curved(straight, {"left": tools.onto(1.0), "right": tools.onto(2.0)})


@pytest.mark.parametrize(("cell", "n"), [("hexahedron", 2), ("tetra", 3)])
def test_isoparametric_solids_keep_their_rate_on_a_pipe(tools, cell, n):
    coarse, fine = (poisson_error(tools, shell(tools, cell, k), 2) for k in (n, 2 * n))
    l2, h1 = (log2(a / b) for a, b in zip(coarse, fine, strict=True))
    assert l2 == pytest.approx(3, abs=0.1)
    assert h1 == pytest.approx(2, abs=0.1)


def test_straight_elements_lose_it(tools):
    """What curving is for: with a polygon for a disk and data that see it, quadratics are of order 3/2."""

    def error(mesh):
        dofs = fem.Dofs(mesh, fem.lagrange("triangle", 2))
        basis = fem.CellBasis(mesh, dofs.element)
        values = dofs.assemble_matrix(weak.diffusion(basis, kappa=1.0))
        load = dofs.assemble_vector(weak.source(basis, f=4.0))
        fixed = dofs.facet_dofs(mesh.boundary)
        zero = torch.zeros(len(fixed)).double()
        u = tools.solve_dirichlet(dofs, values, load, fixed, zero)
        return float(fem.h1_seminorm_error(dofs, u, lambda x: -2 * x))

    straight = [error(fem.disk_mesh(n)) for n in (6, 12)]
    curved = [error(fem.disk_mesh(n, curve=True)) for n in (6, 12)]
    assert log2(straight[0] / straight[1]) < 1.7
    assert log2(curved[0] / curved[1]) > 1.9


def test_consistent_flux_balances_and_super_converges(tools):
    mesh = tools.distorted("triangle", 8)
    dofs = fem.Dofs(mesh, fem.lagrange("triangle", 1))
    basis = fem.CellBasis(mesh, dofs.element)
    values = dofs.assemble_matrix(weak.diffusion(basis, kappa=1.0))
    load = dofs.assemble_vector(weak.source(basis, f=1.0))
    fixed = dofs.facet_dofs(mesh.boundary)
    u = tools.solve_dirichlet(
        dofs, values, load, fixed, torch.zeros(len(fixed), dtype=torch.float64)
    )
    reaction = fem.residual(dofs.pattern, values, load, u)
    sides = [
        fem.consistent_flux(reaction, dofs, mesh.facet_tags[name], among=mesh.boundary)
        for name in ("left", "right", "bottom", "top")
    ]
    assert float(sum(sides)) == pytest.approx(-1.0, rel=1e-12)
    assert float(fem.consistent_flux(reaction, dofs, mesh.boundary)) == pytest.approx(
        -1.0, rel=1e-12
    )
    assert all(float(side) == pytest.approx(-0.25, rel=0.02) for side in sides)
