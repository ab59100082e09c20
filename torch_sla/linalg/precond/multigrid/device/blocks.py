"""Matrices of small dense blocks in compressed rows: what a hierarchy is set up from.

The pattern of a product comes from merging the rows of the right factor, all rows side by side, or
from sorting the positions of its elementary terms (Bell, Dalton and Olson, Exposing fine-grained
parallelism in algebraic multigrid methods, SIAM J. Sci. Comput. 34, 2012). Its entries are then summed
in the order of the left factor, hence the same bits every time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from torch_sla.linalg.kernels.pointers import pointers
from torch_sla.linalg.kernels.rows import Rows
from torch_sla.linalg.kernels.sparse import diagonal_slots, expand_rows, transpose_csr
from torch_sla.linalg.kernels.spgemm import product_positions, spgemm_masked

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "BlockRows",
    "Positions",
    "dense",
    "diagonal_blocks",
    "flatten",
    "full_rows",
    "grouped",
    "multiply",
    "transpose",
    "unit_scale",
]


_INT32_MAX = 2**31 - 1

Positions = tuple["Tensor", "Tensor", "int | None"]
"""``crow`` and ``ccol`` of a matrix, and the number of blocks in its longest row where it is known."""


@dataclass(frozen=True)
class BlockRows:
    """Blocks ``values [nnz, b, c]`` on a pattern ``crow``, ``ccol``; `longest` is the longest row, if known."""

    crow: Tensor
    ccol: Tensor
    values: Tensor
    n_cols: int
    longest: int | None = None

    @property
    def where(self) -> Positions:
        """Its positions."""
        return self.crow, self.ccol, self.longest

    @property
    def n_rows(self) -> int:
        """Number of block rows."""
        return self.crow.numel() - 1


def grouped(
    crow: Tensor, ccol: Tensor, values: Tensor, edge: int, longest: int | None = None
) -> BlockRows:
    """Group the entries of a scalar matrix ``[n, n]`` into blocks; absent entries are zero."""
    n = crow.numel() - 1
    if edge == 1:
        return BlockRows(crow, ccol, values.reshape(-1, 1, 1), n, longest)
    m = n // edge
    row, col = expand_rows(crow, ccol.numel()).long(), ccol.long()
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
    longest = int(crow.diff().amax()) if A.n_cols else 0
    return BlockRows(crow, ccol, values, A.n_rows, longest)


def multiply(A: BlockRows, B: BlockRows, where: Positions | None = None) -> BlockRows:
    """Return ``A B`` on the positions `where`; None means all that a term reaches.

    Memory beyond the result is bounded by a few words for each of a fixed number of terms.
    """
    b, m, c = A.values.shape[1], A.values.shape[2], B.values.shape[2]
    if where is None:
        where = product_positions(A.crow, A.ccol, B.crow, B.ccol, B.n_cols, longest=A.longest)
    scalar = b == m == c == 1
    left, right = (v.reshape(1, -1) if scalar else v[None] for v in (A.values, B.values))
    values = spgemm_masked((A.crow, A.ccol), left, (B.crow, B.ccol), right, where[:2], B.n_cols)
    crow, ccol, longest = where
    return BlockRows(crow, ccol, values.reshape(-1, b, c), B.n_cols, longest)


def flatten(A: BlockRows, dtype: torch.dtype) -> Rows:
    """Return the scalar matrix, its values converted."""
    b, c = A.values.shape[1:]
    longest = None if A.longest is None else A.longest * c
    if b == c == 1:
        return Rows.of(A.crow, A.ccol, A.values.flatten().to(dtype), A.n_cols, longest)
    index, device = A.ccol.dtype, A.ccol.device
    if A.values.numel() > _INT32_MAX:
        index = torch.int64
    count = A.crow.diff().long()
    row = expand_rows(A.crow, A.ccol.numel()).long()
    start = A.crow.long()
    rank = torch.arange(A.ccol.numel(), device=device) - start[row]
    # Block (row, rank) holds entries (i, j) at  start b c + i count c + rank c + j.
    i = torch.arange(b, device=device).reshape(1, b, 1)
    j = torch.arange(c, device=device)
    place = (start[row] * (b * c) + rank * c).reshape(-1, 1, 1) + j
    place = place + i * (count[row] * c).reshape(-1, 1, 1)
    values = torch.empty(A.values.numel(), dtype=dtype, device=device)
    values[place.flatten()] = A.values.to(dtype).flatten()
    ccol = torch.empty(A.values.numel(), dtype=index, device=device)
    columns = (A.ccol.to(index) * c).reshape(-1, 1, 1) + j.to(index)
    ccol[place.flatten()] = columns.expand(-1, b, c).flatten()
    lengths = torch.repeat_interleave(count * c, b)
    return Rows.of(pointers(lengths).to(index), ccol, values, A.n_cols * c, longest)


def diagonal_blocks(A: BlockRows) -> Tensor:
    """Diagonal blocks ``[n, b, b]``, zero where there is none."""
    slots = diagonal_slots(A.crow, A.ccol, A.n_rows)
    if not A.values.shape[0]:
        return A.values.new_zeros(A.n_rows, *A.values.shape[1:])
    own = A.values[slots.clamp(min=0).long()]
    return torch.where((slots >= 0)[:, None, None], own, 0.0)


def unit_scale(blocks: Tensor) -> Tensor:
    """Return factors ``[n, b, b]`` that bring diagonals of blocks to ones: no jump then passes for a null space."""
    d = blocks.diagonal(dim1=1, dim2=2).abs()
    scale = torch.where(d > 0, d, 1.0).rsqrt()
    return scale.unsqueeze(1) * scale.unsqueeze(2)


def full_rows(matrix: Tensor) -> Rows:
    """Write a dense matrix as rows, so that it is applied like any other, in a fixed order."""
    n, device = matrix.shape[0], matrix.device
    crow = torch.arange(0, n * n + 1, max(n, 1), dtype=torch.int32, device=device)[: n + 1]
    ccol = torch.arange(n, dtype=torch.int32, device=device).repeat(n)
    return Rows(crow, ccol, matrix.flatten(), n, n)


def dense(A: Rows) -> Tensor:
    """Write a small matrix out."""
    out = A.values.new_zeros(A.n_rows, A.n_cols)
    out[expand_rows(A.crow, A.ccol.numel()).long(), A.ccol.long()] = A.values
    return out
