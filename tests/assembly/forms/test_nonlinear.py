"""Energies and residuals: derivatives against finite differences and against linear forms."""

from __future__ import annotations

import pytest
import torch

import torch_sla.assembly as fem
from torch_sla.assembly import weak
from torch_sla.errors import ArgumentError

CELLS = ["line", "triangle", "quad", "tetra", "hexahedron"]


def neo_hookean(u, w):
    F = fem.grad(u) + fem.identity(fem.grad(u))
    J = torch.linalg.det(F)
    first = (F * F).sum((-2, -1))
    return 0.5 * w.mu * (first - F.shape[-1] - 2 * torch.log(J)) + 0.5 * w.lam * torch.log(J) ** 2


def field(dofs, generator, amount=0.1):
    return amount * torch.rand(dofs.n, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("order", [1, 2])
def test_derivatives_of_an_energy_are_consistent(tools, cell, order, generator):
    mesh = tools.distorted(cell, 1 if cell in ("tetra", "hexahedron") else 2)
    dofs = fem.Dofs(mesh, fem.lagrange(cell, order))
    basis = fem.CellBasis(mesh, dofs.element)
    k = torch.rand(2, mesh.n_cells, 1, generator=generator, dtype=torch.float64)
    form = fem.Energy(
        lambda u, w: (
            w.k * (1 + u**2) * fem.dot(fem.grad(u), fem.grad(u)) + torch.cos(u * w.x[..., 0])
        )
    )
    u = torch.rand(dofs.n, generator=generator, dtype=torch.float64).requires_grad_()

    def energy(u):
        return form(basis, basis.interpolate(dofs, u), k=k).sum(-1)

    def residual(u):
        return dofs.assemble_vector(form.residual(basis, basis.interpolate(dofs, u), k=k))

    jacobian = torch.autograd.functional.jacobian(energy, u)
    torch.testing.assert_close(residual(u), jacobian)
    K = dofs.assemble_matrix(form.tangent(basis, basis.interpolate(dofs, u), k=k))
    d = torch.rand(dofs.n, generator=generator, dtype=torch.float64)
    _, expected = torch.autograd.functional.jvp(residual, u, d)
    product = fem.residual(dofs.pattern, K, torch.zeros(dofs.n).double(), d.expand(2, -1))
    torch.testing.assert_close(product, expected)


@pytest.mark.parametrize("cell", ["triangle", "quad", "tetra"])
def test_hyperelastic_tangent_to_the_third_derivative(tools, cell, generator):
    mesh = tools.distorted(cell, 1)
    dofs = fem.Dofs(mesh, fem.lagrange(cell, 1), mesh.dim)
    basis = fem.CellBasis(mesh, dofs.element, components=mesh.dim)
    form = fem.Energy(neo_hookean)
    u = field(dofs, generator).requires_grad_()
    mu = torch.ones(mesh.n_cells, 1, dtype=torch.float64, requires_grad=True)

    def tangent(u, mu, points):
        moved = fem.CellBasis(mesh, dofs.element, points=points, components=mesh.dim)
        return form.tangent(moved, moved.interpolate(dofs, u), mu=mu, lam=2.0)

    points = mesh.points.clone().requires_grad_()
    assert torch.autograd.gradcheck(tangent, (u, mu, points), fast_mode=True)
    local = form.tangent(basis, basis.interpolate(dofs, u), mu=mu, lam=2.0)
    torch.testing.assert_close(local, local.mT)
    # At rest the tangent is linear elasticity.
    rest = form.tangent(
        basis, basis.interpolate(dofs, torch.zeros(dofs.n).double()), mu=0.7, lam=2.0
    )
    torch.testing.assert_close(rest, weak.elasticity(basis, lam=2.0, mu=0.7))


def test_two_fields_and_a_residual(tools, generator):
    """Stokes as a residual gives the blocks of its bilinear forms."""
    mesh = tools.distorted("triangle", 2)
    pair = fem.MixedDofs(
        {
            "u": fem.Dofs(mesh, fem.lagrange("triangle", 2), 2),
            "p": fem.Dofs(mesh, fem.lagrange("triangle", 1)),
        }
    )
    velocity = fem.CellBasis(mesh, pair.fields["u"].element, 4, components=2)
    pressure = fem.CellBasis(mesh, pair.fields["p"].element, 4)
    stokes = fem.ResidualForm(
        lambda u, p, v, q, w: (
            w.nu * fem.inner(fem.grad(u), fem.grad(v)) - p * fem.div(v) - q * fem.div(u)
        )
    )
    x = torch.rand(pair.n, generator=generator, dtype=torch.float64)
    parts = pair.split(x)
    fields = [
        velocity.interpolate(pair.fields["u"], parts["u"]),
        pressure.interpolate(pair.fields["p"], parts["p"]),
    ]
    K = stokes.tangent([velocity, pressure], fields, nu=2.0)
    a = fem.BilinearForm(lambda u, v, w: 2.0 * fem.inner(fem.grad(u), fem.grad(v)))
    b = fem.BilinearForm(lambda u, q, w: -fem.div(u) * q)
    B = b(velocity, pressure)
    blocks = pair.block_matrices({("u", "u"): a(velocity), ("p", "u"): B, ("u", "p"): B.mT})
    torch.testing.assert_close(K, blocks)
    r = stokes.residual([velocity, pressure], fields, nu=2.0)
    torch.testing.assert_close(r, (K @ pair.restrict(x)[..., None])[..., 0])


def test_follower_pressure_has_an_exact_tangent_and_closes(tools, generator):
    mesh = tools.distorted("hexahedron", 1)
    dofs = fem.Dofs(mesh, fem.lagrange("hexahedron", 1), 3)
    facets = fem.FacetBasis(mesh, dofs.element, components=3)
    u = field(dofs, generator, 0.2)

    def residual(u):
        local = weak.follower_pressure.residual(facets, facets.interpolate(dofs, u), p=1.5)
        return dofs.assemble_vector(local, facets.facets)

    # Pressure all around has no resultant, on the deformed surface.
    assert float(residual(u).reshape(-1, 3).sum(0).abs().max()) < 1e-12
    K = dofs.assemble_matrix(
        weak.follower_pressure.tangent(facets, facets.interpolate(dofs, u), p=1.5), facets.facets
    )
    d = torch.rand(dofs.n, generator=generator, dtype=torch.float64)
    _, expected = torch.autograd.functional.jvp(residual, u, d)
    zero = torch.zeros(dofs.n).double()
    torch.testing.assert_close(fem.residual(dofs.pattern, K, zero, d), expected)
    # At rest it is the pressure that does not follow.
    rest = weak.follower_pressure.residual(facets, facets.interpolate(dofs, zero), p=1.5)
    torch.testing.assert_close(rest, -weak.pressure_load(facets, p=1.5))


def test_what_is_not_a_residual_is_refused(tools):
    mesh = tools.structured("triangle", 1)
    dofs = fem.Dofs(mesh, fem.lagrange("triangle", 1))
    basis = fem.CellBasis(mesh, dofs.element)
    u = basis.interpolate(dofs, mesh.points[:, 0])
    with pytest.raises(ArgumentError, match="not linear in its test functions"):
        fem.ResidualForm(lambda u, v, w: u * v + 1.0).residual(basis, u)
    with pytest.raises(ArgumentError, match="depends on none of the unknowns"):
        fem.Energy(lambda u, w: w.x[..., 0]).residual(basis, u)
    with pytest.raises(ArgumentError, match="the integrand has shape"):
        fem.Energy(lambda u, w: fem.grad(u)).residual(basis, u)
    between = fem.InteriorBasis(mesh, dofs.element)
    with pytest.raises(ArgumentError, match="not over facets between cells"):
        fem.Energy(lambda u, w: u * 1.0).residual(between, u)
    with pytest.raises(ArgumentError, match="one known field for each basis"):
        fem.Energy(lambda u, w: u * 1.0).residual([basis, basis], u)
