"""Smoothed aggregation in parts: how one level makes the next.

Aggregates do not cross parts, everything else does: transfers are smoothed with the couplings to other parts,
and the coarse matrix is the Galerkin product of the whole (Tuminaro and Tong, Parallel smoothed aggregation
multigrid, Supercomputing 2000, "uncoupled").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.errors import Result, SolveError
from torch_sla.linalg.distributed.layout import Layout
from torch_sla.linalg.distributed.precond.galerkin import Galerkin, galerkin
from torch_sla.linalg.distributed.sharding import Sharding, taken
from torch_sla.linalg.kernels.pointers import kept_pointers, pointers
from torch_sla.linalg.kernels.rows import row_max
from torch_sla.linalg.kernels.sparse import expand_rows, spmm
from torch_sla.linalg.kernels.spgemm import product_pattern, spgemm_masked
from torch_sla.linalg.precond.multigrid.device.aggregate import aggregate
from torch_sla.linalg.precond.multigrid.device.lost import least_share
from torch_sla.linalg.precond.multigrid.device.strength import Strong
from torch_sla.linalg.precond.multigrid.device.transfer import tentative
from torch_sla.linalg.sparse.pattern import Pattern

if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = ["DECOUPLED", "STALLED", "Coarser", "coarsen", "refuse_holes"]

STALLED = 0.8  # of the rows of a level, which a coarser one must stay below
_TIE = 1 - 1e-5  # sizes that are equal but for rounding count as equal
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
    again
        Makes the same of the matrix of this level, other slot values and the spectral radius of theirs: what was
        chosen stays, and so do positions and plans of exchange where these follow from it. None where not kept.
    energy
        Of each coarse node, the smallest share of its terms that a combination of the near-nullspace on the aggregate
        has, where nothing is coupled to it, else infinite; None where a node is one value.
    """

    P: Sharding
    transfer: Tensor
    A: Sharding
    values: Tensor
    vectors: Tensor | None
    edge: int
    again: Callable[[Sharding, Tensor, float], Coarser] | None = None
    energy: Tensor | None = None


