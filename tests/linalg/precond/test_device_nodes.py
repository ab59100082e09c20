"""Aggregation on a device for unknowns in nodes: diagonal blocks in place of the diagonal, and of its inverse."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from tests.helpers.grids import rhs
from tests.helpers.meshed import elastic, poisson, split
from torch_sla.errors import Result, SolveError
from torch_sla.linalg.kernels import unavailable
from torch_sla.linalg.kernels.rows import Rows
from torch_sla.linalg.methods.outcome import KrylovOptions
from torch_sla.linalg.precond.multigrid import AMG, Hierarchy, rigid_body_modes
from torch_sla.linalg.precond.multigrid.device.aggregation import DeviceAggregation
from torch_sla.linalg.precond.multigrid.device.blocks import grouped
from torch_sla.linalg.precond.multigrid.device.nodes import inverse_blocks
from torch_sla.linalg.precond.multigrid.device.smoothers import Smoother, make_smoother

TOLERANCE = KrylovOptions(rtol=1e-8, maxiter=100)


def turned_springs(nodes: int, stiffness: float, seed: int = 0) -> sp.csr_array:
    """A stiff spring of each node of a plane to the ground, in a direction of its own."""
    angle = np.pi * np.random.default_rng(seed).random(nodes)
    along = np.stack([np.cos(angle), np.sin(angle)], 1)
    return sp.csr_array(sp.block_diag(list(stiffness * along[:, :, None] * along[:, None, :])))


def coupled(kind: str) -> sp.csr_array:
    P = poisson(24, 24)
    if kind == "springs":
        return sp.csr_array(sp.kron(P, np.eye(2)) + turned_springs(576, 1e3))
    share = float(kind)
    return sp.csr_array(sp.kron(P, [[1.0, share], [share, 1.0]]))


def smoother_of(A: sp.csr_array, name: str, edge: int) -> tuple[Smoother, float]:
    pattern, values = split(A)
    flat = Rows.of(pattern.crow, pattern.ccol, values, A.shape[0])
    return make_smoother(name, 1, flat, nodes=grouped(flat.crow, flat.ccol, values, edge))


@pytest.mark.skipif(unavailable() is not None, reason="needs the extension")
@pytest.mark.parametrize("smoother", ["chebyshev", "jacobi", "spai0"])
@pytest.mark.parametrize("kind", ["0.95", "0.999", "springs"])
def test_about_as_many_iterations_as_the_compiled_hierarchy(smoother: str, kind: str) -> None:
    pattern, values = split(coupled(kind))
    options = AMG(method="smoothed_aggregation", block=2, coarse_size=50, smoother=smoother)
    here = DeviceAggregation(pattern, values, options, None)
    outcomes = [
        h.cg(values, rhs(1152), options=TOLERANCE)
        for h in (here, Hierarchy(pattern, values, options))
    ]
    assert [out.result for out in outcomes] == [Result.CONVERGED] * 2
    device, compiled = (out.iterations for out in outcomes)
    assert device <= 1.4 * compiled


@pytest.mark.parametrize("name", ["chebyshev", "jacobi"])
@pytest.mark.parametrize("turned", [False, True], ids=["symmetric", "not symmetric"])
def test_blocks_are_inverses(name: str, turned: bool) -> None:
    rng = np.random.default_rng(1)
    D = np.kron(poisson(4, 3).toarray(), np.eye(3)) + 0.1 * rng.standard_normal((36, 36))
    D[:3, :3] = [[2.0, -1.0, -1.0], [-1.0, 2.0, -1.0], [-1.0, -1.0, 2.0]]  # moves as a whole
    D[6:9] = D[:, 6:9] = 0.0  # a node of nothing
    D[3, 3] = 1e6  # beside numbers of about one
    if not turned:
        D = (D + D.T) / 2
    smoother, radius = smoother_of(sp.csr_array(D), name, 3)
    M = np.zeros_like(D)
    for i in range(0, 36, 3):
        here = slice(i, i + 3)
        M[here, here] = np.linalg.inv(D[here, here]) if i not in (0, 6) else 0.0
    M[:3, :3] = np.linalg.pinv(D[:3, :3])
    found = torch.block_diag(*smoother.weight).numpy()
    np.testing.assert_allclose(found, M, rtol=1e-9, atol=1e-12)
    if not turned:
        assert np.array_equal(found, found.T)
        true = np.abs(np.linalg.eigvals(M @ D)).max()
        assert 0.95 * true <= radius <= 1.1001 * true


@pytest.mark.parametrize("name", ["chebyshev", "jacobi"])
def test_steps_are_those_of_the_blocks(name: str) -> None:
    A = coupled("0.95")[:60, :60]
    smoother, _ = smoother_of(A, name, 2)
    D, M = A.toarray(), torch.block_diag(*smoother.weight).numpy()
    pattern, values = split(A)
    rows = Rows.of(pattern.crow, pattern.ccol, values, 60)
    b, x = rhs(60, 2).numpy(), rhs(60, 2).numpy()[::-1].copy()
    for start in (None, x):
        now, before = (np.zeros_like(b) if start is None else start), None
        for alpha, momentum in smoother.steps:
            after = now + alpha * M @ (b - D @ now)
            after += 0 if before is None else momentum * (now - before)
            now, before = after, now
        given = torch.from_numpy(b)
        from_zero = start is None
        found = (
            smoother.from_zero(rows, given)
            if from_zero
            else smoother(rows, torch.from_numpy(x), given)
        )
        np.testing.assert_allclose(found.numpy(), now, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("strength", [0.08, 0.6])
def test_transfers_are_smoothed_by_blocks(strength: float) -> None:
    """``P = (I - 4/(3 rho) D⁻¹ S) T``, and ``D`` what weak couplings leave of the blocks, if that is much."""
    stretched = sp.kron(poisson(9, 8, weights=(1.0, 3.0)), [[1.0, 0.9], [0.9, 1.0]])
    A = sp.csr_array(stretched + turned_springs(72, 10.0))
    options = AMG(dtype="float64", coarse_size=8, strength=strength, block=2, max_levels=2)
    pattern, values = split(A)
    hierarchy = DeviceAggregation(pattern, values, options, None)
    kept, P = hierarchy._kept[0], hierarchy._forward.stages[0].P
    nodes = grouped(pattern.crow, pattern.ccol, values, 2)
    assert P is not None
    D, n = A.toarray(), 72
    strong = sp.csr_array((kept.strong.numpy() > 0, nodes.ccol, nodes.crow), (n, n)).toarray()
    assert strength < 0.5 or not strong.all()
    S = np.where(np.kron(strong, np.ones((2, 2))), D, 0.0)
    inverse = np.zeros_like(D)
    for i in range(0, 2 * n, 2):
        here = slice(i, i + 2)
        own = D[here, here]
        left = own + (D - S)[here].reshape(2, n, 2).sum(1)
        if np.linalg.eigvals(np.linalg.solve(own, left)).real.min() > 0.1:
            S[here, here] = left
        inverse[here, here] = np.linalg.inv(S[here, here])
    T = np.kron(kept.group.numpy()[:, None] == np.arange(kept.count), np.eye(2))
    _, radius = smoother_of(A, "chebyshev", 2)
    wanted = T - 4 / (3 * radius) * inverse @ S @ T
    found = sp.csr_array((P.values, P.ccol, P.crow), (P.n_rows, P.n_cols)).toarray()
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)  # the factor is of float32


def test_stiff_blocks_in_single_precision_are_least_squares() -> None:
    """Single precision tells these rows apart, the squares of its numbers in single precision do not."""
    single = sp.csr_array(coupled("0.99999")[:60, :60].astype(np.float32))
    D = single.toarray().astype(float)
    smoother, _ = smoother_of(single, "spai0", 2)
    for node, found in enumerate(smoother.weight.numpy()):
        here = slice(2 * node, 2 * node + 2)
        block = np.linalg.lstsq(D[here].T, np.eye(60)[:, here], rcond=None)[0].T
        np.testing.assert_allclose(found, (block + block.T) / 2, rtol=1e-5)


def test_transfers_of_stiff_nodes_in_single_precision_are_smoothed() -> None:
    """With one block in all nodes ``D⁻¹ A`` knows nothing of it."""
    single, n = sp.csr_array(coupled("0.99999").astype(np.float32)), 576
    pattern, values = split(single)
    options = AMG(dtype="float64", coarse_size=8, block=2, max_levels=2)
    hierarchy = DeviceAggregation(pattern, values, options, None)
    kept, P = hierarchy._kept[0], hierarchy._forward.stages[0].P
    assert P is not None
    L = poisson(24, 24).toarray()
    T = (kept.group.numpy()[:, None] == np.arange(kept.count)).astype(float)
    _, radius = smoother_of(single, "chebyshev", 2)
    wanted = T - 4 / (3 * radius) * (L @ T) / L[0, 0]
    found = sp.csr_array((P.values, P.ccol, P.crow), (P.n_rows, P.n_cols)).toarray()
    found = found.reshape(n, 2, -1, 2)
    np.testing.assert_allclose(found[:, 0, :, 0], wanted, atol=0.05)
    np.testing.assert_allclose(found[:, 1, :, 1], wanted, atol=0.05)


def test_rounding_of_the_matrix_is_not_inverted() -> None:
    """Springs along one direction each, in single precision under levels in double precision."""
    springs = turned_springs(40, 1.0)
    pattern, values = split(springs)
    nodes = grouped(pattern.crow, pattern.ccol, values.float(), 2)
    assert not inverse_blocks(nodes, torch.float64)[1]
    M, _ = inverse_blocks(nodes, torch.float64, singular=True)
    M = M.numpy()
    D = springs.toarray().reshape(40, 2, 40, 2)[range(40), :, range(40)]
    np.testing.assert_allclose(D @ M @ D, D, atol=1e-5)
    size = np.linalg.norm(M, axis=(1, 2))
    np.testing.assert_allclose(np.linalg.det(M) / size**2, 0.0, atol=1e-6)  # of rank one


@pytest.mark.parametrize("strength", [0.08, 0.6])
def test_the_cycle_of_the_negative_matrix_is_the_negative_one(strength: float) -> None:
    stretched = sp.kron(poisson(9, 8, weights=(1.0, 3.0)), [[1.0, 0.9], [0.9, 1.0]])
    pattern, values = split(sp.csr_array(stretched + turned_springs(72, 10.0)))
    options = AMG(dtype="float64", coarse_size=8, strength=strength, block=2)
    B, other = (
        DeviceAggregation(pattern, v, options, None).apply(torch.eye(144, dtype=torch.float64))
        for v in (values, -values)
    )
    torch.testing.assert_close(other, -B, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("every", [2, 14])
@pytest.mark.parametrize("smoother", ["chebyshev", "spai0"])
def test_a_node_may_have_an_unknown_without_entries(smoother: str, every: int) -> None:
    """Iterations are about those of the unknowns that there are."""
    used = np.arange(1152) % every != 1
    A = sp.csr_array(coupled("0.95").multiply(used[:, None] & used))
    A.eliminate_zeros()
    options = AMG(block=2, coarse_size=50, smoother=smoother)
    b = rhs(1152) * torch.from_numpy(used)[:, None]
    pattern, values = split(A)
    hierarchy = DeviceAggregation(pattern, values, options, None)
    hierarchy.update(values)
    out = hierarchy.cg(values, b, options=TOLERANCE)
    assert out.result is Result.CONVERGED
    assert out.iterations <= 16
    wanted = np.linalg.solve(A.toarray()[np.ix_(used, used)], b.numpy()[used])
    np.testing.assert_allclose(out.x.numpy()[used], wanted, rtol=1e-6, atol=1e-6)


def test_a_row_with_entries_and_no_diagonal_is_named() -> None:
    A = coupled("0.95").tolil()
    A[8, :] = A[:, 8] = 0.0  # of this one nothing is left
    A[13, 13] = 0.0
    pattern, values = split(sp.csr_array(A))
    with pytest.raises(SolveError, match=r"the diagonal of row 13 is zero"):
        DeviceAggregation(pattern, values, AMG(block=2), None)


@pytest.mark.parametrize("smoother", ["chebyshev", "jacobi", "spai0"])
def test_the_cycle_is_symmetric_and_its_own_adjoint(smoother: str) -> None:
    A, points = elastic((4, 3, 3))
    options = AMG(dtype="float64", coarse_size=20, smoother=smoother)
    hierarchy = DeviceAggregation(*split(A), options, rigid_body_modes(points))
    assert len(hierarchy.levels) > 1
    assert hierarchy._forward.stages[0].smoother.weight.shape == (80, 3, 3)
    B = hierarchy.apply(torch.eye(240, dtype=torch.float64))
    torch.testing.assert_close(B, B.T, rtol=1e-10, atol=1e-12)
    assert torch.linalg.eigvalsh(B).min() > 0
    assert hierarchy._one(adjoint=True) is hierarchy._forward  # and nothing is kept twice


def test_the_adjoint_turns_blocks_that_are_not_symmetric() -> None:
    within = np.array([[1.0, 0.9], [-0.4, 1.0]])
    options = AMG(block=2, dtype="float64", coarse_size=10)
    hierarchy = DeviceAggregation(
        *split(sp.csr_array(sp.kron(poisson(9, 7), within))), options, None
    )
    eye = torch.eye(126, dtype=torch.float64)
    B, transposed = hierarchy.apply(eye), hierarchy.apply_adjoint(eye)
    torch.testing.assert_close(transposed, B.T, rtol=1e-10, atol=1e-12)


def test_new_values_make_new_blocks() -> None:
    """Couplings to other nodes, which alone decide what is strong, stay as they are."""
    P = sp.kron(poisson(16, 16), np.eye(2))
    options = AMG(block=2, coarse_size=30)
    pattern, values = split(sp.csr_array(P + turned_springs(256, 1e3)))
    hierarchy = DeviceAggregation(pattern, values, options, None)
    _, other = split(sp.csr_array(P + turned_springs(256, 10.0, seed=1)))
    hierarchy.update(other)
    fresh = DeviceAggregation(pattern, other, options, None)
    assert torch.equal(hierarchy.apply(rhs(512)), fresh.apply(rhs(512)))
