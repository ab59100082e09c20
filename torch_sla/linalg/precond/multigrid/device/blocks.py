"""Matrices of small dense blocks in compressed rows: what a hierarchy is set up from.

Products are expanded into their elementary terms, which are sorted by position and summed, a
bounded number of them at a time. The order of the terms of one entry is that of the factors, hence
the same bits every time. Bell, Dalton and Olson, Exposing fine-grained parallelism in algebraic
multigrid methods, SIAM J. Sci. Comput. 34, 2012.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from torch_sla.linalg.kernels.rows import Rows
from torch_sla.linalg.kernels.sparse import expand_rows, segment_sum, transpose_csr

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["BlockRows", "flatten", "grouped", "multiply", "transpose"]

_TERMS = 1 << 25  # elementary products (scalars) handled at a time


@dataclass(frozen=True)
class BlockRows:
    """Blocks ``values [nnz, b, c]`` on a pattern ``crow``, ``ccol``."""

    crow: Tensor
    ccol: Tensor
    values: Tensor
    n_cols: int

    @property
    def n_rows(self) -> int:
        """Number of block rows."""
        return self.crow.numel() - 1


def grouped(crow: Tensor, ccol: Tensor, values: Tensor, edge: int) -> BlockRows:
    """Group the entries of a scalar matrix ``[n, n]`` into blocks; absent entries are zero."""
    n = crow.numel() - 1
    if edge == 1:
        return BlockRows(crow, ccol, values.reshape(-1, 1, 1), n)
    m = n // edge
    row, col = expand_rows(crow).long(), ccol.long()
    key = torch.div(row, edge, rounding_mode="floor") * m
    key += torch.div(col, edge, rounding_mode="floor")
    unique, slot = torch.unique(key, return_inverse=True)
    place = (slot * edge + row % edge) * edge + col % edge
    blocks = values.new_zeros(unique.numel() * edge * edge)
    blocks[place] = values
    rows = torch.div(unique, m, rounding_mode="floor")
    return BlockRows(
        _pointers(rows, m, crow.dtype),
        (unique - rows * m).to(ccol.dtype),
        blocks.reshape(-1, edge, edge),
        m,
    )


def _pointers(rows: Tensor, n_rows: int, dtype: torch.dtype) -> Tensor:
    """Row pointers of sorted rows."""
    wanted = torch.arange(n_rows + 1, dtype=rows.dtype, device=rows.device)
    return torch.searchsorted(rows, wanted).to(dtype)


def transpose(A: BlockRows) -> BlockRows:
    """Return ``Aᵀ``."""
    crow, ccol, perm = transpose_csr(A.crow, A.ccol, A.n_cols)
    values = A.values[perm.long()].transpose(1, 2).contiguous()
    return BlockRows(crow, ccol, values, A.n_rows)


def multiply(A: BlockRows, B: BlockRows) -> BlockRows:
    """Return ``A B``, all positions that a term reaches.

    Memory beyond the result is bounded by a few words for each of a fixed number of terms.
    """
    device, index = A.ccol.device, A.ccol.dtype
    b, c = A.values.shape[1], B.values.shape[2]
    prefix = torch.zeros(A.ccol.numel() + 1, dtype=torch.int64, device=device)
    torch.cumsum(B.crow.diff()[A.ccol.long()], 0, out=prefix[1:])
    before = prefix[A.crow.long()]  # terms before each row
    total = int(before[-1])
    budget = max(_TERMS // (b * c), 1)
    wanted = torch.arange(budget, total + budget, budget, device=device)
    cuts = torch.unique(torch.searchsorted(before, wanted, right=True).clamp(max=A.n_rows + 1) - 1)
    bounds = sorted({0, A.n_rows, *cuts.tolist()})
    columns, values, counts = [], [], []
    for first, last in pairwise(bounds):
        found, col, val = _rows_of_product(A, B, prefix, first, last)
        counts.append(found)
        columns.append(col.to(index))
        values.append(val)
    crow = torch.zeros(A.n_rows + 1, dtype=torch.int64, device=device)
    if counts:
        torch.cumsum(torch.cat(counts), 0, out=crow[1:])
        return BlockRows(crow.to(index), torch.cat(columns), torch.cat(values), B.n_cols)
    return BlockRows(crow.to(index), A.ccol.new_empty(0), B.values.new_empty(0, b, c), B.n_cols)


def _rows_of_product(
    A: BlockRows, B: BlockRows, prefix: Tensor, first: int, last: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Entries by row, columns and blocks of rows ``first <= i < last`` of ``A B``."""
    device = A.ccol.device
    begin, end = int(A.crow[first]), int(A.crow[last])
    start = prefix[begin : end + 1]
    n_terms = int(start[-1] - start[0])
    entry = torch.arange(begin, end, device=device)
    left = torch.repeat_interleave(entry, start.diff(), output_size=n_terms)
    right = torch.arange(n_terms, device=device) - (prefix[left] - start[0])
    right += B.crow[A.ccol[left].long()]
    row = expand_rows(A.crow[first : last + 1] - begin)  # of each entry
    key = row[left - begin].long() * B.n_cols + B.ccol[right]
    key, order = torch.sort(key, stable=True)
    fresh = torch.ones(n_terms, dtype=torch.bool, device=device)
    if n_terms:
        torch.ne(key[1:], key[:-1], out=fresh[1:])
    heads = fresh.nonzero().squeeze(1)
    unique = key[heads]
    del key, fresh
    terms = _terms(A.values[left], B.values[right])
    offsets = torch.cat([heads, heads.new_full((1,), n_terms)]).to(A.ccol.dtype)
    blocks = segment_sum(terms.flatten(1)[None], offsets, order.to(A.ccol.dtype))
    rows = torch.div(unique, max(B.n_cols, 1), rounding_mode="floor")
    edges = torch.searchsorted(rows, torch.arange(last - first + 1, device=device))
    b, c = A.values.shape[1], B.values.shape[2]
    return edges.diff(), unique - rows * B.n_cols, blocks.reshape(-1, b, c)


