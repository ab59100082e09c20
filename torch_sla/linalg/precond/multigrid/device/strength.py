"""Strength of connection: which couplings carry smooth error, over tensors.

As in ``csrc/include/torch_sla/multigrid/strength.hpp``: the coupling of rows i and j is strong when
``v_ij² >= θ² m_i m_j``, with ``v_ij = -a_ij sign(a_ii)`` for scalars and the Frobenius norm for
blocks, and ``m_i`` the largest ``v_ij`` of row i. On stretched grids this leaves the short edges, so
that coarsening is along them only. A row whose couplings add up to a twentieth of its diagonal is
left to the smoother. Beside these, what is large for its own row, ``v_ij >= θ m_i``, carries the transfer to that row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import torch

from torch_sla.errors import Result, SolveError
from torch_sla.linalg.kernels import triton
from torch_sla.linalg.kernels.pointers import kept_pointers
from torch_sla.linalg.kernels.rows import row_max, row_sums
from torch_sla.linalg.kernels.sparse import expand_rows
from torch_sla.linalg.precond.multigrid.device.blocks import (
    BlockRows,
    diagonal_blocks,
    multiply,
    unit_scale,
)
from torch_sla.linalg.precond.multigrid.device.nodes import inverted
from torch_sla.linalg.precond.multigrid.device.tied import TIED

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.kernels.triton.strength import Chosen

__all__ = [
    "CARRIED",
    "STRONG",
    "Couplings",
    "Strong",
    "couplings",
    "own_sizes",
    "refuse_holes",
    "strong_graph",
]

# Where a transfer is carried only, and where rows are grouped as well.
CARRIED, STRONG = 1, 2

_DECOUPLED = 0.05
_BITS = 8  # of float32's mantissa that sizes of couplings do without
_KEPT_DIAGONAL = 0.1  # share of a diagonal below which weak couplings are not added to it


@dataclass(frozen=True)
class Strong:
    """The graph of strong couplings of a matrix, each row joined to itself, also in place of what is carried only.

    Parameters
    ----------
    crow, ccol
        Its pattern.
    size
        float32 ``[nnz]`` size of each coupling, -inf where a row is joined to itself.
    """

    crow: Tensor
    ccol: Tensor
    size: Tensor


@dataclass(frozen=True)
class Couplings:
    """Which couplings of a matrix are strong.

    Parameters
    ----------
    keep
        uint8 ``[nnz]``: `STRONG` for strong couplings and on the diagonal, `CARRIED` for what else carries, 0.
    own
        Sizes of the diagonal entries, or norms of the diagonal blocks, ``[n]``.
    tied
        False where it is known that no rows are tied.
    size
        float32 ``[nnz]`` sizes of strong couplings, -inf elsewhere, where they were measured here.
    chosen
        What a device found beside.
    """

    keep: Tensor
    own: Tensor
    tied: bool = True
    size: Tensor | None = None
    chosen: Chosen | None = None


def own_sizes(A: BlockRows) -> Tensor:
    """Return the sizes of the diagonal entries, or the norms of the diagonal blocks, ``[n]``."""
    return torch.linalg.vector_norm(diagonal_blocks(A).flatten(1), dim=1)


def _coarsely(size: Tensor) -> Tensor:
    """Round to float32 without its last bits.

    Couplings that are equal but for rounding then are equal, and devices that round differently
    agree on what is strong and what is strongest.
    """
    bits = size.float().view(torch.int32)
    half = 1 << (_BITS - 1)
    return ((bits + half) & -(1 << _BITS)).view(torch.float32)


def couplings(A: BlockRows, theta: float, keep: Tensor | None = None) -> Couplings:
    """Tell which entries of a square matrix are strong; a mask `keep` decides where it is given.

    Raises
    ------
    SolveError
        ``BREAKDOWN`` where a row has couplings and no diagonal.
    """
    crow, ccol, edge = A.crow, A.ccol, A.values.shape[1]
    if edge == 1 and ccol.numel() and triton.runs(A.values, crow):
        from torch_sla.linalg.kernels.triton.strength import choose

        found = choose(
            crow, ccol, A.values.flatten(), theta, keep,
            bits=_BITS, decoupled=_DECOUPLED, kept=_KEPT_DIAGONAL, tied=TIED, codes=(CARRIED, STRONG),
        )  # fmt: skip
        if found.hole >= 0 and keep is None:
            _refuse(found.hole)
        return Couplings(found.keep, found.own.abs(), found.tied, chosen=found)
    own = diagonal_blocks(A)
    own_size = torch.linalg.vector_norm(own.flatten(1), dim=1)
    if keep is not None:
        return Couplings(keep, own_size)
    row = expand_rows(crow, ccol.numel())
    off = row != ccol
    if edge == 1:
        flat, d = A.values.flatten(), own.flatten()
        sign = torch.where(d < 0, 1.0, -1.0).to(flat.dtype)
        size = torch.where(off, flat * sign[row.long()], 0.0)
    else:
        size = torch.where(off, torch.linalg.vector_norm(A.values.flatten(1), dim=1), 0.0)
    total = row_sums(crow, size.abs())
    _refuse_holes(A, own, total)
    size = _coarsely(size)
    largest = row_max(crow, size, None, 0.0)
    coupled = total > _DECOUPLED * own_size
    largest = _coarsely(torch.where(coupled, largest, 0.0).sqrt())
    here, there = largest[row.long()], largest[ccol.long()]
    there_is = (size > 0) & (here > 0) & (there > 0)
    strong = there_is & (size >= theta * here * there)
    carried = there_is & (size >= theta * here * here)
    keep = torch.where(carried, CARRIED, 0).to(torch.uint8).masked_fill_(strong | ~off, STRONG)
    return Couplings(keep, own_size, size=torch.where(strong, size, -torch.inf))


def strong_graph(A: BlockRows, found: Couplings, damping: float) -> tuple[Strong, BlockRows]:
    """Take the part of a square matrix that carries transfers.

    Returns
    -------
    Strong
        Its graph; without sizes where `found` has none.
    BlockRows
        ``I - damping D⁻¹ S`` with ``S`` that part, other couplings added to its diagonal ``D`` so that
        constants are kept; of nodes, to the diagonal blocks.
    """
    crow, ccol, edge, n = A.crow, A.ccol, A.values.shape[1], A.n_rows
    damping = torch.tensor(damping, dtype=torch.float32).item()  # as kernels take it
    if found.chosen is not None:
        from torch_sla.linalg.kernels.triton.strength import take

        ccol, joined, size, values = take(
            crow, ccol, A.values.flatten(), found.chosen, damping, bits=_BITS, strong=STRONG
        )
        crow = found.chosen.crow
        return (
            Strong(crow, joined, size),
            BlockRows(crow, ccol, values[:, None, None], n, A.longest),
        )
    keep, own = found.keep > 0, diagonal_blocks(A)
    filtered = own + row_sums(crow, torch.where(keep[:, None, None], 0.0, A.values))
    filtered, step = _divisors(filtered, own)
    crow_s, entry = kept_pointers(crow, keep), keep.nonzero().squeeze(1)
    ccol_s, row_s = ccol[entry], expand_rows(crow, ccol.numel())[entry].long()
    on = (ccol_s == row_s)[:, None, None]
    S = BlockRows(crow_s, ccol_s, torch.where(on, filtered[row_s], A.values[entry]), n, A.longest)
    node = torch.arange(n + 1, dtype=crow.dtype, device=crow.device)
    values = multiply(BlockRows(node, node[:-1], -damping * step, n, 1), S, S.where).values
    eye = torch.eye(edge, dtype=values.dtype, device=values.device)
    values = torch.where(on, values + eye, values)
    size = values.new_empty(0) if found.size is None else found.size[entry]
    joined = torch.where(found.keep[entry] == STRONG, ccol_s, row_s.to(ccol_s.dtype))
    return Strong(crow_s, joined, size), BlockRows(crow_s, ccol_s, values, n, A.longest)


def _divisors(filtered: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Return diagonal blocks with what is weak added ``[n, b, b]``, as far as that leaves much, and their inverses.

    Blocks of which less than a tenth would be left in some direction stay whole; singular ones have zeros for inverses.
    """
    if own.shape[1] == 1:
        usable = filtered * own > _KEPT_DIAGONAL * own * own
        filtered = torch.where(usable, filtered, own)
        return filtered, torch.where(filtered != 0, 1.0 / filtered, 0.0)
    d = own.diagonal(dim1=1, dim2=2)
    scale, empty = unit_scale(own), torch.diag_embed((d == 0).to(own.dtype))
    sign = d.sum(1).sign()[:, None, None]
    left = sign * (filtered - _KEPT_DIAGONAL * own) * scale + empty
    _, failed = torch.linalg.cholesky_ex(left + left.mT)
    filtered = torch.where((failed == 0)[:, None, None], filtered, own)
    inverse, sound = inverted((filtered + empty).double(), torch.finfo(own.dtype).eps)
    return filtered, torch.where(sound[:, None, None], inverse, 0.0).to(own.dtype)


def refuse_holes(A: BlockRows) -> None:
    """Refuse a square matrix that has a row with couplings and no diagonal, as `couplings` does.

    Raises
    ------
    SolveError
        ``BREAKDOWN``, with the row.
    """
    own, off = diagonal_blocks(A), expand_rows(A.crow, A.ccol.numel()) != A.ccol
    size = torch.linalg.vector_norm(A.values.flatten(1), dim=1)
    _refuse_holes(A, own, row_sums(A.crow, torch.where(off, size, 0.0)))


def _refuse_holes(A: BlockRows, own: Tensor, total: Tensor) -> None:
    """Every diagonal entry of a row with couplings must be there; a row of a node may be empty beside others."""
    hole = (own.diagonal(dim1=1, dim2=2) == 0) & (total > 0).unsqueeze(1)
    if bool(hole.any()):
        hole &= row_sums(A.crow, A.values.abs().sum(2), A.longest) > 0
        for row in hole.flatten().nonzero()[:1].flatten().tolist():
            _refuse(row)


def _refuse(row: int) -> NoReturn:
    raise SolveError(
        Result.BREAKDOWN, f"multigrid: the diagonal of row {row} is zero and the row is not"
    )
