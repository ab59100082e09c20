"""Numberings of several fields, and the stable pairs of Stokes."""

from __future__ import annotations

from math import log2, pi

import pytest
import torch

import torch_sla.assembly as fem
from torch_sla.errors import ArgumentError
from torch_sla.linalg import SparseTensor

A = fem.BilinearForm(lambda u, v, w: fem.inner(fem.grad(u), fem.grad(v)))
B = fem.BilinearForm(lambda u, q, w: -fem.div(u) * q)


def pair_on(mesh, velocity, pressure):
    return fem.MixedDofs({"u": fem.Dofs(mesh, velocity, mesh.dim), "p": fem.Dofs(mesh, pressure)})


@pytest.mark.parametrize("cell", ["triangle", "quad", "tetra", "hexahedron"])
def test_pattern_and_maps_are_those_of_the_dense_sum(tools, cell, generator):
    mesh = tools.distorted(cell, 1)
    mixed = pair_on(mesh, fem.lagrange(cell, 2), fem.lagrange(cell, 1))
    local = torch.rand(mesh.n_cells, mixed.n_local, mixed.n_local, generator=generator).double()
    A = SparseTensor.from_pattern(mixed.pattern, mixed.assemble_matrix(local)).to_dense()
    dense = torch.zeros(mixed.n, mixed.n).double()
    for c, index in enumerate(mixed.cell_dofs):
        dense[index[:, None], index] += local[c]
    torch.testing.assert_close(A, dense)
    b = mixed.assemble_vector(local[..., 0])
    expected = torch.zeros(mixed.n).double()
    for c, index in enumerate(mixed.cell_dofs):
        expected[index] += local[c, :, 0]
    torch.testing.assert_close(b, expected)
    assert mixed.cell_dofs.unique().numel() == mixed.n


def test_fields_split_and_join(tools):
    mesh = tools.structured("triangle", 2)
    mixed = pair_on(mesh, fem.lagrange("triangle", 2), fem.lagrange("triangle", 1))
    x = torch.arange(2.0 * mixed.n).reshape(2, -1)
    parts = mixed.split(x)
    assert torch.equal(mixed.join(parts), x)
    assert torch.equal(x[0, mixed.place("p", torch.tensor([0, 3]))], parts["p"][0, [0, 3]])
    local = {"p": torch.ones(mesh.n_cells, 3)}
    assert torch.equal(mixed.block_vectors(local)[:, -3:], local["p"])
    with pytest.raises(ArgumentError, match="this numbering has u p"):
        mixed.block_vectors({"q": local["p"]})
    with pytest.raises(ArgumentError, match="this numbering has u p"):
        mixed.join({"u": parts["u"]})
    other = fem.Dofs(tools.structured("triangle", 1), fem.lagrange("triangle"))
    with pytest.raises(ArgumentError, match="on another mesh"):
        fem.MixedDofs({"u": mixed.fields["u"], "p": other})


def stokes_error(mesh, velocity, pressure):
    """L2 and H1 errors of the velocity and the L2 error of the pressure, of a known flow."""
    mixed = pair_on(mesh, velocity, pressure)
    u, p = mixed.fields["u"], mixed.fields["p"]
    degree = 2 * velocity.degree + 1
    U = fem.CellBasis(mesh, velocity, degree, components=2)
    P = fem.CellBasis(mesh, pressure, degree)

    def flow(x):
        s, c = torch.sin(pi * x), torch.cos(pi * x)
        return torch.stack([s[..., 0] * c[..., 1], -c[..., 0] * s[..., 1]], -1)

    def gradient(x):
        s, c = torch.sin(pi * x), torch.cos(pi * x)
        rows = [c[..., 0] * c[..., 1], -s[..., 0] * s[..., 1]]
        return pi * torch.stack([*rows, -rows[1], -rows[0]], -1).unflatten(-1, (2, 2))

    def level(x):
        return torch.cos(pi * x[..., 0]) * torch.cos(pi * x[..., 1])

    s, c = torch.sin(pi * U.x), torch.cos(pi * U.x)
    slope = -pi * torch.stack([s[..., 0] * c[..., 1], c[..., 0] * s[..., 1]], -1)
    force = fem.LinearForm(lambda v, w: fem.dot(w.f, v))(U, f=2 * pi**2 * flow(U.x) + slope)
    b = B(U, P)
    values = mixed.assemble_matrix(
        mixed.block_matrices({("u", "u"): A(U), ("p", "u"): b, ("u", "p"): b.mT})
    )
    load = mixed.assemble_vector(mixed.block_vectors({"u": force}))
    fixed = u.facet_dofs(mesh.boundary)
    # The pressure is known up to a constant: fix one node, then its mean.
    dofs = torch.cat([fixed, mixed.place("p", torch.tensor([0]))])
    g = torch.cat([flow(u.points()).flatten()[fixed], torch.zeros(1).double()])
    constraint = fem.DirichletConstraint(mixed.pattern, dofs)
    K, f = constraint.apply(values, load, g)
    x = constraint.recover(SparseTensor.from_pattern(mixed.pattern, K).solve(f), g)
    parts = mixed.split(x)
    weights = p.assemble_vector(fem.weak.source(P, f=1.0))
    shifted = fem.Gauge(fem.constants(p), weights).fix(parts["p"])
    return (
        float(fem.l2_error(u, parts["u"], flow)),
        float(fem.h1_seminorm_error(u, parts["u"], gradient)),
        float(fem.l2_error(p, shifted, level)),
    )


