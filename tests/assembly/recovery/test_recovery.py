"""Projection, transfer, error estimates and the meshes they drive."""

from __future__ import annotations

from dataclasses import replace
from math import log, log2, pi

import numpy as np
import pytest
import torch

import torch_sla.assembly as fem
from torch_sla.assembly import weak
from torch_sla.errors import ArgumentError, MeshError
from torch_sla.linalg import SparseTensor

CELLS = ["line", "triangle", "quad", "tetra", "hexahedron"]


def wave(x):
    return torch.sin(2 * x + 0.3).prod(-1)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("order", [1, 2])
def test_projection_reproduces_and_keeps_integrals(tools, cell, order, generator):
    mesh = tools.distorted(cell, 2)
    nodal = fem.Projection(mesh, fem.lagrange(cell, order))
    x = nodal.basis.x
    torch.testing.assert_close(nodal(x), nodal.dofs.points(), rtol=0, atol=1e-11)
    f = torch.rand(3, *x.shape[:2], 2, 2, generator=generator, dtype=torch.float64)
    g = nodal(f, rank=2)
    assert g.shape == (3, nodal.dofs.n, 2, 2)
    smooth = nodal.evaluate(g, rank=2).value.unflatten(-1, (2, 2))
    dx = nodal.basis.dx[..., None, None]
    torch.testing.assert_close((smooth * dx).sum((1, 2)), (f * dx).sum((1, 2)))
    with pytest.raises(ArgumentError, match="quantity: got shape"):
        nodal(f[:, :-1], rank=2)


def test_lumped_projection_averages(tools):
    mesh = tools.distorted("triangle", 3)
    nodal = fem.Projection(mesh, fem.lagrange("triangle"), lumped=True)
    per_cell = torch.rand(mesh.n_cells, 1).double()
    value = nodal(per_cell)
    area = nodal.basis.dx.sum(1)
    at = (mesh.cells == 4).any(1)
    assert float(value[4]) == pytest.approx(
        float((per_cell[at, 0] * area[at]).sum() / area[at].sum())
    )
    with pytest.raises(ArgumentError, match="not all positive"):
        fem.Projection(mesh, fem.lagrange("triangle", 2), lumped=True)


def test_recovered_stress_is_more_accurate():
    """Nodal stresses of linear elements gain half an order or more on those at the centroids."""

    def errors(n):
        mesh = fem.rectangle_mesh((n, n))
        dofs = fem.Dofs(mesh, fem.lagrange("triangle"), 2)
        basis = fem.CellBasis(mesh, dofs.element, 4, components=2)
        lam, mu = weak.lame_parameters(1.0, 0.3)

        def exact(x):
            return torch.stack([torch.sin(x[..., 0] + x[..., 1]), torch.cos(x[..., 0])], -1)

        def gradient(x):
            c, s = torch.cos(x[..., 0] + x[..., 1]), -torch.sin(x[..., 0])
            return torch.stack([c, c, s, torch.zeros_like(s)], -1).unflatten(-1, (2, 2))

        u = exact(dofs.points()).flatten()
        known = weak.stress(fem.Field(None, gradient(basis.x)), lam, mu)
        raw = weak.stress(basis.interpolate(dofs, u), lam, mu)
        nodal = fem.Projection(mesh, dofs.element, 4)
        smooth = nodal.evaluate(nodal(raw.expand_as(known)), 2).value.unflatten(-1, (2, 2))
        return [
            float(((s - known) ** 2).sum((-2, -1)).mul(basis.dx).sum().sqrt())
            for s in (raw, smooth)
        ]

    coarse, fine = errors(8), errors(16)
    assert log2(coarse[0] / fine[0]) == pytest.approx(1, abs=0.1)
    assert log2(coarse[1] / fine[1]) > 1.4


@pytest.mark.parametrize("cell", CELLS)
def test_transfer(tools, cell, generator):
    coarse = tools.distorted(cell, 2)
    fine = tools.distorted(cell, 3, seed=11)
    source = fem.Dofs(coarse, fem.lagrange(cell, 1), 2)
    target = fem.Dofs(fine, fem.lagrange(cell, 2), 2)
    slope = torch.rand(coarse.dim, 2, generator=generator, dtype=torch.float64)
    u = (coarse.points @ slope).flatten().expand(3, -1)
    expected = (target.points() @ slope).flatten().expand(3, -1)
    torch.testing.assert_close(fem.transfer(source, u, target), expected)
    torch.testing.assert_close(
        fem.transfer(source, u, target, "project"), expected, rtol=0, atol=1e-9
    )
    with pytest.raises(ArgumentError, match="has 1 components"):
        fem.transfer(source, u, fem.Dofs(fine, fem.lagrange(cell)))
    with pytest.raises(ArgumentError, match="use 'interpolate' or 'project'"):
        fem.transfer(source, u, target, "guess")


def test_transfer_outside_is_refused():
    small, large = fem.interval_mesh(2), fem.interval_mesh(2, 2.0)
    P = fem.lagrange("line")
    with pytest.raises(MeshError, match="outside the mesh"):
        fem.transfer(fem.Dofs(small, P), small.points[:, 0], fem.Dofs(large, P))