def _terms(a: Tensor, b: Tensor) -> Tensor:
    """Multiply blocks pairwise."""
    if a.shape[2] == 1:
        return a * b
    return torch.bmm(a, b)


def flatten(A: BlockRows, dtype: torch.dtype, scale: float = 1.0) -> Rows:
    """Return the scalar matrix, its values scaled and converted."""
    b, c = A.values.shape[1:]
    if b == c == 1:
        values = A.values.flatten()
        values = values * scale if scale != 1.0 else values
        return Rows.of(A.crow, A.ccol, values.to(dtype), A.n_cols)
    index, device = A.ccol.dtype, A.ccol.device
    count = A.crow.diff().long()
    row = expand_rows(A.crow).long()
    start = A.crow.long()
    rank = torch.arange(A.ccol.numel(), device=device) - start[row]
    # Block (row, rank) holds entries (i, j) at  start b c + i count c + rank c + j.
    i = torch.arange(b, device=device).reshape(1, b, 1)
    j = torch.arange(c, device=device)
    place = (start[row] * (b * c) + rank * c).reshape(-1, 1, 1) + j
    place = place + i * (count[row] * c).reshape(-1, 1, 1)
    values = torch.empty(A.values.numel(), dtype=dtype, device=device)
    values[place.flatten()] = (A.values * scale).to(dtype).flatten()
    ccol = torch.empty(A.values.numel(), dtype=index, device=device)
    columns = (A.ccol * c).reshape(-1, 1, 1) + j.to(index)
    ccol[place.flatten()] = columns.expand(-1, b, c).flatten()
    lengths = torch.repeat_interleave(count * c, b)
    crow = torch.zeros(lengths.numel() + 1, dtype=torch.int64, device=device)
    torch.cumsum(lengths, 0, out=crow[1:])
    return Rows.of(crow.to(index), ccol, values, A.n_cols * c)
