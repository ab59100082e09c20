"""Products of two sparse matrices without the extension, a few elementary products at a time."""

from __future__ import annotations

import pytest
import torch

from torch_sla.linalg.kernels import spgemm


def random_rows(
    m: int, n: int, density: float
) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor], torch.Tensor]:
    dense = torch.randn(2, m, n, dtype=torch.float64) * (torch.rand(m, n) < density)
    stored = dense[0].to_sparse_csr()
    where = (stored.crow_indices(), stored.col_indices())
    row = torch.repeat_interleave(torch.arange(m), where[0].diff())
    return dense, where, dense[:, row, where[1]]


@pytest.mark.parametrize("padding", [0, 100])
@pytest.mark.parametrize("terms", [7, 100, 1 << 20])
def test_bounded_fallback(terms: int, padding: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spgemm, "_compiled", None)
    monkeypatch.setattr(spgemm, "TERMS", terms)
    monkeypatch.setattr(spgemm, "_PADDING", padding)
    A, a_where, a = random_rows(30, 20, 0.2)
    B, b_where, b = random_rows(20, 25, 0.2)
    C = A @ B
    crow, ccol = spgemm.product_pattern(*a_where, *b_where, 25)
    row = torch.repeat_interleave(torch.arange(30), crow.diff())
    got = spgemm.spgemm_masked(a_where, a, b_where, b, (crow, ccol), 25)
    torch.testing.assert_close(got, C[:, row, ccol])
    full = torch.zeros_like(C)
    full[:, row, ccol] = got
    torch.testing.assert_close(full, C)
    _, mask, _ = random_rows(30, 25, 0.3)
    row = torch.repeat_interleave(torch.arange(30), mask[0].diff())
    got = spgemm.spgemm_masked(a_where, a, b_where, b, mask, 25)
    torch.testing.assert_close(got, C[:, row, mask[1]])
    parts = list(spgemm.elementary_products(*a_where, *b_where, terms))
    assert parts[0].first == 0
    assert parts[-1].last == 30
    assert max(t.row.numel() for t in parts) <= terms + 20 * 25


@pytest.mark.parametrize("block", [(), (2, 2)])
@pytest.mark.parametrize("batches", [(0, 0), (1, 0), (0, 1), (2, 1)])
def test_empty_patterns_and_batches(batches: tuple[int, int], block: tuple[int, ...]) -> None:
    crow, ccol = torch.zeros(4, dtype=torch.int32), torch.zeros(0, dtype=torch.int32)
    x, y = (torch.ones(b, 0, *block, dtype=torch.float64) for b in batches)
    got = spgemm.spgemm_masked((crow, ccol), x, (crow, ccol), y, (crow, ccol), 3)
    assert got.shape == (max(batches) if min(batches) else 0, 0, *block)