def test_gradients_of_a_projection(tools, generator):
    mesh = tools.distorted("triangle", 1)
    nodal = fem.Projection(mesh, fem.lagrange("triangle"))
    f = torch.rand(nodal.basis.x.shape[:2], generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(nodal, f.requires_grad_())

    def moved(points):
        nodal = fem.Projection(mesh, fem.lagrange("triangle"), points=points)
        return nodal(nodal.basis.x[..., 0] ** 2)

    assert torch.autograd.gradcheck(moved, mesh.points.clone().requires_grad_(), fast_mode=True)


@pytest.mark.parametrize(
    ("cell", "order"), [("triangle", 1), ("quad", 1), ("triangle", 2), ("quad", 2)]
)
def test_the_estimate_tends_to_the_error(tools, cell, order):
    mesh = tools.structured(cell, 16)
    dofs = fem.Dofs(mesh, fem.lagrange(cell, order))
    u = poisson(dofs, wave, lambda x: 8 * wave(x))
    estimate = float(fem.zz_estimate(dofs, u).square().sum().sqrt())
    turned = fem.zz_estimate(dofs, (0.6 + 0.8j) * u)
    torch.testing.assert_close(turned, fem.zz_estimate(dofs, u))

    def gradient(x):
        s, c = torch.sin(2 * x + 0.3), 2 * torch.cos(2 * x + 0.3)
        return torch.stack([c[..., 0] * s[..., 1], s[..., 0] * c[..., 1]], -1)

    assert estimate == pytest.approx(float(fem.h1_seminorm_error(dofs, u, gradient)), rel=0.2)


@pytest.mark.parametrize("cells", [2, 3, 16])
@pytest.mark.parametrize("order", [1, 2])
def test_the_estimate_on_a_line(order, cells):
    """Against the difference from the projected gradient, with dense matrices and Gauss points of NumPy."""
    mesh = fem.interval_mesh(cells, grading=2.0)
    dofs = fem.Dofs(mesh, fem.lagrange("line", order))
    u = torch.sin(3 * dofs.points()[:, 0] + 0.3)
    X, weights = (torch.from_numpy(found) for found in np.polynomial.legendre.leggauss(4))
    X, weights = 0.5 * (X + 1.0), 0.5 * weights
    ends = mesh.points[mesh.cells, 0]
    length = ends[:, 1] - ends[:, 0]
    slopes = dofs.element.gradients(X[:, None])[..., 0]
    gradient = (u[dofs.cell_nodes] @ slopes.T) / length[:, None]
    hats = torch.stack([1.0 - X, X], 1)
    mass, load = torch.zeros(cells + 1, cells + 1).double(), torch.zeros(cells + 1).double()
    for k, (a, b) in enumerate(mesh.cells.tolist()):
        mass[[[a], [b]], [a, b]] += length[k] * torch.einsum("q,qi,qj->ij", weights, hats, hats)
        load[[a, b]] += length[k] * (weights * gradient[k]) @ hats
    smooth = torch.linalg.solve(mass, load)[mesh.cells] @ hats.T
    wanted = (length * ((smooth - gradient) ** 2 @ weights)).sqrt()
    torch.testing.assert_close(fem.zz_estimate(dofs, u), wanted)
    turned = fem.zz_estimate(dofs, torch.stack([u, 2j * u]))
    torch.testing.assert_close(turned, torch.stack([wanted, 2.0 * wanted]))


def poisson(dofs, exact, source=None):
    basis = fem.CellBasis(dofs.mesh, dofs.element)
    values = dofs.assemble_matrix(weak.diffusion(basis, kappa=1.0))
    f = torch.zeros(1, 1).double() if source is None else source(basis.x)
    load = dofs.assemble_vector(weak.source(basis, f=f))
    fixed = dofs.facet_dofs(dofs.mesh.boundary)
    g = exact(dofs.points()[fixed])
    constraint = fem.DirichletConstraint(dofs.pattern, fixed)
    K, b = constraint.apply(values, load, g)
    return constraint.recover(SparseTensor.from_pattern(dofs.pattern, K).solve(b), g)


def corner(x):
    """Singular at the re-entrant corner: r^(2/3) sin(2 theta / 3)."""
    r, angle = x.norm(dim=-1), torch.atan2(x[..., 1], x[..., 0]) % (2 * pi)
    return r ** (2 / 3) * torch.sin(2 / 3 * angle)


def corner_gradient(x):
    r, angle = x.norm(dim=-1), torch.atan2(x[..., 1], x[..., 0]) % (2 * pi)
    size = 2 / 3 * r ** (-1 / 3)
    return torch.stack([-size * torch.sin(angle / 3), size * torch.cos(angle / 3)], -1)


def test_adaptive_quadratics_recover_their_rate_at_a_corner():
    mesh = fem.lshape_mesh(2)
    history = []
    while True:
        dofs = fem.Dofs(mesh, fem.lagrange("triangle", 2))
        u = poisson(dofs, corner)
        history.append((dofs.n, float(fem.h1_seminorm_error(dofs, u, corner_gradient, 8))))
        if dofs.n > 4000:
            break
        mesh = fem.refine(mesh, fem.mark(fem.zz_estimate(dofs, u), 0.6))
    (n0, e0), (n1, e1) = next(h for h in history if h[0] > 400), history[-1]
    # The H1 error of quadratics falls as 1/n; on uniform meshes as n^(-1/3).
    assert log(e0 / e1) / log(n1 / n0) > 0.9
    uniform = fem.lshape_mesh(16)
    dofs = fem.Dofs(uniform, fem.lagrange("triangle", 2))
    same = float(fem.h1_seminorm_error(dofs, poisson(dofs, corner), corner_gradient, 8))
    assert history[-1][1] < 0.1 * same


def test_marking():
    eta = torch.tensor([3.0, 1.0, 2.0, 0.0])
    assert fem.mark(eta, 0.5).tolist() == [0]
    assert fem.mark(eta, 0.9).tolist() == [0, 2]
    assert fem.mark(eta, 1.0).tolist() == [0, 1, 2]
    with pytest.raises(ArgumentError, match=r"lies in \(0, 1\]"):
        fem.mark(eta, 0.0)


@pytest.mark.parametrize(("cell", "order"), [("triangle", 1), ("quad", 1), ("triangle", 2)])
def test_the_estimate_on_moved_points(tools, cell, order, generator):
    """On moved points it is that of a mesh with these points, and its slope in them is that of differences."""
    mesh = tools.structured(cell, 3)
    moved = mesh.points.clone()
    moved[:, 0] += 0.5 * moved[:, 1] + 0.3 * moved[:, 0] ** 2
    dofs, there = (
        fem.Dofs(m, fem.lagrange(cell, order)) for m in (mesh, replace(mesh, points=moved))
    )
    u = torch.rand(2, dofs.n, generator=generator, dtype=torch.float64)
    weight = 1.0 + torch.rand(mesh.n_cells, 1, generator=generator, dtype=torch.float64)
    found = fem.zz_estimate(dofs, u, weight, points=moved)
    torch.testing.assert_close(found, fem.zz_estimate(there, u, weight))
    assert not torch.allclose(found, fem.zz_estimate(dofs, u, weight))

    def whole(points, weight):
        return fem.zz_estimate(dofs, u, weight, points=points).square().sum(-1)

    inputs = (moved.requires_grad_(), weight.requires_grad_())
    assert torch.autograd.gradcheck(whole, inputs, fast_mode=True)


def test_weights_of_many_estimates_at_once():
    mesh = fem.interval_mesh(4)
    dofs = fem.Dofs(mesh, fem.lagrange("line"))
    u, weights = mesh.points[:, 0] ** 2, torch.rand(3, mesh.n_cells, 1, dtype=torch.float64)
    found = torch.func.vmap(lambda weight: fem.zz_estimate(dofs, u, weight))(weights)
    torch.testing.assert_close(found, fem.zz_estimate(dofs, u.expand(3, -1), weights))
    with pytest.raises(ArgumentError, match="must not be negative"):
        torch.func.vmap(lambda weight: fem.zz_estimate(dofs, u, weight))(-weights)


def test_cells_without_error_have_an_estimate_with_a_slope():
    """The sum of squares is smooth where some cells, or all, have no error; so is a norm that is squared."""
    mesh = fem.interval_mesh(8)
    dofs = fem.Dofs(mesh, fem.lagrange("line"))
    weight = torch.cat([torch.zeros(4), torch.ones(4)]).double()[:, None]
    u = torch.sin(3 * mesh.points[:, 0]).requires_grad_()
    assert torch.equal(fem.zz_estimate(dofs, u, weight)[:4], torch.zeros(4).double())
    assert torch.autograd.gradcheck(
        lambda v: fem.zz_estimate(dofs, v, weight).square().sum(), u, fast_mode=True
    )
    still = torch.zeros(dofs.n).double().requires_grad_()
    for size in (
        fem.zz_estimate(dofs, still).sum(),
        fem.l2_error(dofs, still, lambda x: torch.zeros_like(x[..., 0])),
        fem.h1_seminorm_error(dofs, still, torch.zeros_like),
    ):
        (slope,) = torch.autograd.grad(size, still)
        assert torch.equal(slope, torch.zeros_like(slope))


def test_weights_of_an_estimate_that_are_refused():
    mesh = fem.interval_mesh(2)  # as many cells as quadrature points in each
    dofs = fem.Dofs(mesh, fem.lagrange("line"))
    u = mesh.points[:, 0] ** 2
    for weight in (torch.ones(2), torch.ones(2, 3), torch.ones(3, 1)):
        with pytest.raises(ArgumentError, match=r"expected a number or \[\*batch, 2\|1, 2\|1\]"):
            fem.zz_estimate(dofs, u, weight)
    with pytest.raises(ArgumentError, match="must not be negative; its least value is -3"):
        fem.zz_estimate(dofs, u, torch.tensor([[1.0], [-3.0]]))
    steps = fem.Dofs(mesh, fem.P0("line"))
    with pytest.raises(ArgumentError, match="have no gradient"):
        fem.zz_estimate(steps, torch.ones(2).double())
