"""Kernels of the set-up against the torch operations they stand for, and how often the host looks.

``TRITON_INTERPRET=1`` with triton installed runs Triton's kernels on the CPU.
"""

from __future__ import annotations

import os

import pytest
import torch
from torch import Tensor

from tests.helpers.grids import triangulated
from tests.helpers.simulated import SIMULATED, counted
from torch_sla.errors import Result, SolveError
from torch_sla.linalg.kernels import spgemm, triton
from torch_sla.linalg.precond.multigrid.device.aggregate import aggregate
from torch_sla.linalg.precond.multigrid.device.aggregation import DeviceAggregation
from torch_sla.linalg.precond.multigrid.device.blocks import BlockRows, transpose
from torch_sla.linalg.precond.multigrid.device.strength import Strong, couplings, strong_graph
from torch_sla.linalg.precond.multigrid.options import AMG
from torch_sla.linalg.sparse.pattern import Pattern

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu"
pytestmark = [
    pytest.mark.skipif(
        not triton.runs(torch.ones(1, device=DEVICE)),
        reason="no CUDA device with triton, and TRITON_INTERPRET=1 is not set",
    ),
    # Triton's interpreter reads scalars in a way that newer NumPy warns of.
    pytest.mark.filterwarnings("ignore:Conversion of an array with ndim"),
]


def matrix(
    n: int, dtype: torch.dtype = torch.float64, spread: float = 2.0
) -> tuple[Pattern, Tensor]:
    """Couplings over some orders of magnitude, some of the wrong sign; every eleventh row stands alone."""
    generator = torch.Generator().manual_seed(n)
    crow, ccol = triangulated(n)
    pattern = Pattern.from_csr(crow, ccol, (n * n, n * n))
    row, col = pattern.row.long(), ccol.long()
    weight = 10.0 ** (spread * torch.rand(n * n, generator=generator, dtype=torch.float64))
    a = -weight[row] * weight[col] * torch.where((row + col) % 7 == 0, -0.1, 1.0)
    fixed = torch.arange(n * n) % 11 == 3
    a = torch.where(fixed[row] | fixed[col] | (row == col), 0.0, a)
    total = torch.zeros(n * n, dtype=torch.float64).index_add_(0, row, a.abs())
    a = torch.where(row == col, torch.where(total > 0, total, 1.0)[row] * 1.01, a)
    return pattern, a.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("given", [False, True], ids=["found", "given"])
def test_strong_parts(dtype: torch.dtype, given: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pattern, values = matrix(9, dtype)
    codes = torch.where(values > 0, 2, torch.arange(pattern.nnz_csr) % 3).to(torch.uint8)
    keep = codes if given else None

    def found(device: str) -> list[Tensor]:
        where = [t.to(device) for t in (pattern.crow, pattern.ccol, values[:, None, None])]
        A = BlockRows(*where, pattern.shape[1])
        seen = couplings(A, 0.25, None if keep is None else keep.to(device))
        S, smoothing = strong_graph(A, seen, 0.6)
        out = [seen.keep, seen.own, S.crow, S.ccol, smoothing.ccol, smoothing.values]
        assert {0, 1, 2} == set(seen.keep.tolist())
        if not given:
            group, count = aggregate(S)
            out += [S.size, group, torch.tensor(count)]
        return [t.cpu() for t in out]

    kernels = found(DEVICE)
    monkeypatch.setattr(triton, "runs", lambda *_: False)
    for got, wanted in zip(kernels, found("cpu"), strict=True):
        if wanted.is_floating_point():
            torch.testing.assert_close(got, wanted)
        else:
            assert torch.equal(got, wanted)


@pytest.mark.parametrize("seed", [1, 2])
def test_aggregates_of_graphs_that_are_not_symmetric(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(seed)
    joined = (torch.rand(40, 40, generator=generator) < 0.05).fill_diagonal_(True)
    row, col = joined.nonzero(as_tuple=True)
    crow = torch.nn.functional.pad(joined.sum(1).cumsum(0), (1, 0))
    size = torch.where(row == col, -torch.inf, torch.rand(len(col), generator=generator))

    def found(device: str) -> tuple[Tensor, int]:
        group, count = aggregate(Strong(*(t.to(device) for t in (crow, col, size))))
        return group.cpu(), count

    group, count = found(DEVICE)
    coupled = joined.sum(1) > 1
    assert torch.equal(group >= 0, coupled)
    assert set(group[coupled].tolist()) == set(range(count))  # none lost its root to another
    monkeypatch.setattr(triton, "runs", lambda *_: False)
    wanted = found("cpu")
    assert count == wanted[1]
    assert torch.equal(group, wanted[0])


def test_a_row_without_diagonal_is_named() -> None:
    pattern, values = matrix(4)
    values[pattern.diagonal_slots[5].long()] = 0.0
    where = [t.to(DEVICE) for t in (pattern.crow, pattern.ccol, values[:, None, None])]
    with pytest.raises(SolveError, match="row 5 is zero") as caught:
        couplings(BlockRows(*where, 16), 0.25)
    assert caught.value.result is Result.BREAKDOWN


@pytest.mark.parametrize("index", [torch.int32, torch.int64])
@pytest.mark.parametrize("widest", [1024, 8], ids=["at once", "in pieces"])
def test_positions_of_products(
    index: torch.dtype, widest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch_sla.linalg.kernels.triton import spgemm as merged

    monkeypatch.setattr(merged, "WIDEST", widest)
    rows = []
    for m, n, density in ((30, 20, 0.2), (20, 25, 0.15)):
        there = torch.rand(m, n) < density
        there[m // 2] = False
        there[m // 3] = True  # in pieces of two, of which there are again too many
        crow = torch.zeros(m + 1, dtype=index)
        crow[1:] = there.sum(1).cumsum(0)
        rows.append((there, crow.to(DEVICE), there.nonzero()[:, 1].to(index).to(DEVICE)))
    (a, *left), (b, *right) = rows
    union = (a.double() @ b.double()) > 0
    crow, ccol, longest = spgemm.product_positions(*left, *right, 25)
    assert torch.equal(crow[1:].cpu(), union.sum(1).cumsum(0).to(index))
    assert torch.equal(ccol.cpu(), union.nonzero()[:, 1].to(index))
    assert longest == int(union.sum(1).max())


def test_transposes_know_their_longest_row() -> None:
    pattern, values = matrix(5)
    A = BlockRows(pattern.crow, pattern.ccol, values[:, None, None], 25)
    assert transpose(A).longest == 7


@pytest.mark.gpu
@pytest.mark.skipif(not SIMULATED, reason="needs TORCH_SLA_SIMULATED_CUDA=1")
def test_waits_of_the_set_up() -> None:
    """The host looks eleven times a level at most, whatever its size, and six times where aggregates are known."""
    for n in (16, 24):
        pattern, values = matrix(n, spread=0.0)
        pattern, values = pattern.to("cuda"), values.cuda()
        pattern.diagonal_slots  # noqa: B018  the pattern keeps them
        with counted() as seen:
            hierarchy = DeviceAggregation(pattern, values, AMG(coarse_size=8), None)
        with counted() as again:
            hierarchy.update(2 * values)
        depth = len(hierarchy.levels) - 1
        assert depth >= 2
        assert seen.total() <= 11 * depth + 3, seen
        assert again.total() <= 6 * depth + 3, again
