"""Aggregation over tensors against its definitions, written out with dense matrices."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import Tensor

from tests.helpers.meshed import delaunay, elastic, largest_eigenvalue, odd_cell, poisson, split
from torch_sla.linalg.kernels.rows import Rows
from torch_sla.linalg.precond.multigrid import AMG, rigid_body_modes
from torch_sla.linalg.precond.multigrid.device.aggregate import aggregate
from torch_sla.linalg.precond.multigrid.device.aggregation import DeviceAggregation
from torch_sla.linalg.precond.multigrid.device.blocks import grouped
from torch_sla.linalg.precond.multigrid.device.coarse import coarse_inverse
from torch_sla.linalg.precond.multigrid.device.lattice import DeviceLattice
from torch_sla.linalg.precond.multigrid.device.smoothers import (
    Smoother,
    chebyshev_steps,
    make_smoother,
    spectral_radius,
)
from torch_sla.linalg.precond.multigrid.device.strength import Strong

CPU = torch.device("cpu")
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


def dense(A: Rows | None) -> Tensor:
    assert A is not None
    parts = A.values.double().numpy(), A.ccol.numpy(), A.crow.numpy()
    return torch.from_numpy(sp.csr_array(parts, (A.n_rows, A.n_cols)).toarray())


def rows(A: sp.csr_array, dtype: torch.dtype = torch.float64) -> Rows:
    pattern, values = split(A)
    return Rows.of(pattern.crow, pattern.ccol, values.to(dtype), A.shape[0])


def estimate(A: sp.csr_array, inverse: Tensor) -> float:
    return spectral_radius(rows(A), inverse, torch.from_numpy(abs(A).sum(axis=1)))


def strong_part(A: np.ndarray, theta: float) -> np.ndarray:
    """Return what carries transfers, the rest added to its diagonal where that leaves a tenth of it.

    A coupling carries where it is strong, or large for its own row.
    """
    d, n = np.diag(A), len(A)
    v = -A * np.sign(d)[:, None]
    np.fill_diagonal(v, 0.0)
    m = np.where(np.abs(v).sum(1) > 0.05 * np.abs(d), v.max(1, initial=0.0), 0.0)
    keep = (v**2 >= theta**2 * np.outer(m, m)) | (v >= theta * m[:, None])
    keep &= (v > 0) & (m[:, None] > 0) & (m > 0)
    S = np.where(keep | np.eye(n, dtype=bool), A, 0.0)
    lumped = d + (A - S).sum(1)
    np.fill_diagonal(S, np.where(lumped * d > 0.1 * d * d, lumped, d))
    return S


@pytest.mark.parametrize("theta", [0.25, 0.5])
@pytest.mark.parametrize("jump", [1.0, 30.0])
def test_transfers_and_coarse_matrices(jump: float, theta: float) -> None:
    """``P = (I - 4/(3 rho) D⁻¹ S) T`` and ``R = Pᵀ``, ``A_c = R A P`` on every level."""
    A = delaunay(260, 2, jump)
    heavy = np.where(np.arange(A.shape[0]) % 17 == 3, 40.0, 0.0) + 3.0 * (
        np.arange(A.shape[0]) % 29 == 5
    )
    A = sp.csr_array(
        A + sp.diags_array(heavy * A.diagonal())
    )  # rows beside which couplings are little
    pattern, values = split(A)
    options = AMG(dtype="float64", coarse_size=8, strength=theta)
    hierarchy = DeviceAggregation(pattern, values, options, None)
    stages, kept = hierarchy._forward.stages, hierarchy._kept
    assert len(stages) >= 3
    torch.testing.assert_close(dense(stages[0].A), torch.from_numpy(A.toarray()))
    for i, (fine, coarse) in enumerate(pairwise(stages)):
        M, P = dense(fine.A), dense(fine.P)
        _, radius = make_smoother("chebyshev", 1, fine.A)
        S = torch.from_numpy(strong_part(M.numpy(), theta))
        group = kept[i].group.long()
        T = torch.zeros_like(P)
        T[group >= 0, group[group >= 0]] = 1.0
        omega = 4 / (3 * radius)
        wanted = T - omega * (S @ T) / S.diagonal()[:, None]
        torch.testing.assert_close(P, wanted, rtol=1e-6, atol=1e-6)  # the factor is of float32
        assert torch.equal(dense(fine.R), P.T)
        torch.testing.assert_close(dense(coarse.A), P.T @ M @ P, **CLOSE)


def test_transfers_of_unsymmetric_matrices_are_constant_on_aggregates() -> None:
    A = poisson(16, 16) + sp.diags_array([1.0], offsets=[1], shape=(256, 256))
    pattern, values = split(sp.csr_array(A))
    options = AMG(dtype="float64", coarse_size=8)
    hierarchy = DeviceAggregation(pattern, values, options, None, unsymmetric=True)
    for stage in hierarchy._forward.stages[:-1]:
        P = dense(stage.P)
        assert set(P.unique().tolist()) == {0.0, 1.0}
        assert float(P.sum(1).max()) == 1.0


def test_constants_are_kept_by_every_transfer() -> None:
    A = poisson(9, 8, weights=(1.0, 3.0))
    A = A - torch.diag(torch.from_numpy(A.toarray()).sum(1)).numpy()  # no flux through the sides
    pattern, values = split(sp.csr_array(A))
    hierarchy = DeviceAggregation(pattern, values, AMG(dtype="float64", coarse_size=4), None)
    assert len(hierarchy.levels) >= 3
    assert hierarchy.coarse_nullity == 1
    for stage in hierarchy._forward.stages[:-1]:
        P = dense(stage.P)
        torch.testing.assert_close(P.sum(1), torch.ones(len(P), dtype=torch.float64), **CLOSE)


@pytest.mark.parametrize("shape", [(7, 6), (4, 3, 3)])
def test_rigid_motions_are_kept_by_every_transfer(shape: tuple[int, ...]) -> None:
    """With all couplings strong the filtered matrix is the matrix, which strains no rigid motion."""
    A, points = elastic(shape, clamp=False)
    B = rigid_body_modes(points)
    pattern, values = split(A)
    options = AMG(dtype="float64", coarse_size=12, strength=0.0)
    hierarchy = DeviceAggregation(pattern, values, options, B)
    assert len(hierarchy.levels) >= 2
    for stage in hierarchy._forward.stages[:-1]:
        P = dense(stage.P)
        coarse = torch.linalg.lstsq(P, B, driver="gelsd").solution
        torch.testing.assert_close(P @ coarse, B, rtol=0, atol=1e-9 * float(B.abs().max()))
        B = coarse


def chebyshev(degree: int, x: Tensor) -> Tensor:
    """``T_k`` outside of [-1, 1] as well."""
    before, now = torch.ones_like(x), x
    for _ in range(degree - 1):
        before, now = now, 2 * x * now - before
    return now


@pytest.mark.parametrize("lower", [0.25, 0.1])
@pytest.mark.parametrize("degree", [1, 2, 3, 5])
def test_chebyshev_polynomials(degree: int, lower: float) -> None:
    """What one sweep leaves of an eigenvector is ``T_k`` of the interval, over its value at zero."""
    radius, n = 3.0, 40
    eigenvalues = torch.linspace(0.0, 1.1 * radius, n, dtype=torch.float64)
    index = torch.arange(n + 1, dtype=torch.int32)
    A = Rows.of(index, index[:-1], eigenvalues, n)
    smoother = Smoother(torch.ones(n, dtype=torch.float64), chebyshev_steps(radius, degree, lower))
    x, b = torch.zeros(n, 1, dtype=torch.float64), torch.ones(n, 1, dtype=torch.float64)
    middle, half = (1 + lower) / 2 * radius, (1 - lower) / 2 * radius
    left = chebyshev(degree, (middle - eigenvalues) / half)
    left = left / chebyshev(degree, torch.tensor(middle / half, dtype=torch.float64))
    for found in (smoother(A, x, b), smoother.from_zero(A, b)):
        residual = 1 - eigenvalues * found[:, 0]
        torch.testing.assert_close(residual, left, rtol=0, atol=2e-5)  # steps are rounded


@pytest.mark.parametrize("A", [poisson(30, 30), poisson(12, 9, 7), delaunay(900, 2, 30.0)])
def test_estimates_of_the_spectral_radius(A: sp.csr_array) -> None:
    inverse = 1.0 / torch.from_numpy(A.diagonal())
    half = inverse.sqrt().numpy()
    true = np.linalg.eigvalsh(half[:, None] * A.toarray() * half)[-1]
    assert 0.95 * true <= estimate(A, inverse) <= 1.1001 * true


@pytest.mark.parametrize("size", [6.0, 10.0])
def test_the_estimate_sees_one_cell_among_many(size: float) -> None:
    A = odd_cell(200, size)
    inverse = torch.from_numpy(1.0 / A.diagonal())
    true = largest_eigenvalue(A)
    assert true > 2.5
    assert 0.95 * true <= estimate(A, inverse) <= 1.1001 * true


def test_the_estimate_where_sums_of_rows_overflow() -> None:
    A = poisson(20, 20)
    wide = rows(A * 5e37, torch.float32)
    inverse = torch.full((400,), 0.25 / 5e37)
    sums = torch.zeros(400).index_add_(
        0, torch.arange(400).repeat_interleave(wide.crow.diff()), wide.values.abs()
    )
    assert bool(torch.isinf(sums).any())
    assert 0.95 * 2 <= spectral_radius(wide, inverse, sums) <= 1.1001 * 2


@pytest.mark.parametrize("name", ["jacobi", "l1_jacobi", "spai0"])
def test_weights_of_smoothers(name: str) -> None:
    D = poisson(5, 4, weights=(1.0, 3.0)).toarray()
    D[3, 4] = 0.7  # an entry of the other sign
    smoother, radius = make_smoother(name, 2, rows(sp.csr_array(D)))
    wanted = {
        "jacobi": 1 / np.diag(D),
        "l1_jacobi": 1 / np.abs(D).sum(1),
        "spai0": np.diag(D) / (D**2).sum(1),
    }[name]
    torch.testing.assert_close(smoother.weight, torch.from_numpy(wanted))
    factor = 4 / (3 * radius) if name == "jacobi" else 1.0
    np.testing.assert_allclose(smoother.steps, [(factor, 0.0)] * 2, atol=1e-6)


@pytest.mark.parametrize("unsymmetric", [False, True])
def test_blocks_of_nodes_are_least_squares(unsymmetric: bool) -> None:
    rng = np.random.default_rng(0)
    D = np.kron(poisson(4, 3).toarray() != 0, np.ones((3, 3))) * rng.standard_normal((36, 36))
    D[4] = 2 * D[3]  # the rows of this node depend on each other
    A = sp.csr_array(D)
    flat = rows(A)
    nodes = grouped(flat.crow, flat.ccol, flat.values, 3)
    smoother, _ = make_smoother("spai0", 2, flat, nodes=nodes, unsymmetric=unsymmetric)
    M = smoother.from_zero(rows(sp.csr_array((36, 36))), torch.eye(36, dtype=torch.float64))
    M = M / sum(alpha for alpha, _ in smoother.steps)
    wanted = np.zeros((36, 36))
    for i in range(0, 36, 3):
        here = slice(i, i + 3)
        # M A_i: = E_i:, each row of M by itself
        block = np.linalg.lstsq(D[here].T, np.eye(36)[:, here], rcond=None)[0].T
        wanted[here, here] = block if unsymmetric else (block + block.T) / 2
    wanted[3:6, 3:6] = np.diag(np.diag(D)[3:6] / (D[3:6] ** 2).sum(1))
    np.testing.assert_allclose(M.numpy(), wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("block", [1, 3])
def test_least_squares_weights_let_no_error_grow(block: int) -> None:
    """In solids ``M A`` has eigenvalues above 2, where a step of ``M`` would make errors larger."""
    A, points = elastic((4, 4, 4))
    flat = rows(A)
    nodes = grouped(flat.crow, flat.ccol, flat.values, block)
    smoother, _ = make_smoother("spai0", 1, flat, nodes=nodes)
    S = torch.eye(A.shape[0], dtype=torch.float64)
    S = S - smoother.from_zero(flat, torch.from_numpy(A.toarray()))
    assert torch.linalg.eigvals(S).abs().max() < 1
    options = AMG(block=block, smoother="spai0", coarse_size=40)
    pattern, values = split(A)
    hierarchy = DeviceAggregation(pattern, values, options, rigid_body_modes(points))
    B = hierarchy.apply(torch.eye(A.shape[0], dtype=torch.float64))
    assert torch.linalg.eigvalsh((B + B.T) / 2)[0] > 0


@pytest.mark.parametrize("cycle", ["V", "W"])
@pytest.mark.parametrize("smoother", ["chebyshev", "jacobi", "spai0"])
@pytest.mark.parametrize("sweeps", [1, 2])
@pytest.mark.parametrize("scale", [1.0, 1e40])
def test_what_a_cycle_leaves(cycle: str, smoother: str, sweeps: int, scale: float) -> None:
    """``I - B A = S (I - P B_c A_c ... R A) S``, with the square of what the coarse cycle leaves for W."""
    A = delaunay(260, 2, 5.0) * scale
    pattern, values = split(A)
    options = AMG(dtype="float64", coarse_size=8, cycle=cycle, smoother=smoother, sweeps=sweeps)
    hierarchy = DeviceAggregation(pattern, values, options, None)
    stages = hierarchy._forward.stages
    assert len(stages) >= 3

    def left(i: int) -> Tensor:
        s = stages[i]
        M = dense(s.A)
        eye = torch.eye(len(M), dtype=torch.float64)
        if s.P is None:
            return torch.zeros_like(M)
        P = dense(s.P)
        smoothed = eye - s.smoother.from_zero(s.A, eye) @ M
        coarse = left(i + 1)
        small = stages[i + 1]
        if cycle == "W" and small.P is not None and small.A.n_rows < 0.4 * s.A.n_rows:
            coarse = coarse @ coarse
        back = torch.eye(P.shape[1], dtype=torch.float64) - coarse
        correction = eye - P @ back @ torch.linalg.solve(dense(small.A), P.T @ M)
        return smoothed @ correction @ smoothed

    eye = torch.eye(A.shape[0], dtype=torch.float64)
    B = hierarchy.apply(eye)
    found = eye - B @ torch.from_numpy(A.toarray())
    torch.testing.assert_close(found, left(0), rtol=0, atol=1e-8)


@pytest.mark.parametrize("scale", [1e-30, 1e25])
def test_a_lattice_of_other_units_has_the_inverse_of_other_units(scale: float) -> None:
    pattern, values = split(poisson(12, 10))
    b = torch.linspace(-1, 1, 120, dtype=torch.float64)
    one, two = (DeviceLattice(pattern, s * values, AMG()).apply(b) for s in (1.0, scale))
    torch.testing.assert_close(two * scale, one, rtol=1e-5, atol=1e-6)
    exact = torch.linalg.solve(torch.from_numpy(poisson(12, 10).toarray()), b)
    assert float((one - exact).norm()) < 0.3 * float(exact.norm())


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("nullity", [0, 1, 3])
@pytest.mark.parametrize("spread", [1.0, 1e8])
def test_the_coarsest_matrix_has_a_generalised_inverse(
    spread: float, nullity: int, symmetric: bool
) -> None:
    n, generator = 9, torch.Generator().manual_seed(7)
    X = torch.randn(n, n - nullity, dtype=torch.float64, generator=generator)
    Y = X if symmetric else torch.randn(n, n - nullity, dtype=torch.float64, generator=generator)
    A = X @ Y.T
    if not symmetric:
        A = A + 0.0 if nullity else A + 4 * torch.eye(n, dtype=torch.float64)
    size = spread ** torch.linspace(0, 0.5, n, dtype=torch.float64)
    found = coarse_inverse(A, torch.float64, CPU)
    assert found.nullity == nullity
    B = found.inverse
    torch.testing.assert_close(A @ B @ A, A, rtol=0, atol=1e-8 * float(A.abs().max()))
    torch.testing.assert_close(B @ A @ B, B, rtol=0, atol=1e-8 * float(B.abs().max()))
    scaled = coarse_inverse(A * size * size[:, None], torch.float64, CPU)
    assert scaled.nullity == nullity
    assert math.isclose(scaled.pivot, found.pivot, rel_tol=1e-6, abs_tol=1e-12)
    torch.testing.assert_close(scaled.inverse * size * size[:, None], B, rtol=1e-6, atol=1e-8)
    if symmetric and not nullity:
        d = A.diagonal().rsqrt()
        pivot = torch.linalg.cholesky(A * d * d[:, None]).diagonal().square().min()
        assert found.pivot == pytest.approx(float(pivot))


@pytest.mark.parametrize("small", [1e-9, 1e-5])
def test_the_inverse_of_the_coarsest_matrix_is_bounded(small: float) -> None:
    A = torch.tensor([[1.0, small - 1.0], [small - 1.0, 1.0]], dtype=torch.float64)
    for least in (0.0, 1e-6):
        found = coarse_inverse(A, torch.float64, CPU, least)
        # Eigenvalues of A are small and 2 - small.
        expected = [1 / (2 - small), 1 / max(small, least * (2 - small))]
        assert torch.linalg.eigvalsh(found.inverse).tolist() == pytest.approx(expected, rel=1e-5)


def graph(edges: list[tuple[int, int, float]], n: int) -> Strong:
    S = torch.full((n, n), float("nan"))
    S.fill_diagonal_(-torch.inf)
    for i, j, weight in edges:
        S[i, j] = S[j, i] = weight
    on = ~S.isnan()
    crow = torch.cat([torch.zeros(1, dtype=torch.int64), on.sum(1).cumsum(0)])
    return Strong(crow.int(), on.nonzero()[:, 1].int(), S[on])


def test_aggregates_cover_what_is_coupled_and_are_whole() -> None:
    """Every coupled row is in one aggregate, whose rows hang together and are few steps apart."""
    A = delaunay(900, 2, 30.0)
    pattern, values = split(A)
    kept = DeviceAggregation(pattern, values, AMG(dtype="float64"), None)._kept[0]
    S = strong_part(A.toarray(), 0.25) != 0
    group = kept.group.numpy()
    coupled = S.sum(1) > 1
    assert ((group >= 0) == coupled).all()
    assert set(group[coupled]) == set(range(kept.count))
    assert kept.count < 0.3 * coupled.sum()
    for g in range(kept.count):
        inside = S[np.ix_(group == g, group == g)]
        near = np.linalg.matrix_power(inside.astype(float), 4) > 0
        assert near.all()


@pytest.mark.parametrize("heavy", [3, 4])
def test_a_row_between_two_aggregates_joins_the_stronger(heavy: int) -> None:
    """Stars about 1 and 6, and row 2 between a tip of each."""
    weight = {3: 0.3, 4: 0.3, heavy: 0.9}
    edges = [(1, 0, 1.0), (1, 4, 1.0), (6, 3, 1.0), (6, 5, 1.0)]
    group, count = aggregate(graph([*edges, (2, 3, weight[3]), (2, 4, weight[4])], 7))
    assert count == 2
    assert group[1] == group[0] == group[4] != group[6] == group[3] == group[5]
    assert group[2] == group[heavy]


def test_rows_on_their_own_are_left_to_the_smoother() -> None:
    group, count = aggregate(graph([(0, 1, 1.0), (3, 4, 1.0)], 5))
    assert count == 2
    assert group[0] == group[1] != group[3] == group[4]
    assert group[2] == -1
