"""Averaged dilatation: no locking, exact tangents, and nothing lost where nothing locks."""

from __future__ import annotations

from math import log2

import pytest
import torch

import torch_sla.assembly as fem
from torch_sla.assembly import weak
from torch_sla.errors import ArgumentError
from torch_sla.linalg import SparseTensor

PI = torch.pi


def error(mesh, form, order, nu=0.49999):
    """L2 error of a divergence-free displacement in a nearly incompressible body."""
    dofs = fem.Dofs(mesh, fem.lagrange(mesh.cell, order), 2)
    basis = fem.CellBasis(mesh, dofs.element, 2 * order + 1, components=2)
    lam, mu = weak.lame_parameters(1.0, nu)

    def exact(x):
        s, c = torch.sin(PI * x), torch.cos(PI * x)
        return torch.stack([s[..., 0] * c[..., 1], -c[..., 0] * s[..., 1]], -1)

    values = dofs.assemble_matrix(form(basis, lam=lam, mu=mu))
    load = dofs.assemble_vector(weak.vector_source(basis, f=2 * PI**2 * mu * exact(basis.x)))
    fixed = dofs.facet_dofs(mesh.boundary)
    g = exact(dofs.points()).flatten()[fixed]
    constraint = fem.DirichletConstraint(dofs.pattern, fixed)
    K, f = constraint.apply(values, load, g)
    u = constraint.recover(SparseTensor.from_pattern(dofs.pattern, K).solve(f), g)
    return float(fem.l2_error(dofs, u, exact))


@pytest.mark.parametrize(("cell", "order", "rate"), [("quad", 1, 2), ("quad", 2, 3)])
def test_averaging_unlocks(tools, cell, order, rate):
    meshes = [tools.structured(cell, n) for n in (8, 16)]
    plain = [error(mesh, weak.elasticity, order) for mesh in meshes]
    better = [error(mesh, weak.elasticity_bbar, order) for mesh in meshes]
    assert log2(better[0] / better[1]) > rate - 0.15
    if order == 1:
        assert plain[1] > 20 * better[1]


def test_without_locking_it_is_plain_elasticity(tools):
    for cell in ("triangle", "tetra"):
        mesh = tools.distorted(cell, 2)
        basis = fem.CellBasis(mesh, fem.lagrange(cell), components=mesh.dim)
        k = torch.rand(3, mesh.n_cells, 1).double()
        torch.testing.assert_close(
            weak.elasticity_bbar(basis, lam=k, mu=2.0), weak.elasticity(basis, lam=k, mu=2.0)
        )


def neo_hookean(u, w):
    F = weak.fbar(u, w)
    J = fem.det(F)
    first = (F * F).sum((-2, -1))
    return 0.5 * w.mu * (first - F.shape[-1] - 2 * torch.log(J)) + 0.5 * w.lam * torch.log(J) ** 2


@pytest.mark.parametrize("cell", ["quad", "hexahedron"])
def test_finite_strain_tangent(tools, cell, generator):
    mesh = tools.distorted(cell, 1)
    dofs = fem.Dofs(mesh, fem.lagrange(cell), mesh.dim)
    basis = fem.CellBasis(mesh, dofs.element, components=mesh.dim)
    form = fem.CellEnergy(neo_hookean)
    u = 0.1 * torch.rand(dofs.n, generator=generator, dtype=torch.float64)
    lam = torch.tensor([1.0, 50.0]).double()[:, None, None]

    def energy(u):
        return form(basis, basis.interpolate(dofs, u), mu=1.0, lam=lam).sum(-1)

    def residual(u):
        return dofs.assemble_vector(
            form.residual(basis, basis.interpolate(dofs, u), mu=1.0, lam=lam)
        )

    torch.testing.assert_close(residual(u), torch.autograd.functional.jacobian(energy, u))
    local = form.tangent(basis, basis.interpolate(dofs, u), mu=1.0, lam=lam)
    K = dofs.assemble_matrix(local)
    d = torch.rand(dofs.n, generator=generator, dtype=torch.float64)
    _, expected = torch.autograd.functional.jvp(residual, u, d)
    zero = torch.zeros(dofs.n).double()
    torch.testing.assert_close(fem.residual(dofs.pattern, K, zero, d.expand(2, -1)), expected)
    rest = form.tangent(basis, basis.interpolate(dofs, zero), mu=1.0, lam=50.0)
    # At rest: shear by points, dilatation by means.
    shear = weak.elasticity(basis, lam=0.0, mu=1.0)
    trace = fem.BilinearForm(lambda u, v, w: fem.div(u) * fem.div(v))(basis)
    mean = weak.elasticity_bbar(basis, lam=1.0, mu=0.0)
    d = mesh.dim
    torch.testing.assert_close(rest, shear - 2 / d * trace + (50.0 + 2 / d) * mean)


def test_means_belong_to_cell_energies(tools):
    mesh = tools.structured("quad", 1)
    dofs = fem.Dofs(mesh, fem.lagrange("quad"), 2)
    basis = fem.CellBasis(mesh, dofs.element, components=2)
    u = basis.interpolate(dofs, torch.zeros(dofs.n).double())
    with pytest.raises(ArgumentError, match="mean: the form needs this coefficient"):
        fem.Energy(neo_hookean).tangent(basis, u, mu=1.0, lam=1.0)
    with pytest.raises(ArgumentError, match="has no coefficients"):
        fem.CellEnergy(neo_hookean)(basis, fem.Field(u.value, u.gradient), mu=1.0, lam=1.0)


@pytest.mark.parametrize(
    ("cell", "order"), [("quad", 1), ("quad", 2), ("hexahedron", 1), ("triangle", 2)]
)
def test_patch(tools, cell, order):
    """A uniform strain is exact on distorted meshes, nearly incompressible too."""
    mesh = tools.distorted(cell, 2)
    dim = mesh.dim
    dofs = fem.Dofs(mesh, fem.lagrange(cell, order), dim)
    basis = fem.CellBasis(mesh, dofs.element, 2 * order + 2, components=dim)
    lam, mu = weak.lame_parameters(2.0, 0.4999)
    values = dofs.assemble_matrix(weak.elasticity_bbar(basis, lam=lam, mu=mu))
    strain = 0.1 * torch.arange(float(dim * dim), dtype=torch.float64).reshape(dim, dim)
    exact = (dofs.points() @ strain.T).flatten()
    fixed = dofs.facet_dofs(mesh.boundary)
    u = tools.solve_dirichlet(dofs, values, torch.zeros(dofs.n).double(), fixed, exact[fixed])
    torch.testing.assert_close(u, exact, rtol=0, atol=1e-10)