def coarsen(
    A: Sharding,
    values: Tensor,
    vectors: Tensor | None,
    edge: int,
    strength: float,
    damping: float,
    radius: float,
    *,
    renewable: bool,
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
    renewable
        Whether to keep what other values can use.
    """
    keep, graph = _strong(A, values, edge, strength)
    group, count = aggregate(graph)
    layout, group = _numbered(A.rows, group, count, edge, vectors)
    small = layout.n <= STALLED * A.rows.n
    if not small or not layout.n:
        return None
    nodes = None if vectors is None else vectors.reshape(-1, edge, vectors.shape[1])
    like = values.new_empty(0)
    T, coarse_vectors = tentative(nodes, group, count, edge, like)
    k = T.values.shape[2]
    first, weights = _spread(group, T.crow, T.values, edge, k, layout.start)
    del graph, group, T
    flat = None if coarse_vectors is None else coarse_vectors.reshape(-1, coarse_vectors.shape[2])
    smoothing = _Smoothing(A, keep, layout, first, weights)
    del keep, first, weights
    if renewable:
        return _Aggregated(smoothing, damping, flat)(A, values, radius)
    P, transfer = smoothing.P, smoothing.weights(values, damping / radius)
    energy = smoothing.least_energy(values)
    del smoothing
    coarse, entries = galerkin(A, values, P, transfer)
    return Coarser(P, transfer, coarse, entries, flat, k, energy=energy)


class _Aggregated:
    """What is chosen: makes the next level for any values.

    Parameters
    ----------
    smoothing
        Makes the transfer.
    damping
        Of its step, over the spectral radius.
    vectors
        Near-nullspace of the coarse level.
    """

    def __init__(self, smoothing: _Smoothing, damping: float, vectors: Tensor | None) -> None:
        self._smoothing, self._damping, self._vectors = smoothing, damping, vectors
        self._product = Galerkin(smoothing.A, smoothing.P)

    def __call__(self, A: Sharding, values: Tensor, radius: float) -> Coarser:
        del A  # its positions are those that the transfer was made for
        smoothing = self._smoothing
        transfer = smoothing.weights(values, self._damping / radius)
        energy = smoothing.least_energy(values)
        coarse, entries = self._product(values, transfer)
        made = (smoothing.P, transfer, coarse, entries, self._vectors, smoothing.edge, self)
        return Coarser(*made, energy)


def _strong(A: Sharding, values: Tensor, edge: int, strength: float) -> tuple[Tensor, Strong]:
    """Tell which slots are strong, and give the graph of nodes of this process that they make.

    The coupling of nodes i and j is strong when its square is at least ``strength²`` times the product of the
    largest couplings of both, one of which may be of another part.

    Returns
    -------
    keep
        bool ``[nnz]``.
    graph
        Parts are not joined in it, their couplings being in the halo.
    """
    return (_strong_scalars if edge == 1 else _strong_nodes)(A, values, edge, strength)


def _strong_scalars(
    A: Sharding, values: Tensor, edge: int, strength: float
) -> tuple[Tensor, Strong]:
    pattern, n = A.pattern, A.rows.n_held // edge
    row, ccol, d = expand_rows(pattern.crow), pattern.ccol, A.diagonal(values)
    own = ccol == row
    total = A.row_sums(values.abs()) - d.abs()
    sign = torch.where(d < 0, 1.0, -1.0).to(values.dtype)
    size = (values * sign.index_select(0, row)).clamp_(min=0).float().masked_fill_(own, 0.0)
    largest = row_max(pattern.crow, size, None, 0.0)
    largest = torch.where(total > DECOUPLED * d.abs(), largest, 0.0)
    there = torch.cat([largest, A.halo.fetch(largest.unsqueeze(1)).squeeze(1)])
    # Roots first: the product of two small ones may be none.
    limit = largest.sqrt().index_select(0, row)
    del row
    limit.mul_(there.sqrt_().index_select(0, ccol))
    keep = (size > 0) & (limit > 0) & (size >= limit.mul_(strength * _TIE)) | own
    del limit
    inner = keep & (ccol < n)
    crow, sizes = (
        kept_pointers(pattern.crow, inner),
        taken(size.masked_fill_(own, -torch.inf), inner),
    )
    return keep, Strong(crow, taken(ccol, inner), sizes)


def _strong_nodes(A: Sharding, values: Tensor, edge: int, strength: float) -> tuple[Tensor, Strong]:
    pattern, n = A.pattern, A.rows.n_held // edge
    row, col = expand_rows(pattern.crow).long(), pattern.ccol.long()
    node_row = torch.div(row, edge, rounding_mode="floor")
    node_place = torch.div(A.column_places, edge, rounding_mode="floor")
    nodes = max(A.columns.n // edge, 1)
    pairs, pair = torch.unique(node_row * nodes + node_place[col], return_inverse=True)
    square = values.new_zeros(len(pairs)).index_add_(0, pair, values.square())
    pair_row = torch.div(pairs, nodes, rounding_mode="floor")
    pair_col = pairs - pair_row * nodes
    own = pair_row + A.rows.start // edge == pair_col
    # Sizes that are equal but for rounding count as equal.
    size = torch.where(own, 0.0, square.sqrt()).float()
    crow = pointers(torch.bincount(pair_row, minlength=n))
    largest = row_max(crow, size, None, 0.0)
    spread = A.halo.fetch(largest.repeat_interleave(edge).unsqueeze(1)).squeeze(1)
    there = torch.cat([largest.repeat_interleave(edge), spread])[col]
    entry_size = size[pair]
    limit = strength * largest.sqrt()[node_row] * there.sqrt() * _TIE
    keep = (entry_size > 0) & (limit > 0) & (entry_size >= limit) | own[pair]
    inner = torch.zeros(len(pairs), dtype=torch.bool, device=values.device)
    inner[pair[keep & (col < A.columns.n_held)]] = True
    chosen = inner.nonzero().squeeze(1)
    # Pairs are sorted by row and column, so the chosen ones are in the order of compressed rows.
    graph = Pattern.from_csr(
        kept_pointers(crow, inner), pair_col[chosen] - A.columns.start // edge, (n, n)
    )
    sizes = torch.where(own[chosen], -torch.inf, size[chosen])
    return keep, Strong(graph.crow, graph.ccol, sizes)


def _numbered(
    rows: Layout, group: Tensor, count: int, edge: int, vectors: Tensor | None
) -> tuple[Layout, Tensor]:
    """Give aggregates numbers part after part, and lay out their unknowns."""
    comm, k = rows.comm, edge if vectors is None else vectors.shape[1]
    members = (group >= 0).nonzero().squeeze(1)
    places = rows.start + members * edge
    part = torch.zeros(count, dtype=torch.int64, device=group.device)
    part[group[members]] = rows.owner(places).long()
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


class _Smoothing:
    """The transfer ``(I - step D⁻¹ A_F) T``, with ``A_F`` the strong part of ``A``.

    Parameters
    ----------
    A
        Positions of the matrix.
    keep
        Which of its entries are strong, or diagonal.
    layout
        Of the coarse unknowns.
    first, weights
        ``T``, see `_spread`.

    Attributes
    ----------
    A, P
        Positions of the matrix and of the transfer.
    edge
        Unknowns of a coarse node.
    """

    def __init__(
        self, A: Sharding, keep: Tensor, layout: Layout, first: Tensor, weights: Tensor
    ) -> None:
        self.A, self._keep = A, keep
        pattern, k = A.pattern, weights.shape[1]
        self.edge = k
        # Rows without entries stand for vectors that are dependent on their aggregate.
        first = torch.cat([first, A.halo.fetch(first)])
        weights = torch.cat([weights, A.halo.fetch(weights)])
        self._kept = keep & (first >= 0).index_select(0, pattern.ccol)
        crow, ccol = strong = self._strong
        # Aggregates of others that occur, k unknowns each.
        seen = first[torch.unique(ccol[ccol >= A.columns.n_held]).long()]
        inside = (first >= layout.start) & (first < layout.start + layout.n_held)
        far = torch.unique(seen[(seen < layout.start) | (seen >= layout.start + layout.n_held)])
        if len(far):
            at = torch.searchsorted(far, first).clamp_(max=len(far) - 1)
            number = torch.where(far[at] == first, layout.n_held + at * k, -1)
            number = torch.where(inside, first - layout.start, number)
        else:
            number = torch.where(inside, first - layout.start, -1)
        used = number >= 0
        starts = pointers(used * k, crow.dtype)
        c = torch.arange(k, device=crow.device)
        columns = (number[used].unsqueeze(1) + c).flatten().to(ccol.dtype)
        others = (far.unsqueeze(1) + c).flatten()
        self._m = layout.n_held + len(others)
        self._T = starts, columns
        self._tentative = weights[used].reshape(1, -1)
        self._csr = product_pattern(*strong, *self._T, self._m)
        self.P, self._slots = Sharding.of_rows(A.rows, layout, self._csr, others)

    @property
    def _strong(self) -> tuple[Tensor, Tensor]:
        """Compressed rows of the strong part, made again rather than kept."""
        pattern, kept = self.A.pattern, self._kept
        return kept_pointers(pattern.crow, kept), taken(pattern.ccol, kept)

    def weights(self, values: Tensor, step: float) -> Tensor:
        """Return slot values of the transfer for those of the matrix."""
        A, keep = self.A, self._keep
        pattern, d = A.pattern, A.diagonal(values)
        refuse_holes(A, d, values)
        # Weak couplings are added to the diagonal, so that constants are kept.
        lumped = d + A.row_sums(values.masked_fill(keep, 0.0))
        lumped = torch.where(lumped * d > 0.1 * d * d, lumped, d)
        length = torch.where(lumped != 0, step / torch.where(lumped != 0, lumped, 1.0), 0.0)
        entries = values.masked_fill(~keep, 0.0).mul_(
            -length.index_select(0, expand_rows(pattern.crow))
        )
        there = A.diagonal_slots >= 0
        entries[A.diagonal_slots[there]] = 1 - (length * lumped)[there]
        entries = taken(entries, self._kept)
        made = spgemm_masked(
            self._strong, entries[None], self._T, self._tentative, self._csr, self._m
        )[0]
        return made if self._slots is None else self._slots.coalesce(made)

    def least_energy(self, values: Tensor) -> Tensor | None:
        """Return `Coarser.energy` for slot values of the matrix."""
        k, A, (starts, columns) = self.edge, self.A, self._T
        if k == 1:
            return None
        pattern, count = A.pattern, self.P.columns.n_held // k
        used = starts.diff() > 0
        node = torch.full((len(used),), -1, dtype=torch.int64, device=values.device)
        node[used] = torch.div(columns[::k].long(), k, rounding_mode="floor")
        own = node[: A.rows.n_held]
        row, there = own[expand_rows(pattern.crow).long()], node[pattern.ccol.long()]
        crossing = (row != there) & (row >= 0) & (there >= 0) & (values != 0)
        apart = torch.ones(count, dtype=torch.bool, device=values.device)
        apart[row[crossing]] = False
        least = values.new_full((count,), torch.inf)
        inside = (own >= 0).nonzero().squeeze(1)
        inside = inside[apart[own[inside]]]
        if not len(inside):
            return least
        vectors = values.new_zeros(len(used), k)
        vectors[used] = self._tentative.reshape(-1, k)
        forces = spmm(pattern.crow, pattern.ccol, values, vectors)[inside]
        group, vectors = own[inside], vectors[inside]
        energy = values.new_zeros(count, k, k)
        energy.index_add_(0, group, vectors.unsqueeze(2) * forces.unsqueeze(1))
        terms = vectors.square() * A.diagonal(values)[inside].unsqueeze(1)
        terms = values.new_zeros(count, k).index_add_(0, group, terms)
        chosen = torch.unique(group)
        least[chosen] = least_share(energy[chosen], terms[chosen])
        return least


def refuse_holes(A: Sharding, d: Tensor, values: Tensor) -> None:
    """Every diagonal entry of a row with entries must be there; all processes raise together."""
    hole = ((d == 0) & (A.row_sums(values.abs()) > 0)).any().to(d.dtype)
    if float(A.rows.comm.reduce(hole, "max")) > 0:
        raise SolveError(Result.BREAKDOWN, "multigrid: a diagonal entry is zero and its row is not")
