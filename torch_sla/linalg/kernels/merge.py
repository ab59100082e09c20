"""Merging sorted rows: the positions of a product of sparse matrices without listing its terms."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from torch_sla.linalg.kernels.rows import row_max
from torch_sla.linalg.kernels.sparse import expand_rows

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ENTRIES", "merged_rows"]

ENTRIES = 1 << 24  # of the left factor merged at a time
_INT32_MAX = 2**31 - 1


def merged_rows(
    crow_a: Tensor, ccol_a: Tensor, crow_b: Tensor, ccol_b: Tensor, n_cols: int, widest: int
) -> tuple[Tensor, Tensor] | None:
    """Positions of ``A B``: row ``i`` is the union of the rows of ``B`` that row ``i`` of ``A`` names.

    All rows are merged side by side, the smallest column first: each entry of ``A`` keeps a cursor in
    its row of ``B``, and in every round those that stand on the smallest column of their row go on. As
    many rounds are needed as the widest row of the result has columns, and a round reads a few words
    for each entry of ``A``; sorting costs as many passes over the elementary products, which are more.

    Parameters
    ----------
    crow_a, ccol_a, crow_b, ccol_b
        The factors, compressed rows of one index dtype, columns sorted in each row of ``B``.
    n_cols
        Columns of ``B``.
    widest
        Columns of a row of the result, above which the merge is given up.

    Returns
    -------
    tuple or None
        Number of columns of each row ``[n_rows]`` and all columns, sorted in each row; None if given up.

    Examples
    --------
    >>> import torch
    >>> crow, ccol = torch.tensor([0, 2, 3]), torch.tensor([0, 1, 0])
    >>> [t.tolist() for t in merged_rows(crow, ccol, crow, ccol, 2, 9)]
    [[2, 2], [0, 1, 0, 1]]
    """
    keys, start = _with_stops(crow_b, ccol_b, n_cols)
    counts, columns = [], []
    for first, last in _runs(crow_a, ccol_a.numel()):
        crow = crow_a[first : last + 1]
        begin, end = crow[[0, -1]].tolist()
        found = _merged(crow - begin, start.index_select(0, ccol_a[begin:end]), keys, widest)
        if found is None:
            return None
        kept = found > 1
        counts.append(kept.sum(1))
        columns.append((n_cols + 1 - found.masked_select(kept)).to(ccol_b.dtype))
    return torch.cat(counts), torch.cat(columns)


def _with_stops(crow: Tensor, ccol: Tensor, n_cols: int) -> tuple[Tensor, Tensor]:
    """Keys of all entries, the larger the smaller the column, a zero after each row; where rows begin."""
    n, nnz = crow.numel() - 1, ccol.numel()
    index = torch.int64 if max(nnz + n, n_cols + 1) > _INT32_MAX else torch.int32
    keys = torch.zeros(nnz + n, dtype=index, device=ccol.device)
    keys[torch.arange(nnz, device=ccol.device).add_(expand_rows(crow))] = (
        n_cols + 1 - ccol.to(index)
    )
    return keys, torch.arange(n, dtype=index, device=ccol.device).add_(crow[:-1])


def _runs(crow: Tensor, nnz: int) -> list[tuple[int, int]]:
    """Ranges of rows of about `ENTRIES` entries."""
    n = crow.numel() - 1
    if nnz <= ENTRIES:
        return [(0, n)]
    wanted = torch.arange(0, nnz + ENTRIES, ENTRIES, dtype=crow.dtype, device=crow.device)
    cuts = torch.searchsorted(crow, wanted, right=True).sub_(1).clamp_(0, n)
    cuts[-1] = n
    return list(pairwise(torch.unique(cuts).tolist()))


def _merged(crow: Tensor, at: Tensor, keys: Tensor, widest: int) -> Tensor | None:
    """Keys ``[n_rows, rounds]`` of the columns of each row, 1 where there are no more."""
    row = expand_rows(crow)
    found: list[Tensor] = []
    while True:
        head = keys.index_select(0, at)
        top = row_max(crow, head, None, 1)
        if not bool((top > 1).any()):
            break
        if len(found) == widest:
            return None
        found.append(top)
        at.add_(head == top.index_select(0, row))
    return torch.stack(found, 1) if found else keys.new_empty(crow.numel() - 1, 0)
