"""Galerkin products of matrices in parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.linalg.distributed.pieces import entry_halo
from torch_sla.linalg.distributed.rows import BorrowedRows
from torch_sla.linalg.distributed.sharding import Product, Sharding
from torch_sla.linalg.kernels.sparse import expand_rows
from torch_sla.linalg.kernels.spgemm import product_pattern, spgemm_masked
from torch_sla.linalg.precond.multigrid.device.lost import LIFT, lost_share

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch_sla.linalg.distributed.pieces import Moved

__all__ = ["Galerkin", "galerkin", "without_lost"]

# Rows of a coarse matrix that are worked on at a time, at least, and pieces at most.
_ROWS, _PIECES = 1 << 14, 64


def galerkin(A: Sharding, values: Tensor, P: Sharding, transfer: Tensor) -> tuple[Sharding, Tensor]:
    """Return ``Pᴴ A P``, positions and slot values."""
    return Galerkin(A, P)(values, transfer)


def without_lost(
    C: Sharding,
    entries: Tensor,
    P: Sharding,
    transfer: Tensor,
    diagonal: Tensor,
    level: int,
    energy: Tensor | None,
) -> Tensor:
    """Lift rows of ``C = Pᴴ A P`` that hold nothing but rounding, see `multigrid.device.lost`.

    Parameters
    ----------
    C, entries
        Positions and slot values.
    P, transfer
        Of the transfer.
    diagonal
        That of ``A`` ``[n_held]``.
    level
        Of ``A``, from 0.
    energy
        Of each node, see `Coarser`; None where it is one value, whose diagonal says it.
    """
    row, dtype = expand_rows(C.pattern.crow), entries.dtype
    own, share = row == C.pattern.ccol, lost_share(dtype, level)
    terms = Product(P, transfer.square()).adjoint(diagonal.unsqueeze(1)).squeeze(1)
    if energy is None:
        alone = C.row_sums(entries.abs().masked_fill(own, 0.0)) == 0
        lost = alone & (C.diagonal(entries).abs() <= share * terms.abs())
    else:
        lost = (energy <= share).repeat_interleave(len(terms) // max(len(energy), 1))
    lift = torch.where(lost, LIFT[dtype] * terms, 0.0)
    return entries + own * lift.index_select(0, row)


class Galerkin:
    """``Pᴴ A P``, some rows at a time: no whole product of two of the three is ever there.

    Parameters
    ----------
    A, P
        Positions of matrix and transfer.
    """

    def __init__(self, A: Sharding, P: Sharding) -> None:
        self._A, self._P = A, P
        self._right, self._order, self._places = _with_borrowed(A, P)
        self._moved: Moved | None = None
        self._made: Sharding | None = None

    def __call__(self, values: Tensor, transfer: Tensor) -> tuple[Sharding, Tensor]:
        """Return positions and slot values of the product; the first time finds where they belong."""
        A, P = self._A, self._P
        own, m = P.pattern, len(self._places)
        entries = self._order(transfer)
        turned, left = own.transposed, own.transpose_values(transfer).conj().resolve_conj()
        n_rows = turned.shape[0]
        fine = (A.pattern.crow, A.pattern.ccol)
        step = max(_ROWS, -(-n_rows // _PIECES))
        rows, cols, found = [], [], []
        for begin in range(0, max(n_rows, 1), step):
            crow = turned.crow[begin : begin + step + 1]
            first, last = int(crow[0]), int(crow[-1])
            some = (crow - crow[0], turned.ccol[first:last])
            half = product_pattern(*some, *fine, A.pattern.shape[1])
            x = spgemm_masked(
                some, left[None, first:last], fine, values[None], half, A.pattern.shape[1]
            )
            out = product_pattern(*half, *self._right, m)
            found.append(spgemm_masked(half, x, self._right, entries[None], out, m)[0])
            if self._made is None:
                rows.append(begin + expand_rows(out[0]))
                cols.append(out[1])
        del half, x, out, entries
        if self._made is None:
            self._made = self._settle(rows, cols)
        made = torch.cat(found)
        if self._moved is not None:
            made = self._moved.fetch(made)
        return self._made.slots, self._made.pattern.coalesce(made)

    def _settle(self, rows: list[Tensor], cols: list[Tensor]) -> Sharding:
        """Send positions to the owners of their rows, and plan to send values after them."""
        P = self._P
        short = self._places.to(P.columns.index)
        row, col = (short.index_select(0, torch.cat(t)) for t in (rows, cols))
        rows.clear()
        cols.clear()
        comm = self._A.rows.comm
        self._moved, (row, col) = entry_halo(comm, P.columns.owner(row), [row, col])
        return Sharding(P.columns, P.columns, row, col)


def _with_borrowed(
    A: Sharding, P: Sharding
) -> tuple[tuple[Tensor, Tensor], Callable[[Tensor], Tensor], Tensor]:
    """Rows of ``P`` for owned entries and the halo of ``A``: compressed rows, their values, places of the columns."""
    own, layout = P.pattern, P.columns
    borrowed = BorrowedRows(P, A.halo)
    if not A.halo.size:

        def alone(transfer: Tensor) -> Tensor:
            borrowed.fetch(transfer)  # others may want rows of this process
            return transfer

        return (own.crow, own.ccol), alone, P.column_places
    inside = (borrowed.col >= layout.start) & (borrowed.col < layout.start + layout.n_held)
    far, at = torch.unique(borrowed.col, return_inverse=True)
    # Columns that both have occur twice, which adding entries of one position up puts right.
    col = torch.where(inside, borrowed.col - layout.start, own.shape[1] + at)
    order = (borrowed.row * (own.shape[1] + len(far)) + col).argsort()
    lengths = torch.bincount(borrowed.row, minlength=A.halo.size)
    crow = torch.cat([own.crow, (own.nnz_csr + torch.cumsum(lengths, 0)).to(own.crow.dtype)])
    ccol = torch.cat([own.ccol, col[order].to(own.ccol.dtype)])

    def together(transfer: Tensor) -> Tensor:
        return torch.cat([transfer, borrowed.fetch(transfer)[order]])

    return (crow, ccol), together, torch.cat([P.column_places, far])
