"""What is assembled on a CUDA device equals what is assembled on the CPU."""

from __future__ import annotations

import pytest
import torch

import torch_sla.assembly as fem
from tests.helpers.devices import NEEDS_CUDA
from torch_sla.assembly import weak

pytestmark = NEEDS_CUDA


def mixed(mesh):
    pair = fem.MixedDofs(
        {
            "u": fem.Dofs(mesh, fem.lagrange(mesh.cell, 2), mesh.dim),
            "p": fem.Dofs(mesh, fem.lagrange(mesh.cell, 1)),
        }
    )
    U = fem.CellBasis(mesh, pair.fields["u"].element, 4, components=mesh.dim)
    P = fem.CellBasis(mesh, pair.fields["p"].element, 4)
    B = fem.BilinearForm(lambda u, q, w: -fem.div(u) * q)(U, P)
    A = weak.elasticity(U, lam=1.0, mu=2.0)
    return pair.assemble_matrix(
        pair.block_matrices({("u", "u"): A, ("p", "u"): B, ("u", "p"): B.mT})
    )


def energy(mesh):
    dofs = fem.Dofs(mesh, fem.lagrange(mesh.cell), mesh.dim)
    basis = fem.CellBasis(mesh, dofs.element, components=mesh.dim)

    def density(u, w):
        F = fem.grad(u) + fem.identity(fem.grad(u))
        J = torch.linalg.det(F)
        return 0.5 * (F * F).sum((-2, -1)) - torch.log(J) + torch.log(J) ** 2

    u = basis.interpolate(dofs, 0.1 * torch.sin(dofs.points()).flatten())
    return dofs.assemble_matrix(fem.Energy(density).tangent(basis, u))


def averaged(mesh):
    dofs = fem.Dofs(mesh, fem.lagrange(mesh.cell), mesh.dim)
    basis = fem.CellBasis(mesh, dofs.element, components=mesh.dim)
    u = basis.interpolate(dofs, 0.1 * torch.sin(dofs.points()).flatten())
    form = fem.CellEnergy(lambda u, w: fem.trace(weak.fbar(u, w)) ** 3)
    bbar = weak.elasticity_bbar(basis, lam=1e3, mu=1.0)
    return dofs.assemble_matrix(form.tangent(basis, u) + bbar)


def follower(mesh):
    dofs = fem.Dofs(mesh, fem.lagrange(mesh.cell), mesh.dim)
    facets = fem.FacetBasis(mesh, dofs.element, components=mesh.dim)
    u = facets.interpolate(dofs, 0.1 * torch.sin(dofs.points()).flatten())
    return dofs.assemble_matrix(weak.follower_pressure.tangent(facets, u, p=1.5), facets.facets)


def interior(mesh):
    dofs = fem.Dofs(mesh, fem.lagrange(mesh.cell, 2), interior=True)
    facets = fem.InteriorBasis(mesh, dofs.element)
    form = fem.BilinearForm(
        lambda u, v, w: fem.dot(fem.jump(fem.grad(u)), w.normal) * fem.average(v)
    )
    return dofs.assemble_matrix(form(facets), interior=True)


def constrained(mesh):
    dofs = fem.Dofs(mesh, fem.lagrange(mesh.cell), mesh.dim)
    basis = fem.CellBasis(mesh, dofs.element, components=mesh.dim)
    tags = mesh.facet_tags
    nodes = dofs.facet_nodes(tags["bottom"])
    direction = torch.arange(1.0, mesh.dim + 1, dtype=torch.float64, device=mesh.points.device)
    equations = fem.along(dofs, nodes, direction) & fem.periodic(dofs, tags["right"], tags["left"])
    constraint = fem.LinearConstraint(dofs.pattern, equations)
    g = 0.1 + torch.zeros(equations.count, dtype=torch.float64, device=mesh.points.device)
    g[len(nodes) :] = 0.0
    load = dofs.assemble_vector(weak.vector_source(basis, f=basis.x))
    values = dofs.assemble_matrix(weak.elasticity(basis, lam=1.0, mu=1.0))
    K, f = constraint.apply(values, load, g)
    return torch.cat([K, f, constraint.recover(f, g)])


def chunked(mesh):
    dofs = fem.Dofs(mesh, fem.lagrange(mesh.cell), mesh.dim)

    def piece(cells):
        basis = fem.CellBasis(mesh, dofs.element, components=mesh.dim, cells=cells)
        return weak.elasticity(basis, lam=1.0, mu=2.0)

    return fem.ChunkedAssembly(dofs, 7).matrix(piece)


def points(mesh):
    dofs = fem.Dofs(mesh, fem.lagrange(mesh.cell, 2), mesh.dim)
    at = mesh.centroids[:3] + 0.01
    place = fem.Interpolation(mesh, dofs.element, at, dofs=dofs)
    return torch.cat([place.load(at), place.springs(at[:, 0])])


def recovered(mesh):
    dofs = fem.Dofs(mesh, fem.lagrange(mesh.cell))
    u = torch.sin(mesh.points).prod(1)
    return fem.zz_estimate(dofs, u)


def shapes(mesh):
    fine = fem.refine(mesh)
    part = fem.submesh(fine, fine.centroids[:, 0] < 0.5).mesh
    return fem.curved(part, {"left": lambda x: x}).points.sum(0)


WORKS = [
    mixed,
    energy,
    averaged,
    follower,
    interior,
    constrained,
    chunked,
    points,
    recovered,
    shapes,
]


@pytest.mark.parametrize("cell", ["triangle", "hexahedron"])
@pytest.mark.parametrize("work", WORKS, ids=lambda w: w.__name__)
def test_equal_on_both(tools, cell, work):
    mesh = tools.distorted(cell, 2)
    on_device = work(mesh.to("cuda"))
    assert on_device.is_cuda
    torch.testing.assert_close(on_device.cpu(), work(mesh), rtol=1e-11, atol=1e-11)
