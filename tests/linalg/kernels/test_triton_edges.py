"""Faces of the kernels at sizes that fit no block: Triton's under its interpreter against those without it."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from tests.helpers.grids import split
from tests.helpers.lattices import laplacian
from tests.helpers.meshed import delaunay, elastic, flat_cells
from torch_sla.linalg.backends.base import SolveOptions
from torch_sla.linalg.kernels import (
    batched_cg,
    detection,
    independent,
    lanes,
    merge,
    patterns,
    rows,
    sparse,
    sparse_fallback,
    spgemm,
    triton as device,
)
from torch_sla.linalg.kernels.rows import Rows
from torch_sla.linalg.precond.multigrid import AMG, rigid_body_modes
from torch_sla.linalg.precond.multigrid.device.aggregation import DeviceAggregation
from torch_sla.linalg.precond.multigrid.device.tied import tied_groups
from torch_sla.linalg.residual import Residual
from torch_sla.linalg.sparse.pattern import Pattern

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") != "1" or not device.installed(),
    reason="needs triton and TRITON_INTERPRET=1",
)
INDEX = [torch.int32, torch.int64]
SIZES = [(0, 0), (0, 3), (3, 0), (1, 1), (1, 700), (257, 5), (300, 257)]


@pytest.fixture
def agree(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Call a function with kernels and without, compare, and return what came out."""

    def call(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        got = function(*args, **options)
        with monkeypatch.context() as without:
            without.setattr(device, "runs", lambda *_: False)
            expected = function(*args, **options)
        same(got, expected)
        return got

    return call


def same(got: Any, expected: Any) -> None:
    if isinstance(expected, tuple | list):
        assert len(got) == len(expected)
        for a, b in zip(got, expected, strict=True):
            same(a, b)
    elif isinstance(expected, Tensor) and (expected.is_floating_point() or expected.is_complex()):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    elif isinstance(expected, Tensor):
        assert got.dtype is expected.dtype
        assert torch.equal(got, expected)
    else:
        assert got == expected


def random_rows(m: int, n: int, index: torch.dtype, per_row: float = 3.0) -> tuple[Tensor, Tensor]:
    """A pattern whose every third row is empty."""
    density = min(1.0, per_row / max(n, 1))
    there = torch.rand(m, n) < density
    there[::3] = False
    crow = torch.zeros(m + 1, dtype=index)
    crow[1:] = there.sum(1).cumsum(0)
    return crow, there.nonzero()[:, 1].to(index)


@pytest.mark.parametrize("index", INDEX)
@pytest.mark.parametrize("size", SIZES)
def test_products(size: tuple[int, int], index: torch.dtype, agree: Callable[..., Any]) -> None:
    m, n = size
    crow, ccol = random_rows(m, n, index)
    nnz = len(ccol)
    order = torch.randperm(nnz).to(index)
    for a_batch, x_batch, k in ((1, 1, 1), (0, 0, 1), (1, 3, 1), (3, 1, 2), (2, 2, 5), (1, 1, 0)):
        a, x = torch.randn(a_batch, nnz), torch.randn(x_batch, n, k)
        agree(sparse.spmm, crow, ccol, a, x)
        agree(sparse.spmm, crow, ccol, a, x.double(), slots=order, conj=True)
        y = torch.randn(x_batch, m, k)
        agree(sparse.sampled_product, crow, ccol, y, x, negative=True)
        agree(sparse.segment_sum, torch.randn(x_batch, nnz, k), crow, order)
    agree(rows.row_sums, crow, torch.randn(nnz, 2, 2))
    A = Rows.of(crow, ccol, torch.randn(nnz), n)
    agree(rows.row_sizes, A)
    agree(rows.row_sizes, A, squares=True)
    agree(sparse.diagonal_slots, crow, ccol, n)
    agree(rows.row_max, crow, torch.randn(n), ccol, -1.0)
    agree(rows.row_max, crow, torch.randint(9, (nnz,)), None, -1)


@pytest.mark.parametrize("k", [1, 2, 17])
@pytest.mark.parametrize("n", [1, 129, 257])
def test_smoothing_steps(n: int, k: int, agree: Callable[..., Any]) -> None:
    crow, ccol = random_rows(n, n, torch.int32)
    A = Rows.of(crow, ccol, torch.randn(len(ccol)), n)
    x, b, z = torch.randn(3, n, k).unbind()
    w = torch.randn(n)
    agree(rows.product, A, x)
    agree(rows.residual, A, x, b)
    agree(rows.add_product, A, x, b)
    agree(rows.relax, A, x, b, w, 0.5)
    agree(rows.relax, A, x, b, w, 0.5, before=z, momentum=0.25)


@pytest.mark.parametrize("k", [1, 2, 17])
@pytest.mark.parametrize("longest", [3, 135])
@pytest.mark.parametrize(("nodes", "edge"), [(1, 2), (45, 3), (4, 12)])
def test_smoothing_steps_of_nodes(
    nodes: int, edge: int, longest: int, k: int, agree: Callable[..., Any]
) -> None:
    n = nodes * edge
    there = torch.rand(n, n) < 3.0 / n
    there[::3] = False
    there[1, :longest] = True  # the longer are read by kernels of their own
    crow = torch.cat([torch.zeros(1), there.sum(1).cumsum(0)]).int()
    ccol = there.nonzero()[:, 1].int()
    A = Rows.of(crow, ccol, torch.randn(len(ccol)), n)
    x, b, z = torch.randn(3, n, k).unbind()
    w = torch.randn(nodes, edge, edge)
    agree(rows.relax, A, x, b, w, 0.5)
    agree(rows.relax, A, x, b, w, 0.5, before=z, momentum=0.25)
    agree(rows.weighted, w, b, 0.5)
    agree(rows.scaled_product, A, x, w, torch.tensor(2.0))
    agree(rows.scaled_product, A, x, w, torch.tensor(0.0))


@pytest.mark.parametrize("index", INDEX)
@pytest.mark.parametrize("size", [(0, 4, 3), (4, 0, 3), (3, 4, 0), (1, 1, 1), (50, 40, 257)])
def test_sparse_products(
    size: tuple[int, int, int], index: torch.dtype, agree: Callable[..., Any]
) -> None:
    m, inner, n = size
    A, B, C = random_rows(m, inner, index), random_rows(inner, n, index), random_rows(m, n, index)
    positions = agree(spgemm.product_pattern, *A, *B, n)
    for a_batch, b_batch in ((1, 1), (0, 0), (0, 1), (1, 0), (1, 3), (3, 1), (2, 2)):
        a, b = torch.randn(a_batch, len(A[1])), torch.randn(b_batch, len(B[1]))
        for where in (positions, C):
            agree(spgemm.spgemm_masked, A, a, B, b, where, n)
    for r, mid, c in ((2, 2, 2), (3, 3, 6), (3, 2, 1)):
        a, b = (
            torch.randn(2, len(A[1]), r, mid).double(),
            torch.randn(1, len(B[1]), mid, c).double(),
        )
        agree(spgemm.spgemm_masked, A, a, B, b, C, n)
        agree(spgemm.spgemm_masked, A, a + 1j, B, b - 1j, C, n)


@pytest.mark.parametrize("index", INDEX)
@pytest.mark.parametrize("size", [(1, 1, 1), (3, 4, 0), (50, 40, 257)])
def test_merged_rows(
    size: tuple[int, int, int], index: torch.dtype, agree: Callable[..., Any]
) -> None:
    m, inner, n = size
    agree(merge.merged_rows, *random_rows(m, inner, index), *random_rows(inner, n, index), n, n)


@pytest.mark.parametrize("index", INDEX)
@pytest.mark.parametrize("n", [1, 5, 255, 256, 257, 1025])
def test_patterns(n: int, index: torch.dtype, agree: Callable[..., Any]) -> None:
    crow, ccol = random_rows(n, n, index, 2.0)
    row = sparse_fallback.expand_rows(crow, len(ccol))
    mixed = torch.randperm(len(ccol))
    for order in (slice(None), mixed):
        agree(patterns.coo_to_csr, row[order].contiguous(), ccol[order].contiguous(), n, n)
    agree(patterns.transpose_csr, crow, ccol, n)
    both, other, _ = sparse_fallback.coo_to_csr(
        torch.cat([row, ccol]), torch.cat([ccol, row]), n, n
    )
    agree(patterns.transpose_csr, both, other, n)
    if len(ccol):
        assert detection.sound_rows(crow, ccol, n)
        assert not detection.sound_rows(crow, ccol, int(ccol.max()))
    own = torch.arange(n, dtype=index)
    graph = sparse_fallback.coo_to_csr(
        torch.cat([row, ccol, own]), torch.cat([ccol, row, own]), n, n
    )[:2]
    agree(independent.independent_rows, *graph, torch.rand(n) < 0.8)
    agree(independent.independent_rows, *graph, torch.zeros(n, dtype=torch.bool))


@pytest.mark.parametrize("n", [1, 5, 257, 1025])
def test_counts_and_sums(n: int) -> None:
    from torch_sla.linalg.kernels.triton.patterns import largest_row_sum

    index = torch.int32
    crow, ccol = random_rows(n, n, index, 2.0)
    row = sparse_fallback.expand_rows(crow, len(ccol))
    crow, ccol, slot = sparse_fallback.coo_to_csr(
        torch.cat([row, ccol, torch.arange(n - 1).int()]),
        torch.cat([ccol, row, torch.arange(n - 1).int()]), n, n,
    )  # fmt: skip
    values = torch.randn(len(ccol), dtype=torch.float64)
    D = torch.zeros(n, n, dtype=torch.float64)
    D[sparse_fallback.expand_rows(crow, len(ccol)).long(), ccol.long()] = values
    torch.testing.assert_close(largest_row_sum(crow, values), D.abs().sum(1).max())
    if not len(ccol):
        return
    counted = detection.counted_structure(crow, ccol, values)
    assert counted is not None
    counts = detection.StructureCounts.of(counted.tolist())
    assert counts is not None
    size = D.abs()
    off = size.sum(1) - size.diagonal()
    found = (
        0,
        int((~torch.isclose(D, D.T, rtol=1e-13, atol=0.0)).sum()),
        0,
        int((D.diagonal() <= 0).sum()),
        int((D.diagonal() < off).sum()),
        int((D.diagonal() > off * (1 + 1e-8)).sum()),
    )
    names = list(vars(counts).values())
    assert tuple(names[:6]) == found
    assert counts.longest == int(crow.diff().amax())
    assert slot is not None


@pytest.mark.parametrize("n", [1, 31, 33, 129])
def test_batches_of_small_systems(n: int, agree: Callable[..., Any]) -> None:
    i = torch.arange(n)
    row, col = torch.cat([i, i[1:], i[:-1]]), torch.cat([i, i[:-1], i[1:]])
    crow, ccol, slot = sparse_fallback.coo_to_csr(row, col, n, n)
    values = torch.where(row == col, 2.5, -1.0).double()
    sorted_values = torch.empty(len(ccol), dtype=torch.float64)
    sorted_values[slice(None) if slot is None else slot] = values
    for members in (0, 1, 3):
        a = sorted_values.repeat(members, 1) * torch.arange(1, members + 1)[:, None]
        diagonal = 2.5 * torch.arange(1, members + 1).double()[:, None].repeat(1, n)
        b = torch.randn(members, n, dtype=torch.float64)
        target = torch.full((members,), 1e-9, dtype=torch.float64)
        agree(batched_cg.batched_cg, crow, ccol, a, diagonal, b, target, 200)


@pytest.mark.parametrize("n", [2, 6, 300, 1026])
def test_hashes(n: int) -> None:
    for kind in (torch.float32, torch.float64, torch.complex128, torch.int32):
        t = torch.arange(2 * n).reshape(2, n).to(kind)
        found = patterns.fingerprints(t)
        assert found == [sparse_fallback.fingerprint(row.view(torch.uint8)) for row in t]
        within = torch.cat([t.new_zeros(1), t.flatten()])[1:].reshape(2, n)  # begins in mid-word
        assert patterns.fingerprints(within) == found
        if kind is torch.int32:  # an odd number of half words
            short = t[:, 1:].contiguous()
            assert len({*found, *patterns.fingerprints(short)}) == 4
            assert patterns.fingerprint(short[1]) == patterns.fingerprints(short)[1]


@pytest.mark.parametrize("block", [1, 2])
def test_rows_that_are_tied(block: int, agree: Callable[..., Any]) -> None:
    """Couples of rows whose coupling is as large as their diagonal, and empty rows between."""
    there = torch.zeros(40, 40, dtype=torch.bool)
    first = torch.arange(0, 36, 4)
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1), (0, 3), (3, 0)):
        there[first + i, first + j] = True
    crow = torch.zeros(41, dtype=torch.int32)
    crow[1:] = there.sum(1).cumsum(0)
    row, ccol = there.nonzero().T.int()
    values = torch.where((row % 4 == 3) | (ccol % 4 == 3), 0.1, 1.0).double()
    values = values[:, None, None] * torch.eye(block) if block > 1 else values
    own = torch.ones(40, dtype=torch.float64) * block**0.5

    def parts() -> tuple[Tensor, ...]:
        groups = tied_groups(crow, ccol, values, own)
        assert groups is not None
        return groups.rows, groups.size, groups.blocks, groups.outside

    found = agree(parts)
    assert found[1].tolist() == [2 * block] * len(first)
    assert float(found[3].min()) == pytest.approx(0.0)
    assert float(found[3].max()) == pytest.approx(0.1)


