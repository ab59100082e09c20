"""Fused products and row reductions: torch's versions here, Triton's where it can run.

``TRITON_INTERPRET=1`` with triton installed runs Triton's kernels on the CPU.
"""

from __future__ import annotations

import itertools
import os

import pytest
import torch
from torch import Tensor

from torch_sla.linalg.kernels import (
    independent,
    rows,
    sparse as kernels,
    sparse_fallback,
    triton,
)
from torch_sla.linalg.kernels.independent import independent_rows
from torch_sla.linalg.kernels.rows import Rows

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu"
in_triton = pytest.mark.skipif(
    not triton.runs(torch.ones(1, device=DEVICE)),
    reason="no CUDA device with triton, and TRITON_INTERPRET=1 is not set",
)
VALUES = (torch.float32, torch.float64, torch.complex64, torch.complex128)


def pattern(M: int, N: int, nnz: int, index: torch.dtype = torch.int32) -> tuple[Tensor, Tensor]:
    row, col = torch.randint(M, (nnz,), dtype=index), torch.randint(N, (nnz,), dtype=index)
    crow, ccol, _ = sparse_fallback.coo_to_csr(row, col, M, N)
    return crow, ccol


def square(n: int, nnz: int, dtype: torch.dtype) -> Rows:
    crow, ccol = pattern(n, n, nnz)
    return Rows.of(crow, ccol, torch.randn(ccol.numel(), dtype=dtype), n)


def moved(A: Rows) -> Rows:
    return Rows(A.crow.to(DEVICE), A.ccol.to(DEVICE), A.values.to(DEVICE), A.n_cols, A.longest)


def dense(A: Rows) -> Tensor:
    row = sparse_fallback.expand_rows(A.crow, A.nnz).long()
    out = A.values.new_zeros(A.n_rows, A.n_cols)
    out[row, A.ccol.long()] = A.values
    return out


