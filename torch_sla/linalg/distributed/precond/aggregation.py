"""Smoothed aggregation in parts: how one level makes the next.

Aggregates do not cross parts, everything else does: transfers are smoothed with the couplings to other parts,
and the coarse matrix is the Galerkin product of the whole (Tuminaro and Tong, Parallel smoothed aggregation
multigrid, Supercomputing 2000, "uncoupled").
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from torch_sla.errors import Result, SolveError
from torch_sla.linalg.distributed.layout import Layout
from torch_sla.linalg.distributed.pieces import entry_halo
from torch_sla.linalg.distributed.rows import BorrowedRows
from torch_sla.linalg.distributed.sharding import Sharding
from torch_sla.linalg.kernels.rows import row_max
from torch_sla.linalg.precond.multigrid.device.aggregate import aggregate
from torch_sla.linalg.precond.multigrid.device.strength import Strong
from torch_sla.linalg.precond.multigrid.device.transfer import tentative
from torch_sla.linalg.sparse.pattern import Pattern
from torch_sla.linalg.sparse.tensor import SparseTensor

__all__ = ["DECOUPLED", "STALLED", "Coarser", "coarsen", "galerkin", "refuse_holes"]

STALLED = 0.8  # of the rows of a level, which a coarser one must stay below
DECOUPLED = 0.05  # of the diagonal: a row whose couplings add up to less is left to the smoother


@dataclass(frozen=True)
class Coarser:
    """A transfer and the matrix it leads to.

    Parameters
    ----------
    P, transfer
        Positions and values of the prolongation.
    A, values
        Those of the coarse matrix.
    vectors
        Near-nullspace of the coarse level ``[n_held, k]``.
    edge
        Unknowns of a coarse node.
    """

    P: Sharding
    transfer: Tensor
    A: Sharding
    values: Tensor
    vectors: Tensor | None
    edge: int


def coarsen(
    A: Sharding,
    values: Tensor,
    vectors: Tensor | None,
    edge: int,
    strength: float,
    damping: float,
    radius: float,
) -> Coarser | None:
    """Make the next level; None where it would not be much smaller.

    Parameters
    ----------
    A, values
        The matrix of this level, slot values.
    vectors
        Its near-nullspace ``[n_held, k]``; None stands for constants.
    edge
        Unknowns of a node.
    strength, damping
        See `PartMultigrid`.
    radius
        Spectral radius of ``D⁻¹ A``.
    """
    keep, graph, size = _strong(A, values, edge, strength)
    group, count = aggregate(graph, size)
    layout, group = _numbered(A.rows, group, count, edge, vectors)
    small = layout.n <= STALLED * A.rows.n
    if not small or not layout.n:
        return None
    nodes = None if vectors is None else vectors.reshape(-1, edge, vectors.shape[1])
    like = values.new_empty(0)
    T, coarse_vectors = tentative(nodes, group, count, edge, like)
    k = T.values.shape[2]
    first, weights = _spread(group, T.crow, T.values, edge, k, layout.start)
    P, transfer = _smoothed(A, values, keep, layout, first, weights, damping / radius)
    coarse, entries = galerkin(A, values, P, transfer)
    flat = None if coarse_vectors is None else coarse_vectors.reshape(-1, coarse_vectors.shape[2])
    return Coarser(P, transfer, coarse, entries, flat, k)


def _strong(
    A: Sharding, values: Tensor, edge: int, strength: float
) -> tuple[Tensor, Strong, Tensor]:
    """Tell which slots are strong, and give the graph of nodes of this process that they make.

    The coupling of nodes i and j is strong when its square is at least ``strength²`` times the product of the
    largest couplings of both, one of which may be of another part.
    """
    pattern, n = A.pattern, A.rows.n_held // edge
    row, col = pattern.csr_row.long(), pattern.ccol.long()
    node_row = torch.div(row, edge, rounding_mode="floor")
    place = A.column_places
    node_place = torch.div(place, edge, rounding_mode="floor")
    key = node_row * max(A.columns.n // edge, 1) + node_place[col]
    pairs, pair = torch.unique(key, return_inverse=True)
    if edge == 1:
        d = A.diagonal(values)
        sign = torch.where(d < 0, 1.0, -1.0).to(values.dtype)
        coupling = (values * sign[row]).clamp(min=0)
        size = coupling.new_zeros(len(pairs)).index_add_(0, pair, coupling)
        total = pattern.sum_rows(values.abs()) - d.abs()
        coupled = total > DECOUPLED * d.abs()
    else:
        square = values.new_zeros(len(pairs)).index_add_(0, pair, values.square())
        size = square.sqrt()
        coupled = torch.ones(n, dtype=torch.bool, device=values.device)
    pair_row = torch.div(pairs, max(A.columns.n // edge, 1), rounding_mode="floor")
    pair_col = pairs - pair_row * max(A.columns.n // edge, 1)
    own = pair_row + A.rows.start // edge == pair_col
    # Sizes that are equal but for rounding count as equal.
    size = torch.where(own, 0.0, size).float()
    crow = torch.zeros(n + 1, dtype=torch.int64, device=values.device)
    torch.cumsum(torch.bincount(pair_row, minlength=n), 0, out=crow[1:])
    largest = torch.where(coupled, row_max(crow, size, None, 0.0), 0.0)
    spread = A.halo.fetch(largest.repeat_interleave(edge).unsqueeze(1)).squeeze(1)
    there = torch.cat([largest.repeat_interleave(edge), spread])[col]
    entry_size = size[pair]
    here = largest[node_row]
    limit = strength * (here * there).sqrt() * (1 - 1e-5)
    strong = (entry_size > 0) & (here > 0) & (there > 0) & (entry_size >= limit)
    keep = strong | own[pair]
    # The graph of this process's nodes: parts are not joined, their couplings being in the halo.
    inner = torch.zeros(len(pairs), dtype=torch.bool, device=values.device)
    inner[pair[keep & (col < A.columns.n_held)]] = True
    chosen = inner.nonzero().squeeze(1)
    # Pairs are sorted by row and column, so the chosen ones are in the order of compressed rows.
    starts = torch.zeros_like(crow)
    torch.cumsum(torch.bincount(pair_row[chosen], minlength=n), 0, out=starts[1:])
    node_col = pair_col[chosen] - A.columns.start // edge
    graph = Pattern.from_csr(starts, node_col, (n, n))
    sizes = torch.where(own[chosen], -torch.inf, size[chosen])
    empty = values.new_empty(0, 1, 1)
    found = Strong(graph.crow, graph.ccol, graph.csr_row, chosen, empty, graph.diagonal_slots)
    return keep, found, sizes


def _numbered(
    rows: Layout, group: Tensor, count: int, edge: int, vectors: Tensor | None
) -> tuple[Layout, Tensor]:
    """Give aggregates numbers part after part, and lay out their unknowns."""
    comm, k = rows.comm, edge if vectors is None else vectors.shape[1]
    members = (group >= 0).nonzero().squeeze(1)
    places = rows.start + members * edge
    part = torch.zeros(count, dtype=torch.int64, device=group.device)
    part[group[members]] = rows.owner(places)
    order = part.argsort(stable=True)
    number = torch.empty_like(order)
    number[order] = torch.arange(count, device=group.device)
    sizes = torch.bincount(part, minlength=comm.parts) * k
    layout = Layout(comm, comm.reduce(sizes), device=rows.device)
    if not count:
        return layout, group
    return layout, torch.where(group >= 0, number[group.clamp(min=0)], -1)


def _spread(
    group: Tensor, crow: Tensor, blocks: Tensor, edge: int, k: int, start: int
) -> tuple[Tensor, Tensor]:
    """Return the first coarse place of each unknown ``[n_held]``, -1 for none, and its weights ``[n_held, k]``."""
    first = torch.where(group >= 0, start + group * k, -1).repeat_interleave(edge)
    weights = blocks.new_zeros(len(group), edge, k)
    weights[crow.diff() > 0] = blocks
    return first, weights.reshape(-1, k)


def _smoothed(
    A: Sharding,
    values: Tensor,
    keep: Tensor,
    layout: Layout,
    first: Tensor,
    weights: Tensor,
    step: float,
) -> tuple[Sharding, Tensor]:
    """Return ``(I - step D⁻¹ A_F) T``, with ``A_F`` the strong part of ``A``."""
    pattern, k = A.pattern, weights.shape[1]
    row, col = pattern.csr_row.long(), pattern.ccol.long()
    first = torch.cat([first, A.halo.fetch(first)])
    weights = torch.cat([weights, A.halo.fetch(weights)])
    d = A.diagonal(values)
    # Weak couplings are added to the diagonal, so that constants are kept.
    lumped = d + pattern.sum_rows(torch.where(keep, 0.0, values))
    lumped = torch.where(lumped * d > 0.1 * d * d, lumped, d)
    refuse_holes(A, d, values)
    on = A.diagonal_slots[A.diagonal_slots >= 0]
    filtered = torch.where(keep, values, 0.0)
    filtered[on] = lumped[row[on]]
    # Rows without entries stand for vectors that are dependent on their aggregate.
    length = torch.where(lumped != 0, step / torch.where(lumped != 0, lumped, 1.0), 0.0)
    entries = -length[row] * filtered
    entries[on] += 1
    kept = ((entries != 0) & (first[col] >= 0)).nonzero().squeeze(1)
    # Columns that occur, k for each aggregate.
    seen = torch.unique(first[col[kept]])
    S = SparseTensor(entries[kept], row[kept], col[kept], pattern.shape)
    inside = (first >= 0).nonzero().squeeze(1) if len(seen) else first.new_empty(0)
    place = torch.searchsorted(seen, first[inside]).clamp(max=len(seen) - 1)
    used = seen[place] == first[inside]
    inside, place = inside[used], place[used]
    c = torch.arange(k, device=row.device)
    T = SparseTensor(
        weights[inside].flatten(),
        inside.repeat_interleave(k),
        (place.unsqueeze(1) * k + c).flatten(),
        (pattern.shape[1], len(seen) * k),
    )
    product = S @ T
    places = (seen.unsqueeze(1) + c).flatten()
    P = Sharding(
        A.rows,
        layout,
        A.rows.start + product.row_indices.long(),
        places[product.col_indices.long()],
    )
    return P.slots, P.pattern.coalesce(product.values)


def refuse_holes(A: Sharding, d: Tensor, values: Tensor) -> None:
    """Every diagonal entry of a row with entries must be there; all processes raise together."""
    hole = ((d == 0) & (A.pattern.sum_rows(values.abs()) > 0)).any().to(d.dtype)
    if float(A.rows.comm.reduce(hole, "max")) > 0:
        raise SolveError(Result.BREAKDOWN, "multigrid: a diagonal entry is zero and its row is not")


def galerkin(A: Sharding, values: Tensor, P: Sharding, transfer: Tensor) -> tuple[Sharding, Tensor]:
    """Return ``Pᴴ A P``."""
    comm = A.rows.comm
    borrowed = BorrowedRows(P, A.halo)
    own = P.pattern
    col = torch.cat([P.column_places[own.ccol.long()], borrowed.col])
    row = torch.cat([own.csr_row.long(), A.columns.n_held + borrowed.row])
    entries = torch.cat([transfer, borrowed.fetch(transfer)])
    places, short = torch.unique(col, return_inverse=True)
    right = SparseTensor(entries, row, short, (A.pattern.shape[1], len(places)))
    half = SparseTensor.from_pattern(A.pattern.slots, values) @ right
    coarse = SparseTensor.from_pattern(own.slots, transfer).H() @ half
    rows = P.column_places[coarse.row_indices.long()]
    cols = places[coarse.col_indices.long()]
    halo, (rows, cols) = entry_halo(comm, P.columns.owner(rows), [rows, cols])
    out = Sharding(P.columns, P.columns, rows, cols)
    return out.slots, out.pattern.coalesce(halo.fetch(coarse.values))
