"""Free functions: batches of every layout, partitions."""

from __future__ import annotations

import pytest
import torch

from torch_sla import linalg
from torch_sla.errors import ArgumentError, BackendUnavailableError
from torch_sla.linalg import SparseTensor, cache_counters
from torch_sla.linalg.sparse.partition import partition_graph

N = 6
I = torch.arange(N)
ROW, COL = torch.cat([I, I[1:], I[:-1]]), torch.cat([I, I[:-1], I[1:]])


def values(*batch: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(8)
    v = torch.rand(*batch, len(ROW), dtype=torch.float64, generator=g) - 0.5
    v[..., :N] += 3
    return v


def dense(v: torch.Tensor) -> torch.Tensor:
    return SparseTensor(v, ROW, COL, (*v.shape[:-1], N, N)).to_dense()


@pytest.mark.parametrize("flags", [{}, {"matrix_type": "general"}, {"is_symmetric": False}])
def test_one_system(flags: dict) -> None:
    v, b = values(), torch.ones(N, dtype=torch.float64)
    x = linalg.spsolve(v, ROW, COL, (N, N), b, tol=1e-12, **flags)
    torch.testing.assert_close(dense(v) @ x, b)
    D = dense(v)
    for A, solve in (
        (D.to_sparse_coo(), linalg.spsolve_coo),
        (D.to_sparse_csr(), linalg.spsolve_csr),
    ):
        torch.testing.assert_close(solve(A, b, **flags), x)
    S = torch.where(torch.arange(len(ROW)) < N, 3.0, -1.0).double()
    y, info = linalg.spsolve(S, ROW, COL, (N, N), b, is_spd=True, info=True)
    assert info.converged
    torch.testing.assert_close(dense(S) @ y, b)
    with pytest.raises(ArgumentError, match="matrix_type"):
        linalg.spsolve(v, ROW, COL, (N, N), b, matrix_type="funny")


def test_gradients_reach_torch_sparse_tensors() -> None:
    D = dense(values()).requires_grad_()
    b = torch.ones(N, dtype=torch.float64)
    linalg.spsolve_coo(D.to_sparse_coo(), b).sum().backward()
    other = D.detach().clone().requires_grad_()
    torch.linalg.solve(other, b).sum().backward()
    torch.testing.assert_close(D.grad, other.grad * (D.detach() != 0))


def test_batches_of_every_layout() -> None:
    v = values(3)
    b = torch.randn(3, N, dtype=torch.float64)
    exact = torch.linalg.solve(dense(v), b)
    torch.testing.assert_close(linalg.spsolve_batch_same_layout(v, ROW, COL, (N, N), b), exact)
    each = [(item, ROW, COL, (N, N)) for item in v]
    for x, y in zip(linalg.spsolve_batch_different_layout(each, list(b)), exact, strict=True):
        torch.testing.assert_close(x, y)
    sparse = [dense(item).to_sparse_coo() for item in v]
    torch.testing.assert_close(linalg.spsolve_batch_coo_same_layout(sparse, b), exact)
    declared = linalg.spsolve_batch_coo_same_layout(sparse, b, matrix_type="general")
    torch.testing.assert_close(declared, exact)
    for x, y in zip(linalg.spsolve_batch_coo_different_layout(sparse, list(b)), exact, strict=True):
        torch.testing.assert_close(x, y)
    with pytest.raises(ArgumentError, match="positions"):
        linalg.spsolve_batch_coo_same_layout([sparse[0], torch.eye(N).double().to_sparse()], b[:2])
    with pytest.raises(ArgumentError, match="right-hand sides"):
        linalg.spsolve_batch_coo_different_layout(sparse, list(b[:1]))


def test_the_batch_solver_analyses_once() -> None:
    solver = linalg.ParallelBatchSolver(ROW, COL, (N, N), backend="eigen", method="lu")
    v, b = values(4), torch.ones(N, 2, dtype=torch.float64)
    before = cache_counters()["analyze"]
    for scale in (1.0, 2.0):
        x = solver.solve(scale * v, b.expand(4, N, 2))
        torch.testing.assert_close(scale * dense(v) @ x, b.expand(4, N, 2))
    assert cache_counters()["analyze"] <= before + 1


def test_partitions() -> None:
    assert torch.bincount(linalg.partition_simple(10, 3)).tolist() == [4, 3, 3]
    g = torch.Generator().manual_seed(6)
    x = torch.rand(101, 3, generator=g)
    for parts in (1, 3, 8):
        counts = torch.bincount(linalg.partition_coordinates(x, parts), minlength=parts)
        assert int(counts.max() - counts.min()) <= 4
        assert int(counts.sum()) == 101
    with pytest.raises(ArgumentError, match="num_parts"):
        linalg.partition_simple(10, 0)


def test_partition_of_a_graph() -> None:
    """A path in any order, in two pieces: parts are runs of it, and sizes are those of the weights."""
    path = torch.randperm(100, generator=torch.Generator().manual_seed(1))
    kept = torch.arange(99) != 60
    row, col = path[:-1][kept], path[1:][kept]
    for parts in (1, 3, 8, 100):
        part = partition_graph(row, col, 100, parts)
        counts = torch.bincount(part, minlength=parts)
        assert int(counts.max() - counts.min()) <= 1
        assert int((part[row] != part[col]).sum()) <= parts
    heavy = torch.ones(100, dtype=torch.int64)
    heavy[path[:10]] = 91
    part = partition_graph(row, col, 100, 2, heavy)
    sizes = torch.zeros(2, dtype=torch.int64).index_add_(0, part, heavy)
    assert int(sizes.max()) <= 500 + 91
    assert partition_graph(row[:0], col[:0], 0, 4).numel() == 0


def test_partition_by_metis_or_a_reason() -> None:
    try:
        import pymetis  # noqa: F401
    except ImportError:
        with pytest.raises(BackendUnavailableError, match="pymetis"):
            linalg.partition_graph_metis(ROW, COL, N, 2)
    else:
        assert set(linalg.partition_graph_metis(ROW, COL, N, 2).tolist()) == {0, 1}


def test_every_public_name_loads() -> None:
    for name in linalg.__all__:
        assert getattr(linalg, name) is not None
    assert set(linalg.__all__) == set(linalg._HOME)


@pytest.mark.parametrize("shape", [(7, N, N), (2, 1, N, N), (N,)])
def test_a_shape_of_another_batch_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ArgumentError, match=r"`shape` must be \(M, N\) or"):
        linalg.spsolve_batch_same_layout(values(2), ROW, COL, shape, torch.ones(N).double())
