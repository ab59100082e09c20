"""General linear constraints against dense algebra, and on problems with known solutions."""

from __future__ import annotations

from math import log2, pi

import numpy as np
import pytest
import torch

import torch_sla.assembly as fem
from torch_sla.assembly import weak
from torch_sla.errors import ArgumentError, MeshError
from torch_sla.linalg import Pattern, SparseTensor

check = torch.autograd.gradcheck


def dense_equations(equations, n):
    C = torch.zeros(equations.count, n, dtype=equations.coefficient.dtype)
    return C.index_put((equations.row, equations.dof), equations.coefficient, accumulate=True)


def random_equations(n, count, width, seed):
    g = torch.Generator().manual_seed(seed)
    dof = torch.stack([torch.randperm(n, generator=g)[:width] for _ in range(count)])
    row = torch.arange(count).repeat_interleave(width)
    c = torch.randn(count * width, generator=g, dtype=torch.float64)
    return fem.Equations(row, dof.flatten(), c, count)


def random_system(n, seed=3):
    g = torch.Generator().manual_seed(seed)
    keep = torch.rand(n, n, generator=g) < 0.4
    keep = keep | keep.T | torch.eye(n, dtype=torch.bool)
    row, col = keep.nonzero(as_tuple=True)
    A = torch.randn(n, n, generator=g, dtype=torch.float64)
    A = A @ A.T * keep + n * 3 * torch.eye(n)
    return Pattern.from_coo(row, col, (n, n)), A


