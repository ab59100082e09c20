"""Index and value kernels against dense torch, compiled and not."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from tests.helpers.devices import ON_CUDA
from tests.helpers.simulated import SIMULATED
from torch_sla.errors import ArgumentError
from torch_sla.linalg.kernels import arguments, patterns, sparse as kernels, sparse_fallback

if TYPE_CHECKING:
    from collections.abc import Iterator

INDICES = (torch.int32, torch.int64)
VALUES = (torch.float32, torch.float64, torch.complex64, torch.complex128)
# rows, columns, entries drawn with repetition
SHAPES = [(0, 0, 0), (3, 0, 0), (0, 4, 0), (1, 1, 1), (5, 7, 0), (6, 4, 30), (40, 31, 200)]


@pytest.fixture(params=["compiled", "fallback", ON_CUDA])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Which code runs; on CUDA, every tensor that a test makes is there."""
    if request.param == "cuda":
        torch.set_default_device("cuda")
    elif request.param == "fallback":
        for module in (patterns, kernels):
            monkeypatch.setattr(module, "runs_compiled", lambda *_: False)
    elif arguments.compiled is None:
        pytest.skip("the compiled extension is absent")
    yield str(request.param)
    torch.set_default_device(None)


def coordinates(M: int, N: int, nnz: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return (
        torch.randint(M, (nnz,), dtype=dtype) if nnz else torch.empty(0, dtype=dtype),
        torch.randint(N, (nnz,), dtype=dtype) if nnz else torch.empty(0, dtype=dtype),
    )


def dense(row: Tensor, col: Tensor, values: Tensor, M: int, N: int) -> Tensor:
    out = values.new_zeros(M * N)
    return out.index_add(0, row.long() * N + col.long(), values).reshape(M, N)


def csr(M: int, N: int, nnz: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Row pointers, columns and rows of a random pattern."""
    row, col = coordinates(M, N, nnz, dtype)
    crow, ccol, _ = kernels.coo_to_csr(row, col, M, N)
    return crow, ccol, kernels.expand_rows(crow)


def assert_close(got: Tensor, expected: Tensor) -> None:
    assert got.dtype == expected.dtype
    eps = torch.finfo(expected.dtype).eps if not expected.dtype.is_complex else 1e-6
    torch.testing.assert_close(got, expected, rtol=200 * eps, atol=200 * eps)


@pytest.mark.parametrize("index", INDICES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("threads", [1, 3])
def test_coo_to_csr(
    path: str, shape: tuple[int, int, int], index: torch.dtype, threads: int
) -> None:
    M, N, nnz = shape
    row, col = coordinates(M, N, nnz, index)
    crow, ccol, slot = kernels.coo_to_csr(row, col, M, N, threads=threads)
    assert crow.dtype == ccol.dtype == index
    expected = sorted(set(zip(row.tolist(), col.tolist(), strict=True)))
    rows = kernels.expand_rows(crow, threads=threads)
    assert list(zip(rows.tolist(), ccol.tolist(), strict=True)) == expected
    if slot is None:
        assert list(zip(row.tolist(), col.tolist(), strict=True)) == expected
    else:
        assert slot.dtype == index
        assert torch.equal(rows[slot.long()], row)
        assert torch.equal(ccol[slot.long()], col)


def test_sorted_unique_input_needs_no_map(path: str) -> None:
    row, col = torch.tensor([0, 0, 2]), torch.tensor([1, 3, 0])
    crow, ccol, slot = kernels.coo_to_csr(row, col, 3, 4)
    assert slot is None
    assert crow.tolist() == [0, 2, 2, 3]
    assert ccol.data_ptr() != col.data_ptr()  # later edits of the input must not reach the pattern


def test_mixed_index_widths_meet_at_int64(path: str) -> None:
    crow, ccol, slot = kernels.coo_to_csr(
        torch.tensor([1, 0], dtype=torch.int32), torch.tensor([0, 0]), 2, 2
    )
    assert slot is not None
    assert {crow.dtype, ccol.dtype, slot.dtype} == {torch.int64}


def test_strided_indices(path: str) -> None:
    pairs = torch.tensor([[1, 0], [0, 1], [1, 0]])
    crow, ccol, slot = kernels.coo_to_csr(pairs[:, 0], pairs[:, 1], 2, 2)
    assert slot is not None
    assert (crow.tolist(), ccol.tolist(), slot.tolist()) == ([0, 1, 2], [1, 0], [1, 0, 1])


@settings(max_examples=60, deadline=None)
@given(
    entries=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), max_size=25),
    threads=st.integers(1, 4),
)
def test_both_paths_agree_on_indices(entries: list[tuple[int, int]], threads: int) -> None:
    pairs = torch.tensor(entries, dtype=torch.int32).reshape(-1, 2)
    row, col = pairs[:, 0].contiguous(), pairs[:, 1].contiguous()
    for got, expected in (
        (
            kernels.coo_to_csr(row, col, 6, 5, threads=threads),
            sparse_fallback.coo_to_csr(row, col, 6, 5),
        ),
        (
            kernels.segment_order(row, 6, threads=threads),
            sparse_fallback.segment_order(row, 6),
        ),
    ):
        for a, b in zip(got, expected, strict=True):
            assert (a is None and b is None) or torch.equal(a, b)


@pytest.mark.parametrize("index", INDICES)
@pytest.mark.parametrize("shape", SHAPES)
def test_transpose_and_diagonal(path: str, shape: tuple[int, int, int], index: torch.dtype) -> None:
    M, N, nnz = shape
    crow, ccol, row = csr(M, N, nnz, index)
    values = torch.randn(ccol.numel(), dtype=torch.float64)
    A = dense(row, ccol, values, M, N)
    for threads in (1, 3):
        crow_t, ccol_t, perm = kernels.transpose_csr(crow, ccol, N, threads=threads)
        assert crow_t.dtype == ccol_t.dtype == perm.dtype == index
        transposed = dense(kernels.expand_rows(crow_t), ccol_t, values[perm.long()], N, M)
        torch.testing.assert_close(transposed, A.T, rtol=0, atol=0)
    torch.testing.assert_close(
        kernels.diagonal(crow, ccol, values, N), A.diagonal(), rtol=0, atol=0
    )
    batch = torch.randn(2, ccol.numel(), dtype=torch.complex64)
    for a, d in zip(batch, kernels.diagonal(crow, ccol, batch, N), strict=True):
        torch.testing.assert_close(d, dense(row, ccol, a, M, N).diagonal(), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", VALUES)
@pytest.mark.parametrize("index", INDICES)
@pytest.mark.parametrize("k", [0, 1, 3])
@pytest.mark.parametrize(("n", "t"), [(0, 0), (0, 3), (1, 1), (50, 7), (7, 50)])
def test_segment_sum_and_gather(
    path: str, n: int, t: int, k: int, index: torch.dtype, dtype: torch.dtype
) -> None:
    target = torch.randint(t, (n,), dtype=index) if n else torch.empty(0, dtype=index)
    offsets, order = kernels.segment_order(target, t)
    assert order.dtype == offsets.dtype == index
    for batch in (0, 1, 2):
        x = torch.randn(batch, n, k, dtype=dtype)
        expected = x.new_zeros(batch, t, k).index_add(1, target, x)
        for threads in (1, 3):
            assert_close(kernels.segment_sum(x, offsets, order, threads=threads), expected)
            y = torch.randn(batch, t, k, dtype=dtype)
            gathered = kernels.gather(y, target, threads=threads)
            assert torch.equal(gathered, y.index_select(1, target))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64])
def test_other_dtypes_are_summed_too(dtype: torch.dtype) -> None:
    target = torch.tensor([1, 0, 1])
    offsets, order = kernels.segment_order(target, 3)
    x = torch.tensor([1, 2, 4], dtype=dtype).reshape(1, 3, 1)
    total = kernels.segment_sum(x, offsets, order)
    assert total.dtype == dtype
    assert total.flatten().tolist() == [2, 5, 0]
    assert kernels.gather(total, target).flatten().tolist() == [5, 2, 5]


def test_segment_sum_writes_into_out(path: str) -> None:
    offsets, order = kernels.segment_order(torch.tensor([0, 0]), 1)
    out = torch.full((1, 1, 1), 9.0)
    returned = kernels.segment_sum(torch.ones(1, 2, 1), offsets, order, out)
    assert returned is out
    assert out.item() == 2.0
    with pytest.raises(ArgumentError, match="`out` must have shape"):
        kernels.segment_sum(torch.ones(1, 2, 1), offsets, order, torch.empty(1, 2, 1))
    with pytest.raises(ArgumentError, match="`out` must be a contiguous"):
        kernels.segment_sum(
            torch.ones(1, 2, 1), offsets, order, torch.empty(1, 1, 1, dtype=torch.float64)
        )


@pytest.mark.parametrize("dtype", VALUES)
@pytest.mark.parametrize("index", INDICES)
@pytest.mark.parametrize("shape", SHAPES)
def test_products(
    path: str, shape: tuple[int, int, int], index: torch.dtype, dtype: torch.dtype
) -> None:
    M, N, nnz = shape
    crow, ccol, row = csr(M, N, nnz, index)
    crow_t, ccol_t, perm = kernels.transpose_csr(crow, ccol, N)
    for k, batch_a, batch_x in itertools.product((1, 2, 7, 15), (None, 1, 3), (None, 1, 3)):
        values = torch.randn(*([] if batch_a is None else [batch_a]), ccol.numel(), dtype=dtype)
        x = torch.randn(*([] if batch_x is None else [batch_x]), N, k, dtype=dtype)
        A = torch.stack(
            [dense(row, ccol, a, M, N) for a in values.reshape(batch_a or 1, ccol.numel())]
        )
        A = A if batch_a is not None else A[0]
        for threads in (1, 3):
            y = kernels.spmm(crow, ccol, values, x, threads=threads)
            assert_close(y, A @ x)
        z = torch.randn(*([] if batch_x is None else [batch_x]), M, k, dtype=dtype)
        args = (crow_t, ccol_t, values, z)
        assert_close(kernels.spmm(*args, slots=perm), A.mT @ z)
        assert_close(kernels.spmm(*args, slots=perm, conj=True), A.mH @ z)


@pytest.mark.parametrize("dtype", VALUES)
def test_one_column_and_pending_views(path: str, dtype: torch.dtype) -> None:
    crow, ccol, row = csr(20, 14, 60, torch.int32)
    values = torch.randn(ccol.numel(), 2, dtype=dtype)[:, 1]
    x = torch.randn(3, 14, dtype=dtype).T[:, 2:]
    A = dense(row, ccol, values, 20, 14)
    assert_close(kernels.spmm(crow, ccol, values, x), A @ x)
    X = torch.randn(3, 14, dtype=dtype).unsqueeze(2)
    assert_close(kernels.spmm(crow, ccol, values, X), A @ X)
    assert_close(kernels.spmm(crow, ccol, values.expand(3, -1), x), (A @ x).expand(3, -1, -1))
    assert kernels.spmm(crow, ccol, values.expand(0, -1), x).shape == (0, 20, 1)
    if dtype.is_complex:
        assert_close(kernels.spmm(crow, ccol, values.conj(), x), A.conj() @ x)
        negated = values.conj().imag  # a real view with the negative bit set
        assert negated.is_neg() or SIMULATED  # whose tensors bear no marks
        assert_close(kernels.spmm(crow, ccol, negated, x.real), -A.imag @ x.real)


def test_products_promote_and_do_not_record(path: str) -> None:
    crow, ccol, row = csr(6, 6, 20, torch.int64)
    values = torch.randn(ccol.numel(), requires_grad=True)
    x = torch.randn(6, 2, dtype=torch.complex128)
    y = kernels.spmm(crow, ccol, values, x)
    assert y.dtype == torch.complex128
    assert not y.requires_grad
    assert_close(y, dense(row, ccol, values.detach(), 6, 6).to(x.dtype) @ x)


@pytest.mark.parametrize("dtype", VALUES)
@pytest.mark.parametrize("index", INDICES)
@pytest.mark.parametrize("shape", SHAPES)
def test_sampled_product(
    path: str, shape: tuple[int, int, int], index: torch.dtype, dtype: torch.dtype
) -> None:
    M, N, nnz = shape
    crow, ccol, row = csr(M, N, nnz, index)
    for k, lead in itertools.product((0, 1, 4, 21), ([], [1], [3])):
        u, v = torch.randn(*lead, M, k, dtype=dtype), torch.randn(*lead, N, k, dtype=dtype)
        expected = (u @ v.mT)[..., row.long(), ccol.long()]
        for threads in (1, 3):
            assert_close(kernels.sampled_product(crow, ccol, u, v, threads=threads), expected)
            less = kernels.sampled_product(crow, ccol, u, v, negative=True, threads=threads)
            assert_close(less, -expected)


def test_results_do_not_depend_on_threads() -> None:
    crow, ccol, _ = csr(500, 400, 9000, torch.int32)
    values, x = torch.randn(ccol.numel()), torch.randn(400, 3)
    u = torch.randn(500, 3)
    offsets, order = kernels.segment_order(ccol, 400)
    for threads in (2, 3, 7):
        for kernel, args in (
            (kernels.spmm, (crow, ccol, values, x)),
            (kernels.sampled_product, (crow, ccol, u, x)),
            (kernels.segment_sum, (values.reshape(1, -1, 1), offsets, order)),
        ):
            assert torch.equal(kernel(*args, threads=1), kernel(*args, threads=threads))


def test_segmented_reduction_of_other_devices() -> None:
    # The path taken off the CPU, exercised where every machine can.
    offsets = torch.tensor([0, 2, 2, 5])
    for dtype in VALUES:
        rows = torch.randn(5, 3, dtype=dtype)
        expected = torch.stack([rows[:2].sum(0), torch.zeros(3, dtype=dtype), rows[2:].sum(0)])
        assert_close(sparse_fallback._reduce(rows, offsets), expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", VALUES)
def test_other_devices_agree(dtype: torch.dtype) -> None:
    row, col = coordinates(30, 20, 150, torch.int32)
    cuda = [kernels.coo_to_csr(r, c, 30, 20) for r, c in ((row, col), (row.cuda(), col.cuda()))]
    for here, there in zip(*cuda, strict=True):
        assert here is not None
        assert there is not None
        assert torch.equal(there.cpu(), here)
    crow, ccol, slot = cuda[0]
    assert slot is not None
    values, x = torch.randn(3, ccol.numel(), dtype=dtype), torch.randn(3, 20, 4, dtype=dtype)
    u, entries = torch.randn(3, 30, 4, dtype=dtype), torch.randn(2, 150, 3, dtype=dtype)
    offsets, order = kernels.segment_order(slot, ccol.numel())
    for kernel, args in (
        (kernels.transpose_csr, (crow, ccol, 20)),
        (kernels.spmm, (crow, ccol, values, x)),
        (kernels.spmm, (crow, ccol, values[0], x[0])),
        (kernels.sampled_product, (crow, ccol, u, x)),
        (kernels.segment_sum, (entries, offsets, order)),
        (kernels.gather, (values[..., None], slot)),
        (kernels.diagonal, (crow, ccol, values, 20)),
    ):
        expected = kernel(*args)
        got = kernel(*(a.cuda() if isinstance(a, Tensor) else a for a in args))
        pairs = zip(got, expected, strict=True) if isinstance(got, tuple) else [(got, expected)]
        for g, e in pairs:
            assert g.is_cuda
            if e.dtype in INDICES:
                assert torch.equal(g.cpu(), e)
            else:
                assert_close(g.cpu(), e)


def test_wrong_shapes_are_refused(path: str) -> None:
    crow, ccol, _ = csr(4, 4, 9, torch.int64)
    a, x = torch.randn(ccol.numel()), torch.randn(4, 2)
    with pytest.raises(ArgumentError, match="`values` must hold"):
        kernels.spmm(crow, ccol, a[1:], x)
    with pytest.raises(ArgumentError, match="batch of `values` is 2, of `x` 3"):
        kernels.spmm(crow, ccol, a.expand(2, -1), x.expand(3, -1, -1))
    with pytest.raises(ArgumentError, match="`values` must be"):
        kernels.spmm(crow, ccol, a, x[:, 0])
    with pytest.raises(ArgumentError, match="with one batch"):
        kernels.sampled_product(crow, ccol, x, x.expand(2, -1, -1))
    with pytest.raises(ArgumentError, match="`u` must have shape"):
        kernels.sampled_product(crow, ccol, x[1:], x)
    with pytest.raises(ArgumentError, match="`x` must have shape"):
        kernels.segment_sum(torch.ones(1, 3, 1), *kernels.segment_order(ccol, 4))


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_fingerprint(where: str) -> None:
    def of(x: Tensor) -> int:
        if where == "here":
            return kernels.fingerprint(x)
        return sparse_fallback.fingerprint(x.contiguous().flatten().view(torch.uint8))

    x = torch.randn(100_003, dtype=torch.float64)
    base = of(x)
    assert of(x.clone()) == base
    assert 0 <= base < 2**128
    seen = {base}
    for i in (0, 1, 7, 8, 32_767, 32_768, 100_002):
        y = x.clone()
        y[i] = torch.nextafter(y[i], torch.tensor(9e9, dtype=torch.float64))
        seen.add(of(y))
        z = x.clone()
        z[i] = -z[i]
        seen.add(of(z))
    assert len(seen) == 15
    for i, j in ((0, 8), (3, 4), (10, 90_000), (0, 32_768)):  # two entries change places
        y = x.clone()
        y[i], y[j] = x[j], x[i]
        assert of(y) not in seen
    assert of(x.roll(1)) not in seen
    # Lengths count, even where all bytes are zero.
    lengths = [0, 1, 2, 7, 8, 9, 63, 64, 65, 2**18 - 1, 2**18, 2**18 + 1, 2**19]
    assert len({of(torch.zeros(n, dtype=torch.uint8)) for n in lengths}) == len(lengths)
    # Small integers and single bits, which simple sums confuse.
    assert len({of(torch.tensor([i, j])) for i in range(30) for j in range(30)}) == 900
    assert len({of(torch.tensor([1 << i, 1 << j])) for i in range(62) for j in range(62)}) == 3844


def test_fingerprint_sees_through_views_and_threads() -> None:
    x = torch.randn(300, 400, dtype=torch.complex128)
    assert kernels.fingerprint(x.conj()) == kernels.fingerprint(x.conj().resolve_conj())
    assert kernels.fingerprint(x.T) == kernels.fingerprint(x.T.contiguous())
    assert kernels.fingerprint(x.T) != kernels.fingerprint(x)
    assert len({kernels.fingerprint(x, threads=t) for t in (1, 2, 5)}) == 1
    assert kernels.fingerprint(torch.tensor(True)) != kernels.fingerprint(torch.tensor(False))
