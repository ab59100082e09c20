"""Strength of connection: which couplings carry smooth error, over tensors.

As in ``csrc/include/torch_sla/multigrid/strength.hpp``: the coupling of rows i and j is strong when
``v_ij² >= θ² m_i m_j``, with ``v_ij = -a_ij sign(a_ii)`` for scalars and the Frobenius norm for
blocks, and ``m_i`` the largest ``v_ij`` of row i. On stretched grids this leaves the short edges, so
that coarsening is along them only. A row whose couplings add up to a twentieth of its diagonal is
left to the smoother.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from torch_sla.errors import Result, SolveError
from torch_sla.linalg.kernels.rows import row_max, row_sums
from torch_sla.linalg.kernels.sparse import diagonal_slots, expand_rows

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.precond.multigrid.device.blocks import BlockRows

__all__ = ["Strong", "couplings", "own_sizes", "strong_graph"]

_DECOUPLED = 0.05
_BITS = 8  # of float32's mantissa that sizes of couplings do without
_KEPT_DIAGONAL = 0.1  # share of a diagonal below which weak couplings are not added to it


@dataclass(frozen=True)
class Strong:
    """The strong part of a matrix, its diagonal included.

    Parameters
    ----------
    crow, ccol
        Its pattern.
    row
        Row of each entry.
    entry
        Entry of the matrix that each one is.
    values
        ``[nnz, b, b]``; weak couplings are added to the diagonal, so that constants are kept.
    diagonal
        ``[n]`` entry of each diagonal block, -1 where there is none.
    """

    crow: Tensor
    ccol: Tensor
    row: Tensor
    entry: Tensor
    values: Tensor
    diagonal: Tensor


def _offsets_of(keep: Tensor, crow: Tensor) -> Tensor:
    """Row pointers of the entries that are kept."""
    before = torch.zeros(keep.numel() + 1, dtype=torch.int64, device=keep.device)
    torch.cumsum(keep, 0, out=before[1:])
    return before[crow.long()].to(crow.dtype)


def _diagonal(A: BlockRows) -> Tensor:
    """Diagonal blocks ``[n, b, b]``, zero where there is none."""
    slots = diagonal_slots(A.crow, A.ccol, A.n_rows)
    if not A.values.shape[0]:
        return A.values.new_zeros(A.n_rows, *A.values.shape[1:])
    own = A.values[slots.clamp(min=0).long()]
    return torch.where((slots >= 0)[:, None, None], own, 0.0)


def own_sizes(A: BlockRows) -> Tensor:
    """Return the sizes of the diagonal entries, or the norms of the diagonal blocks, ``[n]``."""
    size: Tensor = torch.linalg.vector_norm(_diagonal(A).flatten(1), dim=1)
    return size


def _coarsely(size: Tensor) -> Tensor:
    """Round to float32 without its last bits.

    Couplings that are equal but for rounding then are equal, and devices that round differently
    agree on what is strong and what is strongest.
    """
    bits = size.float().view(torch.int32)
    half = 1 << (_BITS - 1)
    return ((bits + half) & -(1 << _BITS)).view(torch.float32)


def couplings(A: BlockRows, theta: float) -> tuple[Tensor, Tensor]:
    """Tell which entries of a square matrix are strong.

    Returns
    -------
    keep
        bool ``[nnz]``, true for strong couplings and on the diagonal.
    size
        float32 ``[nnz]`` sizes of the couplings, -inf on the diagonal.

    Raises
    ------
    SolveError
        ``BREAKDOWN`` where a row has couplings and no diagonal.
    """
    crow, ccol, edge = A.crow, A.ccol, A.values.shape[1]
    row, own = expand_rows(crow), _diagonal(A)
    off = row != ccol
    if edge == 1:
        flat, d = A.values.flatten(), own.flatten()
        sign = torch.where(d < 0, 1.0, -1.0).to(flat.dtype)
        size = torch.where(off, flat * sign[row.long()], 0.0)
    else:
        size = torch.where(off, torch.linalg.vector_norm(A.values.flatten(1), dim=1), 0.0)
    own_size = torch.linalg.vector_norm(own.flatten(1), dim=1)
    total = row_sums(crow, size.abs())
    _refuse_holes(own, total)
    size = _coarsely(size)
    largest = row_max(crow, size, None, 0.0)
    coupled = total > _DECOUPLED * own_size
    largest = _coarsely(torch.where(coupled, largest, 0.0).sqrt())
    here, there = largest[row.long()], largest[ccol.long()]
    keep = (size > 0) & (here > 0) & (there > 0) & (size >= theta * here * there)
    return keep | ~off, torch.where(off, size, -torch.inf)


def strong_graph(A: BlockRows, keep: Tensor) -> Strong:
    """Take the entries `keep` of a square matrix, and add the others to its diagonal."""
    crow, ccol, edge = A.crow, A.ccol, A.values.shape[1]
    own = _diagonal(A)
    filtered = own + row_sums(crow, torch.where(keep[:, None, None], 0.0, A.values))
    if edge == 1:
        usable = filtered * own > _KEPT_DIAGONAL * own * own
        filtered = torch.where(usable, filtered, own)
    crow_s, entry = _offsets_of(keep, crow), keep.nonzero().squeeze(1)
    ccol_s, row_s = ccol[entry], expand_rows(crow)[entry]
    on = ccol_s == row_s
    values = torch.where(on[:, None, None], filtered[row_s.long()], A.values[entry])
    diagonal = diagonal_slots(crow_s, ccol_s, A.n_rows)
    return Strong(crow_s, ccol_s, row_s, entry, values, diagonal)


def _refuse_holes(own: Tensor, total: Tensor) -> None:
    """Every diagonal entry of a row with couplings must be there."""
    hole = (own.diagonal(dim1=1, dim2=2) == 0).any(1) & (total > 0)
    if bool(hole.any()):
        row = int(hole.nonzero()[0])
        raise SolveError(
            Result.BREAKDOWN,
            f"multigrid: the diagonal of row {row} is zero and the row is not",
        )