def close(got: Tensor, expected: Tensor) -> None:
    single = expected.dtype in (torch.float32, torch.complex64)
    tolerance = 1e-4 if single else 1e-12
    torch.testing.assert_close(got.cpu(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("where", ["here", pytest.param("triton", marks=in_triton)])
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize(
    ("matrix", "vector"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.float32, torch.float64),
    ],
)
def test_fused_products(where: str, k: int, matrix: torch.dtype, vector: torch.dtype) -> None:
    A = square(60, 400, matrix)
    D = dense(A).to(vector)
    x, b, z = (torch.randn(60, k, dtype=vector) for _ in range(3))
    w = torch.randn(60, dtype=matrix)
    if where == "here":
        B, there = A, (x, b, z, w)
    else:
        B, there = moved(A), tuple(t.to(DEVICE) for t in (x, b, z, w))
    xd, bd, zd, wd = there
    close(rows.product(B, xd), D @ x)
    close(rows.residual(B, xd, bd), b - D @ x)
    close(rows.add_product(B, xd, bd), b + D @ x)
    step = 0.5 * w.unsqueeze(1) * (b - D @ x)
    close(rows.relax(B, xd, bd, wd, 0.5), x + step)
    close(rows.relax(B, xd, bd, wd, 0.5, momentum=0.25), 1.25 * x + step)
    close(rows.relax(B, xd, bd, wd, 0.5, before=zd, momentum=0.25), 1.25 * x - 0.25 * z + step)


@pytest.mark.parametrize("where", ["here", pytest.param("triton", marks=in_triton)])
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("edge", [2, 3, 6])
@pytest.mark.parametrize("matrix", [torch.float32, torch.float64])
def test_steps_with_a_block_for_each_node(
    where: str, k: int, edge: int, matrix: torch.dtype
) -> None:
    A = square(60, 400, matrix)
    D = dense(A).double()
    x, b, z = (torch.randn(60, k, dtype=torch.float64) for _ in range(3))
    w = torch.randn(60 // edge, edge, edge, dtype=matrix)
    B, (xd, bd, zd, wd) = A, (x, b, z, w)
    if where == "triton":
        B, (xd, bd, zd, wd) = moved(A), (t.to(DEVICE) for t in (x, b, z, w))
    W = torch.block_diag(*w.double())
    step = 0.5 * W @ (b - D @ x)
    close(rows.relax(B, xd, bd, wd, 0.5), x + step)
    close(rows.relax(B, xd, bd, wd, 0.5, before=zd, momentum=0.25), 1.25 * x - 0.25 * z + step)
    close(rows.weighted(wd, bd, 0.5), 0.5 * W @ b)
    norm = torch.tensor(3.0, dtype=torch.float64)
    close(rows.scaled_product(B, xd, wd, norm.to(xd.device)), W @ D @ x / 3)


@pytest.mark.parametrize("where", ["here", pytest.param("triton", marks=in_triton)])
@pytest.mark.parametrize("longest", [12, 300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_row_sizes(where: str, longest: int, dtype: torch.dtype) -> None:
    length = torch.tensor([0, 3, longest, 1, 0, 7])
    crow = torch.nn.functional.pad(length.cumsum(0), (1, 0)).int()
    ccol = torch.cat([torch.arange(n) for n in length.tolist()]).int()
    A = Rows.of(crow, ccol, torch.randn(len(ccol), dtype=dtype), 300)
    B = A if where == "here" else moved(A)
    close(rows.row_sizes(B), dense(A).abs().sum(1))
    close(rows.row_sizes(B, squares=True), dense(A).square().sum(1))


@pytest.mark.parametrize("where", ["here", pytest.param("triton", marks=in_triton)])
def test_row_max(where: str) -> None:
    crow, ccol = pattern(50, 30, 120)
    device = DEVICE if where == "triton" else "cpu"
    row = sparse_fallback.expand_rows(crow, ccol.numel()).long()
    for source, least in (
        (torch.randint(1 << 60, (30,)), -1),
        (torch.randn(30, dtype=torch.float64), float("-inf")),
    ):
        taken = source[ccol.long()]
        expected = source.new_full((50,), least).scatter_reduce(0, row, taken, "amax")
        moved_to = [t.to(device) for t in (crow, source, ccol, taken)]
        assert torch.equal(rows.row_max(*moved_to[:3], least).cpu(), expected)
        got = rows.row_max(moved_to[0], moved_to[3], None, least)
        assert torch.equal(got.cpu(), expected)


@pytest.mark.parametrize("where", ["here", pytest.param("triton", marks=in_triton)])
def test_independent_rows(where: str) -> None:
    n = 300
    row, col = torch.randint(n, (400,)), torch.randint(n, (400,))
    row, col = torch.cat([row, col, torch.arange(n)]), torch.cat([col, row, torch.arange(n)])
    crow, ccol, _ = sparse_fallback.coo_to_csr(row, col, n, n)
    near = torch.zeros(n, n)
    near[row, col] = 1.0
    near = (near @ near) > 0  # within two steps
    free = torch.rand(n) < 0.8
    device = DEVICE if where == "triton" else "cpu"
    got = independent_rows(*(t.to(device) for t in (crow, ccol, free))).cpu()
    assert not (got & ~free).any()
    assert torch.equal(near[got][:, got], torch.eye(int(got.sum())) > 0)
    assert (near[:, got].any(1) | ~free).all()
    if where == "triton":
        key = torch.where(free, independent._priority(n, free.device) | independent.UNDECIDED, 0)
        while independent._decide(crow, ccol, rows.row_max(crow, key, ccol, 0), key):
            pass
        assert torch.equal(got, key >= independent.ROOT)


@in_triton
@pytest.mark.parametrize("dtype", VALUES)
@pytest.mark.parametrize("index", [torch.int32, torch.int64])
def test_triton_agrees_with_the_fallback(dtype: torch.dtype, index: torch.dtype) -> None:
    M, N = 40, 31
    crow, ccol = pattern(M, N, 200, index)
    there = (crow.to(DEVICE), ccol.to(DEVICE))
    crow_t, ccol_t, perm = sparse_fallback.transpose_csr(crow, ccol, N)
    for k, a_batch, x_batch in ((1, 1, 1), (3, 1, 2), (1, 2, 1), (2, 2, 2), (17, 1, 1)):
        a = torch.randn(a_batch, ccol.numel(), dtype=dtype)
        x = torch.randn(x_batch, N, k, dtype=dtype)
        batch = max(a_batch, x_batch)
        expected = sparse_fallback.spmm(crow, ccol, None, a, x.expand(batch, -1, -1), True)
        for longest in (None, int(crow.diff().amax())):
            got = kernels.spmm(*there, a.to(DEVICE), x.to(DEVICE), conj=True, longest=longest)
            close(got, expected)
        u, v = torch.randn(x_batch, M, k, dtype=dtype), x
        expected = sparse_fallback.sampled_product(crow, ccol, u, v)
        close(kernels.sampled_product(*there, u.to(DEVICE), v.to(DEVICE)), expected)
    a, y = torch.randn(1, ccol.numel(), dtype=dtype), torch.randn(1, M, 2, dtype=dtype)
    expected = sparse_fallback.spmm(crow_t, ccol_t, perm, a, y, False)
    got = kernels.spmm(
        crow_t.to(DEVICE), ccol_t.to(DEVICE), a.to(DEVICE), y.to(DEVICE), slots=perm.to(DEVICE)
    )
    close(got, expected)
    offsets, order = sparse_fallback.segment_order(ccol, N)
    x = torch.randn(2, ccol.numel(), 3, dtype=dtype)
    expected = sparse_fallback.segment_sum(x, offsets, order)
    close(kernels.segment_sum(x.to(DEVICE), offsets.to(DEVICE), order.to(DEVICE)), expected)
    slots = kernels.diagonal_slots(*there, N)
    assert torch.equal(slots.cpu(), sparse_fallback.diagonal_slots(crow, ccol, min(M, N)))


@in_triton
@pytest.mark.parametrize("k", [1, 3])
def test_a_few_long_rows(k: int) -> None:
    lengths = torch.tensor([2500, 0, 3, 700] + [2] * 120)
    crow = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    ccol = torch.cat([torch.arange(int(c)) for c in lengths])
    a, x = torch.randn(ccol.numel(), dtype=torch.float64), torch.randn(2500, k).double()
    expected = sparse_fallback.spmm(crow, ccol, None, a[None], x[None], False)[0]
    there = [t.to(DEVICE) for t in (crow, ccol, a, x)]
    for longest in (None, 2500):
        got = kernels.spmm(*there, longest=longest)
        close(got, expected)
        assert torch.equal(got, kernels.spmm(*there, longest=longest))


@in_triton
def test_more_members_than_a_launch_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch_sla.linalg.kernels.triton import csr, rows as entries

    monkeypatch.setattr(csr, "MOST", 2)
    monkeypatch.setattr(entries, "MOST", 2)
    crow, ccol = pattern(9, 7, 30)
    a, x = torch.randn(5, ccol.numel()), torch.randn(5, 7, 2)
    there = [t.to(DEVICE) for t in (crow, ccol, a, x)]
    close(kernels.spmm(*there), sparse_fallback.spmm(crow, ccol, None, a, x, False))
    u = torch.randn(5, 9, 2)
    got = kernels.sampled_product(there[0], there[1], u.to(DEVICE), there[3])
    close(got, sparse_fallback.sampled_product(crow, ccol, u, x))


@in_triton
def test_more_columns_than_a_launch_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch_sla.linalg.kernels.triton import csr, nodes

    monkeypatch.setattr(csr, "MOST", 2)
    monkeypatch.setattr(nodes, "MOST", 2)
    w, b = torch.randn(3, 2, 2), torch.randn(6, 90)
    close(rows.weighted(w.to(DEVICE), b.to(DEVICE)), torch.block_diag(*w) @ b)
    crow, ccol = pattern(9, 7, 30)
    a = torch.randn(ccol.numel())
    for x in (torch.randn(1, 7, 90), torch.randn(45, 7, 2)):
        got = kernels.spmm(*(t.to(DEVICE) for t in (crow, ccol, a, x)))
        close(got, sparse_fallback.spmm(crow, ccol, None, a[None], x, False))


def test_empty_shapes() -> None:
    for M, N in itertools.product((0, 4), repeat=2):
        A = Rows.of(torch.zeros(M + 1, dtype=torch.int32), torch.zeros(0, dtype=torch.int32),
                    torch.zeros(0), N)  # fmt: skip
        assert torch.equal(rows.product(A, torch.ones(N, 2)), torch.zeros(M, 2))
        assert rows.row_max(A.crow, A.values, None, -1.0).tolist() == [-1.0] * M
        for shape in ((), (2, 2), (0,)):
            assert rows.row_sums(A.crow, torch.ones(0, *shape)).equal(torch.zeros(M, *shape))


@in_triton
@pytest.mark.parametrize("n", [5, 400, 1_000_000])
def test_coordinates_in_order_and_not(n: int) -> None:
    # Disorder is full of wide gaps, which no kernel may walk.
    key = torch.randperm(n * 97)[:400].sort().values if n < 1000 else torch.randint(n * 97, (400,))
    key = torch.unique(key)
    row, col = (key // 97).int(), (key % 97).int()
    for order in (slice(None), torch.randperm(row.numel())):
        given = row[order].contiguous(), col[order].contiguous()
        expected = sparse_fallback.coo_to_csr(*given, n, 97)
        got = kernels.coo_to_csr(*(t.to(DEVICE) for t in given), n, 97)
        for a, b in zip(got, expected, strict=True):
            assert (a is None and b is None) or torch.equal(a.cpu(), b)
