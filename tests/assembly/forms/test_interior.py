"""Forms over interior facets: jumps, averages, normals."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.spatial import cKDTree

import torch_sla.assembly as fem
from tests.helpers.skfem_peers import PEERS, distance, peer_mesh, skfem
from torch_sla.errors import ArgumentError

CELLS = ["line", "triangle", "quad", "tetra", "hexahedron"]


@pytest.mark.parametrize(("cell", "order"), PEERS)
def test_gradient_jumps_equal_scikit_fem(tools, cell, order):
    mesh = tools.distorted(cell, 2)
    degree = 2 * order + 2
    dofs = fem.Dofs(mesh, fem.lagrange(cell, order), interior=True)
    facets = fem.InteriorBasis(mesh, dofs.element, degree)
    form = fem.BilinearForm(
        lambda u, v, w: (
            (1 + w.x[..., 0])
            * fem.dot(fem.jump(fem.grad(u)), w.normal)
            * fem.dot(fem.jump(fem.grad(v)), w.normal)
            + fem.dot(fem.average(fem.grad(u)), w.normal) * fem.average(v)
        )
    )
    ours = tools.matrix(dofs, dofs.assemble_matrix(form(facets), interior=True))
    element = getattr(skfem, f"Element{PEERS[cell, order]}")()
    peer_degree = degree + (cell == "hexahedron")
    peer = [
        skfem.InteriorFacetBasis(peer_mesh(mesh), element, intorder=peer_degree, side=s)
        for s in (0, 1)
    ]
    gap, match = cKDTree(peer[0].doflocs.T).query(dofs.points().numpy())
    assert gap.max() < 1e-12
    theirs = sp.csr_array((dofs.n, dofs.n))
    # The peer's normal may point the other way: a jump keeps its square, the mean slope changes sign.
    for i in (0, 1):
        for j in (0, 1):
            sign = (-1.0) ** (i + j)

            @skfem.BilinearForm
            def one(u, v, w, sign=sign):
                n = w.n
                return sign * (1 + w.x[0]) * (u.grad * n).sum(0) * (v.grad * n).sum(0)

            theirs = theirs + one.assemble(peer[i], peer[j])
    square = fem.BilinearForm(
        lambda u, v, w: (
            (1 + w.x[..., 0])
            * fem.dot(fem.jump(fem.grad(u)), w.normal)
            * fem.dot(fem.jump(fem.grad(v)), w.normal)
        )
    )
    jumps = tools.matrix(dofs, dofs.assemble_matrix(square(facets), interior=True))
    assert distance(jumps, theirs, match) < 1e-13
    # What is left is the mean slope, checked by evaluation.
    u, v = np.random.default_rng(3).random((2, dofs.n))
    U, V = (facets.interpolate(dofs, torch.from_numpy(a)) for a in (u, v))
    means = fem.Functional(
        lambda w: fem.dot(fem.average(fem.grad(w.u)), w.normal) * fem.average(w.v)
    )
    assert v @ ((ours - jumps) @ u) == pytest.approx(
        float(means(facets, u=U, v=V).sum()), rel=1e-11
    )
    load = fem.LinearForm(lambda v, w: (1 + w.x[..., 0]) * fem.average(v))
    pull = fem.Functional(lambda w: (1 + w.x[..., 0]) * fem.average(w.v))
    vector = dofs.assemble_vector(load(facets), interior=True).numpy()
    assert v @ vector == pytest.approx(float(pull(facets, v=V).sum()), rel=1e-11)


@pytest.mark.parametrize("cell", CELLS)
def test_finite_volumes(tools, cell):
    """Jumps of constants: differences of neighbours, times the size of the facet."""
    mesh = tools.distorted(cell, 2)
    dofs = fem.Dofs(mesh, fem.P0(cell), 2, interior=True)
    facets = fem.InteriorBasis(mesh, dofs.element, components=2)
    form = fem.BilinearForm(lambda u, v, w: fem.dot(fem.jump(u), fem.jump(v)))
    K = tools.matrix(dofs, dofs.assemble_matrix(form(facets), interior=True)).toarray()
    expected = np.zeros_like(K)
    inside = mesh.interior
    for a, b, size in zip(inside.owner, inside.neighbour, facets.size.numpy(), strict=True):
        for c in range(2):
            i, j = 2 * a + c, 2 * b + c
            expected[[i, j], [i, j]] += size
            expected[[i, j], [j, i]] -= size
    np.testing.assert_allclose(K, expected, atol=1e-14)


@pytest.mark.parametrize("cell", CELLS)
def test_smooth_fields_do_not_jump(tools, cell):
    mesh = tools.distorted(cell, 2)
    dofs = fem.Dofs(mesh, fem.lagrange(cell, 2), mesh.dim, interior=True)
    facets = fem.InteriorBasis(mesh, dofs.element, components=mesh.dim)
    u = facets.interpolate(
        dofs, (dofs.points() @ torch.ones(mesh.dim, mesh.dim).double()).flatten()
    )
    assert float(fem.jump(u).abs().max()) < 1e-13
    assert float(fem.jump(fem.grad(u)).abs().max()) < 1e-12
    torch.testing.assert_close(facets.plus.x, facets.minus.x, rtol=0, atol=1e-14)
    load = fem.LinearForm(lambda v, w: fem.dot(fem.jump(v), w.normal))
    vector = dofs.assemble_vector(load(facets), interior=True)
    assert float(vector.abs().max()) < 1e-13


def test_derivatives_with_points(tools, generator):
    mesh = tools.distorted("quad", 2)
    dofs = fem.Dofs(mesh, fem.lagrange("quad", 1), interior=True)
    form = fem.BilinearForm(
        lambda u, v, w: w.k * fem.dot(fem.jump(fem.grad(u)), w.normal) * fem.average(v)
    )
    k = torch.rand(len(mesh.interior.owner), 1, generator=generator, dtype=torch.float64)

    def function(points, k):
        facets = fem.InteriorBasis(mesh, dofs.element, points=points)
        return dofs.assemble_matrix(form(facets, k=k), interior=True)

    points = mesh.points.clone().requires_grad_()
    assert torch.autograd.gradcheck(function, (points, k.requires_grad_()), fast_mode=True)


def test_what_does_not_fit(tools):
    mesh = tools.structured("triangle", 2)
    dofs = fem.Dofs(mesh, fem.lagrange("triangle"))
    facets = fem.InteriorBasis(mesh, dofs.element)
    form = fem.BilinearForm(lambda u, v, w: fem.jump(u) * fem.jump(v))
    with pytest.raises(ArgumentError, match="make it with interior=True"):
        dofs.assemble_matrix(form(facets), interior=True)
    with pytest.raises(ArgumentError, match="both need to live on interior facets"):
        form(facets, fem.CellBasis(mesh, dofs.element))
