"""Smoothed aggregation over tensors, on the CPU; what is left to CUDA is tested beside it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from tests.helpers.grids import rhs
from tests.helpers.lattices import checkerboard
from tests.helpers.meshed import delaunay, elastic, poisson, split
from tests.helpers.singular_parts import plate
from torch_sla.errors import ArgumentError, DTypeError, Result, SolveError
from torch_sla.linalg.eigen.lobpcg import LOBPCGOptions, lobpcg
from torch_sla.linalg.kernels import rows, spgemm
from torch_sla.linalg.methods.cg import cg
from torch_sla.linalg.methods.outcome import KrylovOptions
from torch_sla.linalg.precond.multigrid import AMG, rigid_body_modes
from torch_sla.linalg.precond.multigrid.device import blocks, build
from torch_sla.linalg.precond.multigrid.device.aggregation import DeviceAggregation
from torch_sla.linalg.sparse.pattern import Pattern
from torch_sla.linalg.sparse.structure import Structure


def solve(
    A: sp.csr_array,
    options: AMG | None = None,
    vectors: torch.Tensor | None = None,
    rtol: float = 1e-8,
) -> tuple[int, DeviceAggregation]:
    """Solve to `rtol`, check the true residual, return iterations."""
    pattern, values = split(A)
    hierarchy = DeviceAggregation(pattern, values, options or AMG(), vectors)
    b = rhs(A.shape[0])
    matrix = rows.Rows.of(pattern.crow, pattern.ccol, values, A.shape[0])
    out = cg(
        lambda x: rows.product(matrix, x),
        b,
        M=hierarchy.apply,
        options=KrylovOptions(rtol=rtol, maxiter=100),
    )
    assert out.result is Result.CONVERGED
    residual = np.linalg.norm(b.numpy() - A @ out.x.numpy())
    assert residual <= rtol * np.linalg.norm(b.numpy()) * (1 + 1e-4)
    return out.iterations, hierarchy


@pytest.mark.parametrize("cycle", ["V", "W"])
@pytest.mark.parametrize("shape", [(60, 60), (240, 240), (12, 12, 12), (32, 32, 32), (57, 13, 41)])
def test_iterations_do_not_grow(shape: tuple[int, ...], cycle: str) -> None:
    iterations, hierarchy = solve(poisson(*shape), AMG(cycle=cycle))
    assert iterations <= 12
    assert hierarchy.operator_complexity < 1.9
    assert hierarchy.coarse_nullity == 0


@pytest.mark.parametrize(("dim", "n"), [(2, 3000), (2, 20000), (3, 1500), (3, 8000)])
@pytest.mark.parametrize("jump", [1.0, 1e6])
def test_unstructured_meshes(dim: int, n: int, jump: float) -> None:
    iterations, hierarchy = solve(delaunay(n, dim, jump))
    assert iterations <= (20 if jump == 1.0 else 30)
    assert hierarchy.operator_complexity < 1.7


@pytest.mark.parametrize(("a", "b"), [(1.0, 1e4), (1e4, 1.0), (1.0, 10.0), (1.0, 2.5)])
def test_stretched_grids_are_coarsened_along_the_short_edges(a: float, b: float) -> None:
    assert solve(poisson(100, 100, weights=(a, b)))[0] <= 18


def test_jumps_of_the_coefficient() -> None:
    k = np.where((np.mgrid[:100, :100] // 25).sum(0) % 2, 1e6, 1.0)
    index = np.arange(k.size).reshape(k.shape)
    total = sp.diags_array(np.where(index.ravel() % 100 == 0, 2 * k.ravel(), 0.0))
    for axis in range(2):
        a, b = (np.take(index, range(s, 99 + s), axis).ravel() for s in (0, 1))
        w = 2 * k.ravel()[a] * k.ravel()[b] / (k.ravel()[a] + k.ravel()[b])
        row, col = np.concatenate([a, b, a, b]), np.concatenate([a, b, b, a])
        total = total + sp.coo_array((np.concatenate([w, w, -w, -w]), (row, col)), total.shape)
    iterations, hierarchy = solve(sp.csr_array(total))
    assert iterations <= 15
    assert hierarchy.dtype is torch.float64


@pytest.mark.parametrize(("edge", "width"), [(192, 16), (240, 30), (360, 30)])
def test_jumps_at_crossing_points_cost_no_iterations(edge: int, width: int) -> None:
    """Transfers reach from stiff regions into soft ones: without that 55, 43 and 66 iterations."""
    iterations, hierarchy = solve(checkerboard(edge, 1e6, width), rtol=1e-6)
    assert iterations <= 12
    unknowns = [level.unknowns for level in hierarchy.levels]
    assert unknowns[hierarchy._forward.twice[0]] < 0.05 * edge * edge


@pytest.mark.parametrize("shape", [(60, 30), (10, 10, 10), (24, 8, 8)])
def test_elasticity_with_rigid_body_modes(shape: tuple[int, ...]) -> None:
    A, points = elastic(shape)
    iterations, hierarchy = solve(A, vectors=rigid_body_modes(points))
    assert iterations <= 22
    assert hierarchy.levels[0].block == len(shape)
    assert hierarchy.levels[1].block == (3 if len(shape) == 2 else 6)
    assert solve(A)[0] > iterations  # constants alone do not know rotations


def test_blocks_with_gaps() -> None:
    A, points = elastic((6, 6, 6))
    full = A.nnz
    A.data[np.abs(A.data) < 1e-12] = 0.0
    A.eliminate_zeros()
    assert A.nnz < full
    iterations, hierarchy = solve(A, vectors=rigid_body_modes(points))
    assert iterations <= 22
    assert hierarchy.levels[0].nonzeros == A.nnz


def test_floating_body_has_six_modes() -> None:
    A, points = elastic((6, 5, 7), clamp=False)
    modes = rigid_body_modes(points)
    pattern, values = split(A)
    hierarchy = DeviceAggregation(pattern, values, AMG(), modes)
    assert hierarchy.coarse_nullity == 6
    b = rhs(A.shape[0])
    Q = torch.linalg.qr(modes)[0]
    b = b - Q @ (Q.T @ b)
    out = cg(lambda x: torch.from_numpy(A @ x.numpy()), b, M=hierarchy.apply)
    assert out.result is Result.CONVERGED
    assert out.iterations <= 30


@pytest.mark.parametrize("smoother", ["jacobi", "l1_jacobi", "spai0", "chebyshev"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_smoothers(smoother: str, dtype: str) -> None:
    options = AMG(smoother=smoother, dtype=dtype)
    assert solve(poisson(50, 50), options)[0] <= 20
    assert solve(poisson(50, 50), AMG(smoother=smoother, dtype=dtype, sweeps=2))[0] <= 15


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_update_keeps_the_aggregates(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch_sla.linalg.precond.multigrid.device import aggregation

    A = delaunay(2025, 2)
    pattern, old = split(A)
    new = split(delaunay(2025, 2, 3.0))[1]
    hierarchy = DeviceAggregation(pattern, old, AMG(dtype=dtype), None)
    r = rhs(2025)
    first = hierarchy.apply(r)
    monkeypatch.setattr(aggregation, "aggregate", None)  # nothing is aggregated again
    hierarchy.update(new)
    assert not torch.equal(hierarchy.apply(r), first)
    hierarchy.update(old)
    assert torch.equal(hierarchy.apply(r), first)
    hierarchy.update(4.0 * old)
    torch.testing.assert_close(hierarchy.apply(r), first / 4, rtol=1e-5, atol=1e-9)


def test_bits_repeat() -> None:
    pattern, values = split(delaunay(4096, 3))
    r = rhs(4096, 2)
    one, two = (DeviceAggregation(pattern, values, AMG(), None).apply(r) for _ in range(2))
    assert torch.equal(one, two)


def test_columns_are_independent() -> None:
    pattern, values = split(poisson(40, 40))
    hierarchy = DeviceAggregation(pattern, values, AMG(dtype="float64"), None)
    r = rhs(1600, 3)
    z = hierarchy.apply(r)
    torch.testing.assert_close(z[:, 2], hierarchy.apply(r[:, 2]), rtol=1e-12, atol=1e-14)
    assert hierarchy.apply(r.float()).dtype is torch.float32
    assert hierarchy.apply(r[:, :0]).shape == (1600, 0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_singular_with_constants(dtype: str) -> None:
    A = poisson(50, 44)
    A = A - sp.diags_array(A @ np.ones(A.shape[0]))
    pattern, values = split(A)
    hierarchy = DeviceAggregation(pattern, values, AMG(dtype=dtype), None)
    assert hierarchy.coarse_nullity == 1
    b = rhs(A.shape[0])
    b -= b.mean()
    out = cg(lambda x: torch.from_numpy(A @ x.numpy()), b, M=hierarchy.apply,
             options=KrylovOptions(rtol=1e-8))  # fmt: skip
    assert out.result is Result.CONVERGED
    assert out.iterations <= 16


def test_disconnected_parts_single_and_empty_rows() -> None:
    parts = [poisson(25, 25), 1e5 * poisson(20, 20), sp.csr_array([[7.0]]), sp.csr_array([[1e-4]])]
    assert solve(sp.csr_array(sp.block_diag(parts)))[0] <= 18
    assert solve(sp.csr_array([[3.0]]))[0] <= 2
    A = sp.csr_array(sp.block_diag([poisson(20, 20), sp.csr_array((3, 3)), poisson(16, 16)]))
    pattern, values = split(A)
    hierarchy = DeviceAggregation(pattern, values, AMG(coarse_size=50), None)
    z = hierarchy.apply(rhs(A.shape[0]))
    assert torch.isfinite(z).all()
    assert not z[400:403].any()


def test_conjugate_gradients_around_it() -> None:
    A = delaunay(2025, 2)
    pattern, values = split(A)
    hierarchy = DeviceAggregation(pattern, values, AMG(), None)
    b = rhs(2025, 2)
    out = hierarchy.cg(values, b, options=KrylovOptions(rtol=1e-10))
    assert out.result is Result.CONVERGED
    assert out.iterations <= 20
    assert np.linalg.norm(b.numpy() - A @ out.x.numpy()) <= 2e-10 * float(b.norm())
    again = hierarchy.cg(values, b, x0=out.x, options=KrylovOptions(rtol=1e-9))
    assert again.iterations == 0
    other = hierarchy.cg(2 * values, b, options=KrylovOptions(rtol=1e-10))
    torch.testing.assert_close(2 * other.x, out.x, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-60, 1e60])
def test_float32_levels_of_tiny_and_huge_matrices(scale: float) -> None:
    pattern, values = split(poisson(50, 50) * scale)
    hierarchy = DeviceAggregation(pattern, values, AMG(), None)
    assert hierarchy.dtype is torch.float32
    b = rhs(2500) * 1e-50
    z = hierarchy.apply(b)
    assert torch.isfinite(z).all()
    torch.testing.assert_close(hierarchy.apply(2.0**130 * b), 2.0**130 * z, rtol=1e-6, atol=0.0)


def test_last_levels_too_large_to_invert_are_smoothed() -> None:
    A = poisson(30, 30)
    hierarchy = DeviceAggregation(*split(A), AMG(max_levels=1, dtype="float64"), None)
    assert hierarchy.coarse_nullity == -1
    B = hierarchy.apply(torch.eye(900, dtype=torch.float64))
    torch.testing.assert_close(B, B.T)
    assert torch.linalg.eigvalsh(B).min() > 0
    empty = split(sp.csr_array((0, 0)))
    assert DeviceAggregation(*empty, AMG(), None).apply(torch.zeros(0, 2)).shape == (0, 2)


def test_lobpcg_with_it() -> None:
    A = delaunay(2025, 2)
    pattern, values = split(A)
    hierarchy = DeviceAggregation(pattern, values, AMG(), None)
    X = torch.randn(2025, 6, dtype=torch.float64)
    w, _ = lobpcg(
        lambda V: torch.from_numpy(A @ V.numpy()),
        X,
        3,
        preconditioner=hierarchy.apply,
        options=LOBPCGOptions(tol=1e-7, maxiter=40),
    )
    expected = np.linalg.eigvalsh(A.toarray())[:3]
    np.testing.assert_allclose(w.numpy(), expected, rtol=1e-8)


def test_dispatch_leaves_what_is_no_lattice_to_aggregates() -> None:
    pattern, values = split(delaunay(3000, 2))
    made = build(pattern, values, AMG())
    assert isinstance(made, DeviceAggregation)
    assert made._forward.twice == ()
    known = Structure(symmetric=False)
    made = build(pattern, values, AMG(), known)
    assert isinstance(made, DeviceAggregation)
    assert made._forward.twice == (1,)  # what is known to be unsymmetric gets the W cycle
    with pytest.raises(ArgumentError, match="neighbours of a lattice"):
        build(pattern, values, AMG(method="lattice"))


def held_by_springs(bodies: int, edge: int, spring: float) -> sp.csr_array:
    """A chain of plates with a spring from each to the next, the first one fixed; nodes in no order."""
    rng, n = np.random.default_rng(0), edge * edge
    A = sp.block_diag([plate(edge, edge)] * bodies).tolil()
    A[0, 0] += 1.0
    for i in range(bodies - 1):
        ends = np.array([i * n, (i + 1) * n]) + rng.integers(n, size=2)
        A[np.ix_(ends, ends)] += spring * np.array([[1.0, -1.0], [-1.0, 1.0]])
    order = rng.permutation(bodies * n)
    return sp.csr_array(sp.csr_array(A)[order][:, order])


@pytest.mark.parametrize("cycle", ["V", "W"])
@pytest.mark.parametrize("bodies", [5, 12])
def test_bodies_on_soft_springs_have_levels_in_double_precision(bodies: int, cycle: str) -> None:
    firm, soft = (held_by_springs(bodies, 10, spring) for spring in (1e-2, 1e-8))
    pattern, values = split(soft)
    x = rhs(soft.shape[0])
    b = torch.from_numpy(soft @ x.numpy())
    options = KrylovOptions(rtol=1e-8, maxiter=50)
    hierarchy = DeviceAggregation(pattern, values, AMG(cycle=cycle, coarse_size=30), None)
    assert hierarchy.dtype is torch.float64
    out = hierarchy.cg(values, b, options=options)
    assert out.result is Result.CONVERGED
    assert out.iterations <= 12
    again = DeviceAggregation(pattern, split(firm)[1], AMG(cycle=cycle, coarse_size=30), None)
    assert again.dtype is torch.float32
    again.update(values)
    assert again.dtype is torch.float64
    assert again.cg(values, b, options=options).iterations <= 12


@pytest.mark.parametrize("block", [1, 2])
def test_new_values_without_a_diagonal_are_refused(block: int) -> None:
    pattern, values = split(poisson(20, 20))
    hierarchy = DeviceAggregation(pattern, values, AMG(coarse_size=20, block=block), None)
    r = rhs(400)
    before = hierarchy.apply(r)
    hole = values.clone()
    hole[pattern.diagonal_slots[37].long()] = 0.0
    with pytest.raises(SolveError, match="row 37 is zero") as caught:
        hierarchy.update(hole)
    assert caught.value.result is Result.BREAKDOWN
    assert torch.equal(hierarchy.apply(r), before)
    if block == 1:
        empty = values.clone()
        empty[pattern.crow[37] : pattern.crow[38]] = 0.0  # which the smoother leaves alone
        hierarchy.update(empty)
        assert bool(torch.isfinite(hierarchy.apply(r)).all())


def test_galerkin_product() -> None:
    A = delaunay(800, 2)
    hierarchy = DeviceAggregation(*split(A), AMG(dtype="float64", coarse_size=30), None)
    for fine, coarse in itertools.pairwise(hierarchy._forward.stages):
        dense = [
            sp.csr_array((m.values, m.ccol, m.crow), shape=(m.n_rows, m.n_cols)).toarray()
            for m in (fine.A, fine.P, fine.R, coarse.A)
        ]
        np.testing.assert_allclose(dense[1].T, dense[2])
        np.testing.assert_allclose(dense[2] @ dense[0] @ dense[1], dense[3], atol=1e-12)


@pytest.mark.parametrize("terms", [50, 1 << 25])
@pytest.mark.parametrize("edge", [1, 3])
def test_products_of_blocks(terms: int, edge: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spgemm, "TERMS", terms)
    generator = np.random.default_rng(2)
    made = []
    for m, n, b, c in ((30, 20, edge, edge), (20, 25, edge, 2 * edge)):
        where = sp.csr_array(sp.random_array((m, n), density=0.15, random_state=generator))
        where.sort_indices()
        crow, ccol = (torch.from_numpy(i.astype(np.int32)) for i in (where.indptr, where.indices))
        values = torch.from_numpy(generator.standard_normal((where.nnz, b, c)))
        made.append(blocks.BlockRows(crow, ccol, values, n))
    out = blocks.multiply(*made)
    dense = []
    for block in (*made, out, blocks.transpose(out)):
        flat = blocks.flatten(block, torch.float64)
        shape = (flat.n_rows, flat.n_cols)
        dense.append(sp.csr_array((flat.values, flat.ccol, flat.crow), shape=shape).toarray())
    np.testing.assert_allclose(dense[0] @ dense[1], dense[2], atol=1e-13)
    np.testing.assert_array_equal(dense[3], dense[2].T)


def test_blocks_written_out_may_need_wider_indices(monkeypatch: pytest.MonkeyPatch) -> None:
    crow, ccol = torch.tensor([0, 1, 2], dtype=torch.int32), torch.tensor([1, 0], dtype=torch.int32)
    block = blocks.BlockRows(crow, ccol, torch.arange(8.0).reshape(2, 2, 2), 2)
    narrow = blocks.flatten(block, torch.float64)
    monkeypatch.setattr(blocks, "_INT32_MAX", 7)
    wide = blocks.flatten(block, torch.float64)
    assert (narrow.crow.dtype, narrow.ccol.dtype) == (torch.int32,) * 2
    assert (wide.crow.dtype, wide.ccol.dtype) == (torch.int64,) * 2
    assert torch.equal(wide.ccol, narrow.ccol.long())
    assert torch.equal(wide.values, narrow.values)


def test_failures_have_reasons() -> None:
    pattern, values = split(poisson(20, 20))
    hole = values.clone()
    hole[pattern.diagonal_slots[37]] = 0.0
    with pytest.raises(SolveError, match="diagonal of row 37 is zero") as caught:
        DeviceAggregation(pattern, hole, AMG(), None)
    assert caught.value.result is Result.BREAKDOWN
    with pytest.raises(SolveError, match="not finite") as caught:
        DeviceAggregation(pattern, torch.full_like(values, torch.nan), AMG(), None)
    assert caught.value.result is Result.NONFINITE
    with pytest.raises(DTypeError, match="float32 or float64"):
        DeviceAggregation(pattern, values.to(torch.complex128), AMG(), None)
    with pytest.raises(ArgumentError, match="`cycle` must be V or W"):
        DeviceAggregation(pattern, values, AMG(cycle="K"), None)
    with pytest.raises(ArgumentError, match="`smoother` must be chebyshev"):
        DeviceAggregation(pattern, values, AMG(smoother="gauss_seidel"), None)
    with pytest.raises(ArgumentError, match="does not divide"):
        DeviceAggregation(pattern, values, AMG(block=3), None)
    with pytest.raises(ArgumentError, match="`near_nullspace` must be"):
        DeviceAggregation(pattern, values, AMG(), torch.ones(3, 1))
    hierarchy = DeviceAggregation(pattern, values, AMG(), None)
    with pytest.raises(ArgumentError, match="`r` must be"):
        hierarchy.apply(torch.ones(3))


def test_same_class_as_pyamg() -> None:
    pyamg = pytest.importorskip("pyamg")
    A = delaunay(8100, 2)
    history: list[float] = []
    pyamg.smoothed_aggregation_solver(sp.csr_matrix(A)).solve(
        rhs(8100)[:, 0].numpy(), tol=1e-8, accel="cg", residuals=history
    )
    # Theirs smooths with symmetric Gauss-Seidel, and aggregates row after row.
    assert solve(A)[0] <= len(history) - 1


@pytest.mark.parametrize(("dtype", "scale"), [("float32", 2.0**-140), ("float64", 2.0**-1060)])
def test_matrices_of_subnormal_numbers(dtype: str, scale: float) -> None:
    """A cycle is as large as the inverse, but for right-hand sides as small."""
    kind, size = getattr(torch, dtype), 2.0**-100
    pattern, values = split(poisson(20, 20))
    b = rhs(400).to(kind)
    ordinary = DeviceAggregation(pattern, values.to(kind), AMG(), None)
    tiny = DeviceAggregation(pattern, (values * scale).to(kind), AMG(), None)
    found, wanted = tiny.apply(b * size), ordinary.apply(b)
    torch.testing.assert_close(found * (scale / size), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("n", "columns"), [(300, 0), (0, 2)])
def test_nothing_to_solve_for(n: int, columns: int) -> None:
    i = torch.arange(n)
    pattern, values = Pattern.from_coo(i, i, (n, n)), torch.ones(n, dtype=torch.float64)
    b = torch.zeros(n, columns, dtype=torch.float64)
    found = DeviceAggregation(pattern, values, AMG(), None).cg(values, b)
    assert found.x.shape == (n, columns)
    assert (found.result, found.iterations) == (Result.CONVERGED, 0)