@pytest.mark.parametrize("mode", ["n", "h"])
@pytest.mark.parametrize("columns", [1, 3])
def test_residuals(
    columns: int, mode: str, agree: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a device measures them, without the compiled passes of the CPU."""
    pattern, values = split(laplacian(17, 15))
    D = torch.zeros(255, 255, dtype=torch.float64)
    D[pattern.csr_row.long(), pattern.ccol.long()] = values
    b = torch.randn(255, columns, dtype=torch.float64)
    x = torch.linalg.solve(D, b)
    for name in ("residual", "measure"):
        monkeypatch.setattr(lanes, name, lambda *_, **__: None)

    def told() -> tuple[Any, ...]:
        check = Residual(pattern, values, b, mode)
        relative, backward = check(x)
        options = [SolveOptions(rtol=r) for r in (1e-300, 1e-8)]
        return check.r, *(check.rounded(backward, o) for o in options), relative < 1e-13

    assert agree(told)[1:] == (True, False, True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("n", "columns", "members"), [(1, 1, 1), (511, 1, 1), (513, 3, 2), (600, 17, 1), (40, 2, 70)]
)
def test_what_is_left_over_and_its_sizes(
    n: int,
    columns: int,
    members: int,
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In one pass and in several, as the compiled pass of the CPU tells them."""
    from torch_sla.linalg.kernels.triton import residual as ours

    i = torch.arange(n)
    pattern = Pattern.from_coo(torch.cat([i, i[1:]]), torch.cat([i, i[:-1]]), (n, n))
    values = torch.randn(members, pattern.nnz_csr, dtype=dtype)
    x, b = torch.randn(2, members, n, columns, dtype=dtype)
    b[-1, 0, -1] = float("nan")
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if dtype is torch.float32 else {}
    for parts, turned in itertools.product((4096, 2), (False, True)):
        monkeypatch.setattr(ours, "_PARTS", parts)
        monkeypatch.setattr(ours, "_SUM", 1024 if parts > 2 else 1)
        crow, ccol, slots, longest = pattern.rows(turned=turned)
        r, sizes = ours.residual(crow, ccol, values, x, b, slots, longest)
        told = lanes.residual(pattern.crow, pattern.ccol, values, x, b, transposed=turned)
        assert told is not None
        torch.testing.assert_close(r, told[0], equal_nan=True, **tolerance)
        sound = torch.ones(members, columns, dtype=torch.bool)
        sound[-1, -1] = False
        torch.testing.assert_close(sizes[:, sound], told[1][:, sound], **tolerance)
        assert sizes[:, -1, -1].isfinite().tolist() == [False, False, True, False, False]
        one = ours.residual(crow, ccol, values[:1], x, b, slots, longest)[0]  # one matrix for all
        torch.testing.assert_close(one[0], r[0], equal_nan=True)


@pytest.mark.parametrize("smoother", ["chebyshev", "spai0"])
@pytest.mark.parametrize("name", ["scattered", "tied", "elastic"])
def test_small_hierarchies(name: str, smoother: str, agree: Callable[..., Any]) -> None:
    """All of set-up and cycle, through several levels."""
    if name == "elastic":
        A, points = elastic((5, 3))
        vectors = rigid_body_modes(points)
    else:
        A, vectors = (delaunay(200, 2) if name == "scattered" else flat_cells(1e4, edge=6)), None
    pattern, values = split(A)
    b = torch.randn(A.shape[0], 2, dtype=torch.float64)
    options = AMG(smoother=smoother, coarse_size=12, dtype="float64")

    def applied() -> tuple[Any, ...]:
        made = DeviceAggregation(pattern, values, options, vectors)
        first = made.apply(b), made.apply_adjoint(b)
        made.update(2 * values)
        return [level.unknowns for level in made.levels], *first, made.apply(b)

    assert len(agree(applied)[0]) > 1


def test_fingerprints_are_the_same_before_they_are_read() -> None:
    a, b, odd = torch.randn(9, dtype=torch.float64), torch.arange(5).int(), torch.ones(3).half()
    for tensors in ([a, b], [a, odd, b]):  # all by one kernel, or not
        unread = sparse.unread_fingerprints(*tensors)
        found = [one.told(one.words.tolist()) for one in (unread[0], unread[-1])]
        assert found == [*sparse.fingerprints_of(a, b)]
