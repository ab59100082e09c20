"""Positions of products of sparse matrices by merging rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.helpers.grids import triangulated
from tests.helpers.passes import Passes
from torch_sla.linalg.kernels import merge, patterns, sparse, spgemm
from torch_sla.linalg.kernels.merge import merged_rows
from torch_sla.linalg.kernels.rows import row_max


def positions(
    m: int, n: int, density: float, index: torch.dtype = torch.int32
) -> tuple[Tensor, Tensor, Tensor]:
    """Where a random matrix has entries, as a mask and in compressed rows."""
    there = torch.rand(m, n) < density
    there[m // 2] = False
    crow = torch.zeros(m + 1, dtype=index)
    crow[1:] = there.sum(1).cumsum(0)
    return there, crow, there.nonzero()[:, 1].to(index)


def union(there: Tensor, other: Tensor) -> Tensor:
    return (there.double() @ other.double()) > 0


@pytest.mark.parametrize("index", [torch.int32, torch.int64])
@pytest.mark.parametrize("entries", [5, 1 << 20])
@pytest.mark.parametrize("density", [0.0, 0.08, 0.6])
def test_rows_are_unions(
    density: float, entries: int, index: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merge, "ENTRIES", entries)
    a, *a_rows = positions(30, 20, density, index)
    b, *b_rows = positions(20, 25, 0.15, index)
    counts, columns = merged_rows(*a_rows, *b_rows, 25, 25)
    expected = union(a, b)
    assert torch.equal(counts, expected.sum(1))
    assert torch.equal(columns, expected.nonzero()[:, 1].to(index))
    assert columns.dtype is index


def test_wide_rows_are_left_to_sorting(monkeypatch: pytest.MonkeyPatch) -> None:
    a, *a_rows = positions(30, 20, 0.4)
    b, *b_rows = positions(20, 25, 0.4)
    expected = union(a, b)
    widest = int(expected.sum(1).max())
    assert merged_rows(*a_rows, *b_rows, 25, widest - 1) is None
    assert merged_rows(*a_rows, *b_rows, 25, widest) is not None
    monkeypatch.setattr(spgemm, "_compiled", None)
    monkeypatch.setattr(spgemm, "_MANY", 1)
    found = []
    for rounds in (0, 100):
        monkeypatch.setattr(spgemm, "_ROUNDS", rounds)
        found.append(spgemm.product_pattern(*a_rows, *b_rows, 25))
    for crow, ccol in found:
        assert torch.equal(crow[1:], expected.sum(1).cumsum(0).int())
        assert torch.equal(ccol, expected.nonzero()[:, 1].int())


def test_columns_beyond_int32() -> None:
    n_cols = 2**31 - 1
    crow, ccol = torch.tensor([0, 2], dtype=torch.int32), torch.tensor([0, n_cols - 1]).int()
    name = torch.tensor([0, 0, 1], dtype=torch.int32), torch.tensor([0], dtype=torch.int32)
    counts, columns = merged_rows(*name, crow, ccol, n_cols, 9)
    assert counts.tolist() == [0, 2]
    assert columns.tolist() == [0, n_cols - 1]


def test_merging_moves_less_than_sorting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The matrix of a triangulation times a smoothed prolongation, as on a device."""
    monkeypatch.setattr(spgemm, "_compiled", None)
    for module in (patterns, sparse):
        monkeypatch.setattr(module, "runs_compiled", lambda *_: False)
    n = 48
    A = triangulated(n)
    i = torch.arange(n * n, dtype=torch.int32)
    group = (i % n // 3 + (n // 3) * (i // n // 3)).int()
    P = spgemm.product_pattern(*A, torch.arange(n * n + 1).int(), group, n * n // 9)
    found, counted = [], []
    for many in (1, 1 << 30):
        monkeypatch.setattr(spgemm, "_MANY", many)
        with Passes() as passes:

            def one_kernel(*args: Any, passes: Passes = passes) -> Tensor:
                return passes.kernel(row_max, *args)

            monkeypatch.setattr(merge, "row_max", one_kernel)
            found.append(spgemm.product_pattern(*A, *P, n * n // 9))
        counted.append(passes)
    for merged, ordered in zip(*found, strict=True):
        assert torch.equal(merged, ordered)
    merging, sorting = counted
    assert merging.sorted == 0
    assert sorting.sorted > A[1].numel()
    assert merging.bytes < 0.5 * sorting.bytes
    assert merging.launches < 120
