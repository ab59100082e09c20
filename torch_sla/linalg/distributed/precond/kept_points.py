"""Kept points in parts: how one level makes the next where coefficients jump from point to point.

No aggregate is on one side of a jump in every cell; a point that is kept is. Points are chosen over all parts
together, in rounds (De Sterck, Yang and Heys, Reducing complexity in parallel algebraic multigrid preconditioners,
SIAM J. Matrix Anal. Appl. 27, 2006, "PMIS"), by numbers that depend on their names: what is kept does not depend on
how the matrix is cut. The others interpolate from kept points up to two steps away, as products of matrices
(Li, Sjögreen and Yang, A new class of AMG interpolation methods based on matrix-matrix multiplications, SIAM J. Sci.
Comput. 43, 2021, "MM-ext+i").
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from torch_sla.linalg.distributed.layout import Layout
from torch_sla.linalg.distributed.precond.aggregation import (
    DECOUPLED,
    STALLED,
    Coarser,
    refuse_holes,
)
from torch_sla.linalg.distributed.precond.galerkin import galerkin
from torch_sla.linalg.distributed.rows import BorrowedRows
from torch_sla.linalg.distributed.sharding import Sharding
from torch_sla.linalg.kernels.rows import row_max
from torch_sla.linalg.kernels.sparse import expand_rows
from torch_sla.linalg.precond.multigrid.suits import JUMP, SHORT, SPREAD
from torch_sla.linalg.sparse.tensor import SparseTensor

__all__ = ["Graph", "chosen", "extended", "keep_points", "numbered", "spread_and_jumps"]

_TIE = 1 - 1e-5  # couplings that are equal but for rounding count as equal
_DIAGONAL = 1e-3  # of a diagonal, below which what is added to it is left out
_OPEN, _KEPT, _OTHER = 0, 1, 2


def spread_and_jumps(A: Sharding, values: Tensor) -> tuple[bool, bool]:
    """Tell, on all processes, whether the diagonal spreads widely, and whether points are to be kept; see `suits`."""
    comm, pattern = A.rows.comm, A.pattern
    d = A.diagonal(values).abs()
    inside = d > 0
    size = torch.where(inside, d, 1.0).log().float()
    there = torch.cat([size, A.halo.fetch(size)])
    step = size.index_select(0, expand_rows(pattern.crow)) - there.index_select(0, pattern.ccol)
    step = step.masked_fill_(values == 0, 0.0)
    none = size.new_full((1,), -torch.inf)
    facts = torch.stack(
        [
            torch.cat([size[inside], none]).amax(),
            torch.cat([-size[inside], none]).amax(),
            torch.cat([step, none]).amax(),
            (~inside & (pattern.crow.diff() > 0)).any().float(),
        ]
    )
    high, low, most, holes = comm.reduce(facts, "max").tolist()
    entries = int(comm.reduce(torch.tensor([pattern.nnz_csr], device=values.device)))
    wide, short = high + low > log(SPREAD), entries <= SHORT * A.rows.n
    return wide, wide and short and not holes and most > log(JUMP)


@dataclass(frozen=True)
class Graph:
    """Which entries are strong, in which direction.

    Parameters
    ----------
    strong
        ``[nnz]``: the row depends on the column.
    either
        ``[nnz]``: one of them depends on the other, the mirrored entry taken to be equal.
    count
        ``[n_held]`` rows that depend on each.
    """

    strong: Tensor
    either: Tensor
    count: Tensor


def keep_points(A: Sharding, values: Tensor, strength: float) -> Coarser | None:
    """Make the next level; None where it would not be much smaller.

    Parameters
    ----------
    A, values
        The matrix of this level, slot values.
    strength
        Share of the largest coupling of a row from which on a coupling is strong.
    """
    refuse_holes(A, A.diagonal(values), values)
    kept = chosen(A, _graph(A, values, strength))
    layout, place = numbered(A.rows, kept)
    if not layout.n or layout.n > STALLED * A.rows.n:
        return None
    return _Points(strength, kept, layout, place)(A, values, 0.0)


class _Points:
    """What is chosen: makes the next level for any values; whom the others interpolate from follows these."""

    def __init__(self, strength: float, kept: Tensor, layout: Layout, place: Tensor) -> None:
        self._strength, self._chosen = strength, (kept, layout, place)

    def __call__(self, A: Sharding, values: Tensor, radius: float) -> Coarser:
        del radius
        refuse_holes(A, A.diagonal(values), values)
        strong = _graph(A, values, self._strength).strong
        P, transfer = _interpolation(A, values, strong, *self._chosen)
        coarse, entries = galerkin(A, values, P, transfer)
        return Coarser(P, transfer, coarse, entries, None, 1, self)


def extended(A: Sharding, x: Tensor) -> Tensor:
    """Owned entries and halo of ``[n_held]``."""
    return torch.cat([x, A.halo.fetch(x)])


def _graph(A: Sharding, values: Tensor, strength: float) -> Graph:
    pattern = A.pattern
    row, col = expand_rows(pattern.crow).long(), pattern.ccol.long()
    d = A.diagonal(values)
    size = values * torch.where(d < 0, 1.0, -1.0).to(values.dtype)[row]
    size = torch.where(col == row, 0.0, size)
    total = A.row_sums(torch.where(col == row, 0.0, values).abs())
    most = row_max(pattern.crow, size, None, 0.0)
    # A row whose couplings add up to next to nothing depends on nobody.
    most = torch.where(total > DECOUPLED * d.abs(), most, torch.inf) * (strength * _TIE)
    strong = (size > 0) & (size >= most[row])
    depended = (size > 0) & (size >= extended(A, most)[col])
    count = torch.zeros_like(d, dtype=torch.int64).index_add_(0, row, depended.long())
    return Graph(strong, strong | depended, count)


def chosen(A: Sharding, graph: Graph) -> Tensor:
    """Mark kept points: those with more dependents than all open neighbours, until none is open."""
    pattern = A.pattern
    row, col = expand_rows(pattern.crow).long(), pattern.ccol.long()
    name = A.rows.names
    h = name * 0x1E3779B97F4A7C15
    h = ((h ^ (h >> 31)) * 0x3F58476D1CE4E5B9 >> 12) & 0x3FFFF
    rank = (graph.count.clamp(max=0x7FF) << 52) | (h << 34) | name
    lonely = row_max(pattern.crow, graph.either.long(), None, 0) == 0
    state = torch.where(lonely, _OTHER, _OPEN)
    pairs, needs = graph.either.nonzero().squeeze(1), graph.strong.nonzero().squeeze(1)
    for_row, by = row[pairs], col[pairs]
    need_row, needed = row[needs], col[needs]
    while bool(A.rows.comm.reduce((state == _OPEN).any().long(), "max")):
        key = torch.where(state == _OPEN, rank, -1)
        near = torch.full_like(key, -1)
        near.scatter_reduce_(0, for_row, extended(A, key)[by], "amax")
        state = torch.where((state == _OPEN) & (key > near), _KEPT, state)
        found = torch.zeros_like(state)
        kept = (extended(A, state) == _KEPT).long()
        found.scatter_reduce_(0, need_row, kept[needed], "amax")
        state = torch.where((state == _OPEN) & (found > 0), _OTHER, state)
    return state == _KEPT


def numbered(rows: Layout, kept: Tensor) -> tuple[Layout, Tensor]:
    """Lay out the kept points under the names they have; the place of each ``[n_held]``, -1 for others."""
    comm = rows.comm
    sizes = torch.zeros(comm.parts, dtype=torch.int64, device=kept.device)
    for part, here in zip(comm.held, rows.slices, strict=True):
        sizes[part] = kept[here].sum()
    layout = Layout(comm, comm.reduce(sizes), rows.names[kept], rows.device)
    place = torch.where(kept, layout.start + torch.cumsum(kept, 0) - 1, -1)
    return layout, place


def _interpolation(
    A: Sharding, values: Tensor, strong: Tensor, kept: Tensor, layout: Layout, place: Tensor
) -> tuple[Sharding, Tensor]:
    """Weights ``-(D + ...)⁻¹ (A_FF + D_β) D_β⁻¹ A_FC`` of the other points; kept points have their own value.

    With β the sum of a row's strong couplings to kept points: what a point k that is not kept contributes to row i
    is shared out among the kept points of k, and i itself, in proportion to a_kj and a_ik, so that constants are
    kept whatever the latter.
    """
    pattern = A.pattern
    row, col = expand_rows(pattern.crow).long(), pattern.ccol.long()
    target = extended(A, place)
    direct = strong & ~kept[row] & (target[col] >= 0)
    beta = A.row_sums(torch.where(direct, values, 0.0))
    share = torch.where(beta != 0, 1 / torch.where(beta != 0, beta, 1.0), 0.0)
    # One step: a kept point to itself, another to the kept ones it depends on.
    chosen, own = direct.nonzero().squeeze(1), kept.nonzero().squeeze(1)
    first = torch.cat([row[chosen], own])
    step = Sharding(
        A.rows, layout, A.rows.start + first, torch.cat([target[col[chosen]], place[own]])
    )
    entries = torch.cat([values[chosen] * share[row[chosen]], values.new_ones(len(own))])
    weights = step.pattern.coalesce(entries)
    borrowed = BorrowedRows(step, A.halo)
    # Two steps: through the others.
    through = strong & ~kept[row] & (target[col] < 0)
    there = extended(A, beta)[col]
    part = there / torch.where(through, there + values, 1.0)
    part = torch.where(through & torch.isfinite(part), part, 0.0)
    kept_back = torch.where(through, values * (1 - part), 0.0)
    weak = torch.where(strong | (row == col), 0.0, values)
    d = A.diagonal(values)
    length = d + A.row_sums(weak + kept_back)
    length = torch.where(length * d > _DIAGONAL * d * d, length, d)
    length = torch.where(length != 0, length, 1.0)
    coupling = -torch.where(direct, values, values * part) / length[row]
    taken = (direct | (through & (part != 0))).nonzero().squeeze(1)
    ones = values.new_ones(len(own))
    left = SparseTensor(
        torch.cat([coupling[taken], ones]),
        torch.cat([row[taken], own]),
        torch.cat([col[taken], own]),
        pattern.shape,
    )
    places = torch.cat([step.column_places[step.pattern.ccol.long()], borrowed.col])
    seen, short = torch.unique(places, return_inverse=True)
    right = SparseTensor(
        torch.cat([weights, borrowed.fetch(weights)]),
        torch.cat([expand_rows(step.pattern.crow).long(), A.columns.n_held + borrowed.row]),
        short,
        (pattern.shape[1], len(seen)),
    )
    product = left @ right
    P = Sharding(
        A.rows, layout, A.rows.start + product.row_indices.long(), seen[product.col_indices.long()]
    )
    return P.slots, P.pattern.coalesce(product.values)