@pytest.mark.parametrize(("count", "width"), [(1, 1), (3, 2), (5, 3), (6, 2), (4, 6)])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_minimises_under_any_equations(count, width, seed):
    n = 12
    equations = random_equations(n, count, width, seed)
    pattern, A = random_system(n)
    constraint = fem.LinearConstraint(pattern, equations)
    g = torch.randn(2, count, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    load = torch.arange(1.0, n + 1).double()
    values, right = constraint.apply(A[pattern.row.long(), pattern.col.long()], load, g)
    K = SparseTensor.from_pattern(constraint.pattern, values).to_dense()
    torch.testing.assert_close(K, K.T, rtol=1e-13, atol=1e-12)
    assert float(torch.linalg.eigvalsh(K).min()) > 0
    u = constraint.recover(torch.linalg.solve(K, right.T).T, g)
    C = dense_equations(equations, n)
    torch.testing.assert_close(u @ C.T, g, rtol=0, atol=1e-10)
    # Stationary: the residual is a combination of the equations (Lagrange).
    residual = u @ A - load
    combination = torch.linalg.lstsq(C.T, residual.T).solution
    torch.testing.assert_close(C.T @ combination, residual.T, rtol=0, atol=1e-9)
    torch.testing.assert_close(
        constraint.reduce(residual) * constraint.free, torch.zeros_like(u), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_redundant_equations_agree_or_are_refused(size):
    # A square of periodic ties: 3 = 1, 3 = 2, 1 = 0, 2 = 0; one follows from the others.
    dofs = torch.tensor([[3, 1], [3, 2], [1, 0], [2, 0]])
    ties = fem.combine([(dofs[:, 0], 1.0), (dofs[:, 1], -1.0)])
    pattern, _ = random_system(6)
    constraint = fem.LinearConstraint(pattern, ties)
    assert constraint.free.sum() == 3
    g = size * torch.tensor([0.1, 0.2, 0.4, 0.3], dtype=torch.float64)
    u = constraint.recover(torch.zeros(6).double(), g)
    torch.testing.assert_close(u[dofs[:, 0]] - u[dofs[:, 1]], g)
    assert torch.equal(constraint.restrict(u) != 0, constraint.free & (u != 0))
    with pytest.raises(ArgumentError, match="contradict each other"):
        constraint.recover(torch.zeros(6).double(), g + size * torch.tensor([0.0, 0, 0, 1e-3]))


def test_derivatives_to_values_load_and_right_hand_sides():
    pattern, A = random_system(7)
    constraint = fem.LinearConstraint(pattern, random_equations(7, 3, 3, 8))
    values = A[pattern.row.long(), pattern.col.long()].requires_grad_()
    load = torch.rand(7, dtype=torch.float64, requires_grad=True)
    g = torch.rand(3, dtype=torch.float64, requires_grad=True)

    def function(values, load, g):
        K, f = constraint.apply(values, load, g)
        u_hat = torch.linalg.solve(SparseTensor.from_pattern(constraint.pattern, K).to_dense(), f)
        return constraint.recover(u_hat, g)

    assert check(function, (values, load, g))
    assert torch.autograd.gradgradcheck(function, (values, load, g), fast_mode=True)


def periodic_error(cell, order, n):
    """sin in x, periodic; Dirichlet below and above."""
    mesh = fem.rectangle_mesh((n, n), cell=cell)
    dofs = fem.Dofs(mesh, fem.lagrange(cell, order))
    basis = fem.CellBasis(mesh, dofs.element, 2 * order + 2)

    def exact(x):
        return torch.sin(2 * pi * (x[..., 0] + 0.1)) * torch.sin(pi * x[..., 1])

    tags = mesh.facet_tags
    fixed = dofs.facet_dofs(torch.cat([tags["bottom"], tags["top"]]))
    equations = fem.prescribe(fixed) & fem.periodic(dofs, tags["right"], tags["left"])
    constraint = fem.LinearConstraint(dofs.pattern, equations)
    values = dofs.assemble_matrix(weak.diffusion(basis, kappa=1.0))
    load = dofs.assemble_vector(weak.source(basis, f=5 * pi**2 * exact(basis.x)))
    K, f = constraint.apply(values, load)
    u = constraint.recover(SparseTensor.from_pattern(constraint.pattern, K).solve(f))
    return float(fem.l2_error(dofs, u, exact))


@pytest.mark.parametrize(("cell", "order", "n"), [("triangle", 1, 12), ("quad", 2, 6)])
def test_periodic_problems_converge(cell, order, n):
    rate = log2(periodic_error(cell, order, n) / periodic_error(cell, order, 2 * n))
    assert rate == pytest.approx(order + 1, abs=0.1)


def test_all_sides_of_a_box_are_periodic():
    mesh = fem.box_mesh((2, 2, 2), cell="hexahedron")
    dofs = fem.Dofs(mesh, fem.lagrange("hexahedron", 2), 3)
    tags = mesh.facet_tags
    pairs = [("right", "left"), ("back", "front"), ("top", "bottom")]
    first, *others = (fem.periodic(dofs, tags[a], tags[b]) for a, b in pairs)
    equations = first & others[0] & others[1]
    constraint = fem.LinearConstraint(dofs.pattern, equations)
    assert int(constraint.free.sum()) == 4**3 * 3
    x = dofs.points()
    wave = torch.stack([torch.sin(2 * pi * x[:, i] + i) for i in range(3)], 1).flatten()
    torch.testing.assert_close(constraint.recover(constraint.restrict(wave)), wave)


def test_a_sector_repeats_under_rotation():
    """A third of a ring: fields that turn with the body satisfy the ties exactly."""
    box = fem.rectangle_mesh((2, 4), (1.0, 2 * pi / 3), (1.0, 0.0))
    r, a = box.points.unbind(1)
    points = torch.stack([r * torch.cos(a), r * torch.sin(a)], 1)
    tags = {name: box.facets[i] for name, i in box.facet_tags.items()}
    mesh = fem.make_mesh(points, box.cells, "triangle", facet_tags=tags)
    dofs = fem.Dofs(mesh, fem.lagrange("triangle", 2), 2)
    c, s = np.cos(2 * pi / 3), np.sin(2 * pi / 3)
    R = torch.tensor([[c, -s], [s, c]]).double()
    top, bottom = mesh.facet_tags["top"], mesh.facet_tags["bottom"]
    equations = fem.periodic(dofs, top, bottom, mapping=lambda x: x @ R, rotation=R)
    constraint = fem.LinearConstraint(dofs.pattern, equations)
    x = dofs.points()
    radial = (x * x.norm(dim=1, keepdim=True)).flatten()
    torch.testing.assert_close(constraint.recover(constraint.restrict(radial)), radial)
    spin = torch.stack([-x[:, 1], x[:, 0]], 1).flatten()
    torch.testing.assert_close(constraint.recover(constraint.restrict(spin)), spin)
    # A constant field does not turn, and does not satisfy them.
    still = torch.ones(dofs.n_nodes, 2).double().flatten()
    assert float((constraint.recover(constraint.restrict(still)) - still).abs().max()) > 1


@pytest.mark.parametrize("cell", ["quad", "hexahedron"])
def test_a_quarter_that_holds_the_axis_moves_as_the_whole(cell):
    """What turns with R is zero on its axis, where nodes are their own partners; what does not is free."""
    dim = 2 if cell == "quad" else 3

    def box(n, low):
        if dim == 2:
            return fem.rectangle_mesh((n, n), (-low + 1.0,) * 2, (low,) * 2, cell=cell)
        return fem.box_mesh((n, n, 1), (-low + 1.0, -low + 1.0, 1.0), (low, low, 0.0), cell=cell)

    R = torch.eye(dim).double()
    R[:2, :2] = torch.tensor([[0.0, -1.0], [1.0, 0.0]])

    def displacement(mesh, periodic):
        tags = mesh.facet_tags
        dofs = fem.Dofs(mesh, fem.lagrange(cell, 1), dim)
        basis = fem.CellBasis(mesh, dofs.element, components=dim)
        angle = torch.atan2(basis.x[..., 1], basis.x[..., 0])
        force = basis.x * (1 + torch.sin(4 * angle))[..., None]
        held = ["right", "top"] if dim == 2 else ["right", "back"]
        held = (
            held if periodic else [*held, *(["left", "bottom"] if dim == 2 else ["left", "front"])]
        )
        equations = fem.prescribe(
            dofs.facet_dofs(torch.cat([tags[name] for name in held]).unique())
        )
        if periodic:
            on, to = tags["left"], tags["bottom" if dim == 2 else "front"]
            equations &= fem.periodic(dofs, on, to, mapping=lambda x: x @ R, rotation=R)
        constraint = fem.LinearConstraint(dofs.pattern, equations)
        K, f = constraint.apply(
            dofs.assemble_matrix(weak.elasticity(basis, mu=1.0, lam=1.5)),
            dofs.assemble_vector(weak.vector_source(basis, f=force)),
        )
        u = constraint.recover(SparseTensor.from_pattern(constraint.pattern, K).solve(f))
        return dofs.points(), u.unflatten(0, (-1, dim))

    x, quarter = displacement(box(3, 0.0), periodic=True)
    y, whole = displacement(box(6, -1.0), periodic=False)
    same = (x[:, None] - y).norm(dim=-1).argmin(1)
    torch.testing.assert_close(quarter, whole[same], rtol=0, atol=1e-12 * float(whole.abs().max()))


def test_bloch_phases():
    mesh = fem.interval_mesh(40)
    dofs = fem.Dofs(mesh, fem.lagrange("line", 2))
    basis = fem.CellBasis(mesh, dofs.element)
    phase = complex(np.exp(0.7j))
    ends = mesh.facet_tags
    constraint = fem.LinearConstraint(
        dofs.pattern, fem.periodic(dofs, ends["right"], ends["left"], phase=phase)
    )
    zero = torch.zeros(dofs.n).double()
    K, _ = constraint.apply(dofs.assemble_matrix(weak.diffusion(basis, kappa=1.0)), zero)
    M, _ = constraint.apply(dofs.assemble_matrix(weak.mass(basis, c=1.0)), zero)
    free = constraint.free
    K, M = (
        SparseTensor.from_pattern(constraint.pattern, A).to_dense()[free][:, free] for A in (K, M)
    )
    w = torch.linalg.eigvals(torch.linalg.solve(M, K)).real.sort().values
    torch.testing.assert_close(w[0], torch.tensor(0.7**2).double(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("cell", ["triangle", "hexahedron"])
def test_rollers_in_a_rotated_frame_follow_the_rotation(tools, cell):
    """A body on tilted rollers moves as the same body on straight ones, turned."""
    mesh = tools.distorted(cell, 2)
    dim = mesh.dim
    angle = 0.6
    R = torch.eye(dim, dtype=torch.float64)
    R[:2, :2] = torch.tensor([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turned = fem.make_mesh(
        mesh.points @ R.T,
        mesh.cells,
        mesh.cell,
        facet_tags={name: mesh.facets[i] for name, i in mesh.facet_tags.items()},
    )

    def solve(mesh, R):
        dofs = fem.Dofs(mesh, fem.lagrange(cell, 1), dim)
        basis = fem.CellBasis(mesh, dofs.element, components=dim)
        lam, mu = weak.lame_parameters(1.0, 0.3)
        values = dofs.assemble_matrix(weak.elasticity(basis, lam=lam, mu=mu))
        force = R @ torch.arange(1.0, dim + 1).double()
        load = dofs.assemble_vector(weak.vector_source(basis, f=force.expand(1, 1, dim)))
        names = ["left", "bottom", "front"][:dim] if dim == 2 else ["left", "front", "bottom"]
        equations = None
        for axis, name in enumerate(names):
            nodes = dofs.facet_nodes(mesh.facet_tags[name])
            part = fem.along(dofs, nodes, R[:, axis])
            equations = part if equations is None else equations & part
        constraint = fem.LinearConstraint(dofs.pattern, equations)
        g = torch.full((equations.count,), 0.1).double()
        K, f = constraint.apply(values, load, g)
        u = constraint.recover(SparseTensor.from_pattern(constraint.pattern, K).solve(f), g)
        return u.reshape(-1, dim)

    straight = solve(mesh, torch.eye(dim, dtype=torch.float64))
    torch.testing.assert_close(solve(turned, R), straight @ R.T, rtol=0, atol=1e-9)


def test_pure_neumann_problems_are_solved_and_gauged(tools):
    mesh = tools.distorted("triangle", 4)
    dofs = fem.Dofs(mesh, fem.lagrange("triangle", 2), 2)
    basis = fem.CellBasis(mesh, dofs.element, components=2)
    lam, mu = weak.lame_parameters(2.0, 0.3)
    values = dofs.assemble_matrix(weak.elasticity(basis, lam=lam, mu=mu))
    modes = fem.rigid_motions(dofs)
    K = SparseTensor.from_pattern(dofs.pattern, values)
    assert float((K @ modes).abs().max()) < 1e-12
    strain = torch.tensor([[0.1, 0.02], [0.02, -0.05]]).double()
    exact = (dofs.points() @ strain).flatten()
    # The traction of a uniform stress balances, so it is a load without resultant.
    u = K.solve(K @ exact, nullspace=modes)
    weights = dofs.assemble_vector(weak.vector_source(basis, f=torch.ones(1, 1, 2).double()))
    gauge = fem.Gauge(modes, weights)
    torch.testing.assert_close(gauge.fix(u), gauge.fix(exact), rtol=0, atol=1e-9)
    torch.testing.assert_close(gauge.measure(gauge.fix(u, 0.5)), torch.full((3,), 0.5).double())
    scalar = fem.Dofs(mesh, fem.lagrange("triangle", 1))
    cells = fem.CellBasis(mesh, scalar.element)
    mean = fem.Gauge(fem.constants(scalar), scalar.assemble_vector(weak.source(cells, f=1.0)))
    assert float(mean.measure(mesh.points[:, 0] + 2)) == pytest.approx(2.5)


def test_what_makes_no_sense_is_refused():
    mesh = fem.rectangle_mesh((2, 2))
    dofs = fem.Dofs(mesh, fem.lagrange("triangle"), 2)
    tags = mesh.facet_tags
    with pytest.raises(MeshError, match="has no partner at"):
        fem.periodic(dofs, tags["right"], tags["left"], mapping=lambda x: x + 0.3)
    small = fem.make_mesh(1e-7 * mesh.points, mesh.cells, "triangle")
    with pytest.raises(MeshError, match="has no partner at"):
        fem.periodic(
            fem.Dofs(small, fem.lagrange("triangle")),
            tags["right"],
            tags["left"],
            mapping=lambda x: x - torch.tensor([1e-7, 2e-8]),
        )
    with pytest.raises(ArgumentError, match="is zero at node"):
        fem.along(dofs, torch.tensor([1]), torch.zeros(2))
    with pytest.raises(ArgumentError, match="there are 18 dofs"):
        fem.LinearConstraint(dofs.pattern, fem.prescribe(torch.tensor([18])))
    with pytest.raises(ArgumentError, match="no unknown with a coefficient"):
        fem.LinearConstraint(dofs.pattern, fem.combine([(torch.tensor([1]), 0.0)]))
    with pytest.raises(ArgumentError, match="the last dimension must be 1"):
        fem.LinearConstraint(dofs.pattern, fem.prescribe(torch.tensor([1]))).shift(torch.zeros(2))
    with pytest.raises(ArgumentError, match="displacement with 2 components"):
        fem.rigid_motions(fem.Dofs(mesh, fem.lagrange("triangle")))
