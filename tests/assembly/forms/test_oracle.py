"""Matrices and vectors against scikit-fem on the same distorted meshes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

import torch_sla.assembly as fem
from tests.helpers.skfem_peers import PEERS, distance, peer_mesh, skfem
from torch_sla.assembly import weak


@pytest.mark.parametrize(("cell", "order"), PEERS)
def test_equal_to_scikit_fem(tools, cell, order, generator):
    mesh = tools.distorted(cell, 2)
    degree = 2 * order + 2
    dofs = fem.Dofs(mesh, fem.lagrange(cell, order))
    cells = fem.CellBasis(mesh, dofs.element, degree)
    boundary = fem.FacetBasis(mesh, dofs.element, None, degree)
    k = torch.rand(mesh.n_cells, 1, generator=generator, dtype=torch.float64) + 0.5

    element = getattr(skfem, f"Element{PEERS[cell, order]}")()
    # The peer's degree-5 rule on tetrahedra is not exact; one degree more is.
    peer_degree = degree + (cell == "tetra")
    peer = skfem.Basis(peer_mesh(mesh), element, intorder=peer_degree)
    peer_boundary = skfem.FacetBasis(peer_mesh(mesh), element, intorder=peer_degree)
    gap, match = cKDTree(peer.doflocs.T).query(dofs.points().numpy())
    assert gap.max() < 1e-12

    form = fem.BilinearForm(
        lambda u, v, w: (
            w.k * fem.dot(fem.grad(u), fem.grad(v))
            + (1 + w.x[..., 0]) * (u * v)
            + fem.grad(u)[..., 0] * v
        )
    )
    peer_form = skfem.BilinearForm(
        lambda u, v, w: k.numpy() * (u.grad * v.grad).sum(0) + (1 + w.x[0]) * u * v + u.grad[0] * v
    )
    ours = tools.matrix(dofs, dofs.assemble_matrix(form(cells, k=k)))
    assert distance(ours, peer_form.assemble(peer), match) < 1e-13

    facet_form = fem.BilinearForm(
        lambda u, v, w: (1 + w.x[..., 0]) * (u * v) + fem.dot(fem.grad(u), fem.normal(w)) * v
    )
    peer_facet = skfem.BilinearForm(
        lambda u, v, w: (1 + w.x[0]) * u * v + (u.grad * w.n).sum(0) * v
    )
    ours = tools.matrix(dofs, dofs.assemble_matrix(facet_form(boundary), boundary.facets))
    assert distance(ours, peer_facet.assemble(peer_boundary), match) < 1e-13

    load = fem.LinearForm(lambda v, w: w.x[..., 0] * v)
    peer_load = skfem.LinearForm(lambda v, w: w.x[0] * v)
    np.testing.assert_allclose(
        dofs.assemble_vector(load(cells)).numpy(), peer_load.assemble(peer)[match], atol=1e-15
    )
    np.testing.assert_allclose(
        dofs.assemble_vector(load(boundary), boundary.facets).numpy(),
        peer_load.assemble(peer_boundary)[match],
        atol=1e-15,
    )


@pytest.mark.parametrize(("cell", "order"), [key for key in PEERS if key[0] != "line"])
def test_elasticity_equals_scikit_fem(tools, cell, order, generator):
    mesh = tools.distorted(cell, 2)
    dim = mesh.dim
    degree = 2 * order
    dofs = fem.Dofs(mesh, fem.lagrange(cell, order), components=dim)
    basis = fem.CellBasis(mesh, dofs.element, degree, components=dim)
    lam = torch.rand(mesh.n_cells, 1, generator=generator, dtype=torch.float64)
    ours = tools.matrix(dofs, dofs.assemble_matrix(weak.elasticity(basis, lam=lam, mu=2.0)))

    element = skfem.ElementVector(getattr(skfem, f"Element{PEERS[cell, order]}")())
    peer = skfem.Basis(peer_mesh(mesh), element, intorder=degree)
    peer_form = skfem.BilinearForm(
        lambda u, v, w: (
            lam.numpy() * np.einsum("iicq", u.grad) * np.einsum("iicq", v.grad)
            + (u.grad + u.grad.swapaxes(0, 1) * 1.0)
            .__mul__(v.grad + v.grad.swapaxes(0, 1))
            .sum((0, 1))
        )
    )
    component = np.zeros(peer.N)
    for i in range(dim):
        component[np.unique(peer.element_dofs[i::dim])] = 10.0 * i
    places = np.repeat(dofs.points().numpy(), dim, 0)
    wanted = np.column_stack([places, 10.0 * np.tile(np.arange(dim), dofs.n_nodes)])
    gap, match = cKDTree(np.column_stack([peer.doflocs.T, component])).query(wanted)
    assert gap.max() < 1e-12
    assert distance(ours, peer_form.assemble(peer), match) < 1e-13
