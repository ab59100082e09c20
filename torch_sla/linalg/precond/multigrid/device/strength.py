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
from torch_sla.linalg.kernels.rows import row_max
from torch_sla.linalg.kernels.sparse import diagonal_slots, expand_rows, segment_sum

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.precond.multigrid.device.blocks import BlockRows

__all__ = ["Strong", "offsets_of", "strong_graph"]

_DECOUPLED = 0.05
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
    values
        ``[nnz, b, b]``; weak couplings are added to the diagonal, so that constants are kept.
    weight
        ``[nnz]`` sizes of the couplings, -inf on the diagonal.
    diagonal
        ``[n]`` entry of each diagonal block, -1 where there is none.
    """

    crow: Tensor
    ccol: Tensor
    row: Tensor
    values: Tensor
    weight: Tensor
    diagonal: Tensor


def offsets_of(keep: Tensor, crow: Tensor) -> Tensor:
    """Row pointers of the entries that are kept."""
    before = torch.zeros(keep.numel() + 1, dtype=torch.int64, device=keep.device)
    torch.cumsum(keep, 0, out=before[1:])
    return before[crow.long()].to(crow.dtype)


def _row_sums(crow: Tensor, x: Tensor) -> Tensor:
    """Sum ``[nnz, *]`` by row."""
    flat = x.reshape(1, x.shape[0], -1)
    order = torch.arange(x.shape[0], dtype=crow.dtype, device=crow.device)
    return segment_sum(flat, crow, order).reshape(crow.numel() - 1, *x.shape[1:])


def strong_graph(A: BlockRows, theta: float) -> Strong:
    """Find the strong couplings of a square matrix.

    Raises
    ------
    SolveError
        ``BREAKDOWN`` where a row has couplings and no diagonal.
    """
    n, edge = A.n_rows, A.values.shape[1]
    crow, ccol = A.crow, A.ccol
    row = expand_rows(crow)
    slots = diagonal_slots(crow, ccol, n)
    has = slots >= 0
    safe = slots.clamp(min=0).long()
    own = A.values[safe] if A.values.shape[0] else A.values.new_zeros(n, edge, edge)
    own = torch.where(has[:, None, None], own, 0.0)
    off = row != ccol
    if edge == 1:
        flat = A.values.flatten()
        own_size = own.flatten().abs()
        sign = torch.where(own.flatten() < 0, 1.0, -1.0).to(flat.dtype)
        size = torch.where(off, flat * sign[row.long()], 0.0)
    else:
        own_size = torch.linalg.vector_norm(own.flatten(1), dim=1)
        size = torch.where(off, torch.linalg.vector_norm(A.values.flatten(1), dim=1), 0.0)
    total = _row_sums(crow, size.abs())
    _refuse_holes(own, total)
    largest = row_max(crow, size, None, 0.0)
    largest = torch.where(total > _DECOUPLED * own_size, largest, 0.0)
    bound = largest.sqrt() * theta
    strong = (size > 0) & (size >= bound[row.long()] * largest.sqrt()[ccol.long()])
    strong &= (largest > 0)[row.long()] & (largest > 0)[ccol.long()]
    keep = strong | ~off
    filtered = own + _row_sums(crow, torch.where(keep[:, None, None], 0.0, A.values))
    if edge == 1:
        usable = filtered * own > _KEPT_DIAGONAL * own * own
        filtered = torch.where(usable, filtered, own)
    crow_s = offsets_of(keep, crow)
    kept = keep.nonzero().squeeze(1)
    ccol_s, row_s = ccol[kept], row[kept]
    values = A.values[kept]
    on = ccol_s == row_s
    values = torch.where(on[:, None, None], filtered[row_s.long()], values)
    weight = torch.where(on, -torch.inf, size[kept])
    return Strong(crow_s, ccol_s, row_s, values, weight, diagonal_slots(crow_s, ccol_s, n))


def _refuse_holes(own: Tensor, total: Tensor) -> None:
    """Every diagonal entry of a row with couplings must be there."""
    hole = (own.diagonal(dim1=1, dim2=2) == 0).any(1) & (total > 0)
    if bool(hole.any()):
        row = int(hole.nonzero()[0])
        raise SolveError(
            Result.BREAKDOWN,
            f"multigrid: the diagonal of row {row} is zero and the row is not",
        )