@pytest.mark.parametrize(
    ("cell", "velocity", "rates"),
    [
        ("triangle", fem.P2("triangle"), (3, 2, 2)),
        ("quad", fem.Q2("quad"), (3, 2, 2)),
        ("triangle", fem.Mini("triangle"), (2, 1, 1.5)),
    ],
)
def test_stokes_converges(tools, cell, velocity, rates):
    n = 12 if isinstance(velocity, fem.Mini) else 8
    coarse, fine = (
        stokes_error(tools.structured(cell, k), velocity, fem.lagrange(cell, 1)) for k in (n, 2 * n)
    )
    found = [log2(a / b) for a, b in zip(coarse, fine, strict=True)]
    if isinstance(velocity, fem.Mini):
        # The pressure of MINI converges between 1 and 2 on structured meshes.
        assert found[2] > 1.4
        found, rates = found[:2], rates[:2]
    assert found == pytest.approx(rates, abs=0.1)


def test_mixed_elasticity_does_not_lock(tools):
    """Displacement and pressure at nu = 0.499999 converge as if the body were soft."""

    def error(n):
        mesh = tools.structured("triangle", n)
        mixed = pair_on(mesh, fem.lagrange("triangle", 2), fem.lagrange("triangle", 1))
        U = fem.CellBasis(mesh, mixed.fields["u"].element, 5, components=2)
        P = fem.CellBasis(mesh, mixed.fields["p"].element, 5)
        lam, mu = fem.weak.lame_parameters(1.0, 0.499999)

        def exact(x):
            s, c = torch.sin(pi * x), torch.cos(pi * x)
            return torch.stack([s[..., 0] * c[..., 1], -c[..., 0] * s[..., 1]], -1)

        b = B(U, P)
        blocks = {
            ("u", "u"): fem.weak.elasticity(U, lam=0.0, mu=mu),
            ("p", "u"): b,
            ("u", "p"): b.mT,
            ("p", "p"): fem.weak.mass(P, c=-1.0 / lam),
        }
        values = mixed.assemble_matrix(mixed.block_matrices(blocks))
        force = fem.weak.vector_source(U, f=2 * pi**2 * mu * exact(U.x))
        load = mixed.assemble_vector(mixed.block_vectors({"u": force}))
        u = mixed.fields["u"]
        fixed = u.facet_dofs(mesh.boundary)
        g = exact(u.points()).flatten()[fixed]
        constraint = fem.DirichletConstraint(mixed.pattern, fixed)
        K, f = constraint.apply(values, load, g)
        x = constraint.recover(SparseTensor.from_pattern(mixed.pattern, K).solve(f), g)
        return float(fem.l2_error(u, mixed.split(x)["u"], exact))

    assert log2(error(6) / error(12)) == pytest.approx(3, abs=0.1)


def test_the_divergence_block_equals_scikit_fem(tools):
    import numpy as np
    from scipy.spatial import cKDTree

    skfem = pytest.importorskip("skfem")
    mesh = tools.distorted("triangle", 3)
    mixed = pair_on(mesh, fem.lagrange("triangle", 2), fem.lagrange("triangle", 1))
    u, p = mixed.fields["u"], mixed.fields["p"]
    U = fem.CellBasis(mesh, u.element, 4, components=2)
    block = B(U, fem.CellBasis(mesh, p.element, 4))
    whole = tools.matrix(mixed, mixed.assemble_matrix(mixed.block_matrices({("p", "u"): block})))
    ours = whole[mixed.ranges["p"]][:, mixed.ranges["u"]].toarray()
    peer_mesh = skfem.MeshTri(
        np.ascontiguousarray(mesh.points.numpy().T),
        np.ascontiguousarray(mesh.cells.numpy().T),
        sort_t=False,
    )
    peer_u = skfem.Basis(peer_mesh, skfem.ElementVector(skfem.ElementTriP2()), intorder=4)
    peer_p = peer_u.with_element(skfem.ElementTriP1())
    form = skfem.BilinearForm(lambda u, q, w: -(u.grad[0, 0] + u.grad[1, 1]) * q)
    theirs = form.assemble(peer_u, peer_p).toarray()
    component = np.zeros(peer_u.N)
    for i in range(2):
        component[np.unique(peer_u.element_dofs[i::2])] = 10.0 * i
    places = np.column_stack([np.repeat(u.points().numpy(), 2, 0), np.tile([0.0, 10.0], u.n_nodes)])
    _, columns = cKDTree(np.column_stack([peer_u.doflocs.T, component])).query(places)
    _, rows = cKDTree(peer_p.doflocs.T).query(p.points().numpy())
    assert abs(ours - theirs[rows][:, columns]).max() < 1e-13 * abs(theirs).max()
