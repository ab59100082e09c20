"""Sums of products of tables against the same written out."""

from __future__ import annotations

import pytest
import torch

from torch_sla.linalg.kernels.tables import MOST, add_products, multiplies

pytestmark = pytest.mark.skipif(not multiplies(torch.float64), reason="needs the extension")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("index", [torch.int32, torch.int64])
@pytest.mark.parametrize("count", range(1, MOST + 1))
@pytest.mark.parametrize("threads", [1, 2])
def test_sums_of_products(dtype: torch.dtype, index: torch.dtype, count: int, threads: int) -> None:
    made = torch.Generator().manual_seed(count)
    rows, points, levels, members = 30, 50, 7, 13
    lengths = torch.randint(0, 6, (rows,), generator=made)
    crow = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]).int()
    nnz = int(crow[-1])
    ccol = torch.randint(0, points, (nnz,), generator=made).int()
    slots = torch.randperm(nnz, generator=made).to(index)
    values, weight, start = (torch.randn(n, generator=made).to(dtype) for n in (nnz, points, rows))
    tables = [torch.randn(levels, members, generator=made).to(dtype) for _ in range(count)]
    which = [torch.randint(0, levels, (points,), generator=made).int() for _ in range(count)]
    law = weight[:, None]
    for table, level in zip(tables, which, strict=True):
        law = law * table[level.long()]
    row = torch.repeat_interleave(torch.arange(rows), lengths)
    sums = torch.zeros(rows, members, dtype=dtype)
    sums.index_add_(0, row, values[slots.long(), None] * law[ccol.long()])
    y = torch.full_like(sums, float("nan"))
    given = (y, crow, ccol, slots, values, tables, which, weight)
    add_products(*given, start=start, threads=threads)
    torch.testing.assert_close(y, start[:, None] + sums)
    add_products(*given, threads=threads)
    torch.testing.assert_close(y, start[:, None] + 2 * sums)


def test_wrong_sizes_are_refused() -> None:
    some = torch.arange(2, dtype=torch.int32)
    y, a, table = torch.zeros(1, 2), torch.ones(2), torch.ones(2, 3)
    with pytest.raises(ValueError, match=r"`tables` must be \[levels, members\]"):
        add_products(y, 2 * some, some, some, a, [table], [some])
    with pytest.raises(ValueError, match="a number for each point"):
        add_products(y, 2 * some, some, some, a, [torch.ones(2, 2)], [some], torch.ones(3))
