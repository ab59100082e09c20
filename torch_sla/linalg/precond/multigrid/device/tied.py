"""Rows that values tie together: a smoother inverts each small group of them as one block.

Rows i and j are tied where ``min(|a_ij|, |a_ji|)² >= 0.55 |a_ii a_jj|``, norms in place of numbers for blocks. A flat
tetrahedron brings one stiff condition on its four corners: all of its couplings are that strong, whatever their signs.
Three of the four ways in which the corners can move meet no stiffness, and a smoother that knows the rows one by one
shortens every step there by the factor of the stiffness; the coarse levels see one of the three. Neighbours on a
regular grid reach a quarter, along a stretched one and at its free ends a half. The compiled smoothers have the same
rule (``csrc/include/torch_sla/multigrid/tied.hpp``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from torch_sla.linalg.checks import read
from torch_sla.linalg.kernels.pointers import pointers
from torch_sla.linalg.kernels.rows import row_sums
from torch_sla.linalg.kernels.sparse import expand_rows
from torch_sla.linalg.precond.multigrid.device.blocks import unit_scale

if TYPE_CHECKING:
    from typing import TypeAlias

    import numpy.typing as npt
    from torch import Tensor

    _Ints: TypeAlias = npt.NDArray[np.int64]

__all__ = ["TIED", "Groups", "compressed", "pseudo_inverse", "tied_groups"]

TIED = 0.55  # of the product of the diagonal entries, the square of the coupling
_MOST = 24  # scalar rows in a group
_RUN = 1 << 14  # rows that are looked at at a time, at least
_RUN_ON_CUDA = 1 << 22  # launches cost more there


@dataclass(frozen=True)
class Groups:
    """Groups of rows of a matrix, and the dense block of each.

    Parameters
    ----------
    rows
        Scalar rows in groups ``[m]``, group after group.
    size
        Scalar rows of each group ``[groups]``.
    blocks
        ``[groups, most, most]`` in double precision, ones on the diagonal beyond the size.
    outside
        What couples each of `rows` to rows of no group or another, summed by size ``[m]``.
    entries
        Entries of all blocks, those beyond the sizes apart.
    """

    rows: Tensor
    size: Tensor
    blocks: Tensor
    outside: Tensor
    entries: int

    @property
    def group(self) -> Tensor:
        """Group of each row ``[m]``."""
        number = torch.arange(len(self.size), device=self.size.device)
        return number.repeat_interleave(self.size, output_size=len(self.rows))

    @property
    def place(self) -> Tensor:
        """Place of each row in its group ``[m]``."""
        first = self.size.cumsum(0) - self.size
        return torch.arange(len(self.rows), device=self.rows.device) - first[self.group]

    def inverted(self, rtol: float) -> Groups | None:
        """Return the groups with inverse blocks, without those that have none; None where no group is left.

        A group that nothing couples to other rows may be singular but for rounding: it has a pseudo-inverse, without
        singular values below `rtol` times the largest.
        """
        inverse, failed = torch.linalg.inv_ex(self.blocks)
        coupled = (self.outside > 0).long()
        alone = torch.zeros_like(self.size).index_add_(0, self.group, coupled) == 0
        sound = (failed == 0) & inverse.isfinite().all(-1).all(-1) | alone
        asked = (self.size.square() * sound).sum(), sound.all(), alone.any()
        entries, all_sound, any_alone = (int(x) for x in read(*asked))
        if any_alone:
            inverse[alone] = pseudo_inverse(self.blocks[alone], rtol)
        if all_sound:
            return replace(self, blocks=inverse)
        if not entries:
            return None
        kept = sound[self.group]
        rows, outside = self.rows[kept], self.outside[kept]
        return Groups(rows, self.size[sound], inverse[sound], outside, entries)

    def heavier(self) -> Groups:
        """Return the groups with what is outside added to the diagonals, away from zero."""
        blocks, group, place = self.blocks.clone(), self.group, self.place
        own = blocks[group, place, place]
        blocks[group, place, place] = own + torch.where(own < 0, -self.outside, self.outside)
        return replace(self, blocks=blocks)


def pseudo_inverse(blocks: Tensor, rtol: float) -> Tensor:
    """Return pseudo-inverses ``[n, b, b]``, found under symmetric scaling by the diagonals."""
    scale = unit_scale(blocks)
    return torch.linalg.pinv(blocks * scale, rtol=rtol) * scale


def compressed(groups: Groups) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """Return all blocks as one matrix ``[m, m]`` in compressed rows, and where its entries are in the blocks."""
    size, group = groups.size, groups.group
    crow = pointers(size[group])
    row = expand_rows(crow, groups.entries)
    column = torch.arange(groups.entries, device=size.device) - crow[row]
    own = group[row]
    first = size.cumsum(0) - size
    return crow, first[own] + column, (own, groups.place[row], column)


def tied_groups(
    crow: Tensor, ccol: Tensor, values: Tensor, own: Tensor, edge: int = 1
) -> Groups | None:
    """Find the groups of a matrix in compressed rows; None where no rows are tied.

    Few rows are tied: they are grouped on the host, which is told of them once and says once where their entries are.

    Parameters
    ----------
    crow, ccol
        Pattern ``[n_rows, n_cols]``; columns after those of the rows are nobody's here.
    values
        ``[nnz]``, or blocks ``[nnz, b, b]``.
    own
        Sizes of the diagonal entries ``[n_rows]``, or norms of blocks.
    edge
        Rows of a node, one after the other, all of which are in the group of one that is tied.
    """
    b = 1 if values.ndim == 1 else values.shape[1]
    i, j = _couplings(crow, ccol, values, own)
    if not len(i):
        return None
    if edge > 1:
        mates = torch.arange(edge, device=i.device)
        node = (torch.unique(torch.div(i, edge, rounding_mode="floor")) * edge).unsqueeze(1)
        first, second = torch.cartesian_prod(mates, mates).unbind(1)
        i, j = torch.cat([i, (node + first).flatten()]), torch.cat([j, (node + second).flatten()])
    pairs = torch.stack([i, j, crow[i].long(), crow[i + 1].long()])
    rows, *where = _rows(pairs.cpu().numpy(), _MOST // b)
    return _blocks(ccol, values.reshape(-1, b, b), rows, *where) if len(rows) else None


def _couplings(crow: Tensor, ccol: Tensor, values: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows and columns of the entries that tie a row to another."""
    n = len(own)
    found = [torch.zeros(2, 0, dtype=torch.int64, device=values.device)]
    run = _RUN_ON_CUDA if values.is_cuda else max(_RUN, n // 64)
    for begin in range(0, n, run):
        here = crow[begin : begin + run + 1]
        first, last = (0, ccol.numel()) if n <= run else (int(here[0]), int(here[-1]))
        i, j = begin + expand_rows(here - first, last - first), ccol[first:last]
        least = TIED * own[i.clamp(max=n - 1)] * own[j.clamp(max=n - 1)]
        square = values[first:last].square()
        if values.ndim > 1:
            square = square.flatten(1).sum(1)
        at = ((j < n) & (i != j) & (square >= least) & (least > 0)).nonzero()[:, 0]
        found.append(torch.stack([i[at], j[at]]).long())
    i, j = torch.cat(found, 1)
    return i, j


def _rows(pairs: _Ints, most: int) -> tuple[_Ints, _Ints, _Ints, _Ints]:
    """Group the rows that couplings tie in both directions.

    Parameters
    ----------
    pairs
        Rows, columns, and where the rows begin and end ``[4, pairs]``.
    most
        Rows in a group.

    Returns
    -------
    rows, group, start, length
        Tied rows ``[m]``, group after group, and their entries.
    """
    n = pairs[:2].max() + 1
    i, j, start, end = pairs[:, np.isin(pairs[0] * n + pairs[1], pairs[1] * n + pairs[0])]
    if not len(i):
        return i, j, start, end
    rows, first, at = np.unique(i, return_index=True, return_inverse=True)
    ends = np.concatenate([at, np.searchsorted(rows, j)])
    group = _parts(ends, len(rows), most)
    order = np.argsort(group, kind="stable")
    chosen = first[order]
    return rows[order], group[order], start[chosen], (end - start)[chosen]


def _parts(ends: _Ints, n: int, most: int) -> _Ints:
    """Return the group of each of `n` rows that pairs tie, first ends and then second ones; none is too large."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components, reverse_cuthill_mckee

    i, j = ends.reshape(2, -1)
    graph = csr_array((np.ones(len(i), np.int8), (i, j)), (n, n))
    _, component = connected_components(graph, directed=False)
    if np.bincount(component).max() > most:
        # Cut along rows in an order in which those that are tied are near each other.
        order = reverse_cuthill_mckee(graph, symmetric_mode=True)
        order = order[np.argsort(component[order], kind="stable")]
        sizes = np.bincount(component)
        pieces = -(-sizes // most)
        place = np.empty(n, np.int64)
        place[order] = np.arange(n) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        first = np.cumsum(pieces) - pieces
        component = first[component] + place * pieces[component] // sizes[component]
    return component.astype(np.int64)


def _blocks(
    ccol: Tensor, values: Tensor, rows: _Ints, group: _Ints, start: _Ints, length: _Ints
) -> Groups:
    """Return the groups of rows ``[m]`` of a matrix of blocks ``[nnz, b, b]``, whose entries begin at `start`."""
    b, device, m = values.shape[1], values.device, len(rows)
    size = np.bincount(group)
    count, most = len(size), int(size.max())
    place = np.arange(m) - (np.cumsum(size) - size)[group]
    k, before = np.repeat(np.arange(m), length), np.cumsum(length) - length
    slot = np.arange(len(k)) + (start - before)[k]
    offsets, back = np.append(before, len(k)), np.argsort(rows)
    # One message: a device is waited for with each.
    parts = (rows, group, place, rows[back], back, size, offsets, k, slot)
    whole = torch.from_numpy(np.concatenate(parts).astype(np.int64)).to(device)
    tensors = whole.split([len(part) for part in parts])
    row, own, at, ascending, order, sizes, ends, k_, slots = tensors
    # Few rows are tied, so their columns are looked up among them.
    column = ccol[slots].long()
    found = torch.searchsorted(ascending, column).clamp(max=m - 1)
    other = order[found]
    inside = (ascending[found] == column) & (own[other] == own[k_])
    taken = values[slots].double()
    far = torch.where(inside[:, None], 0.0, taken.abs().sum(-1))
    outside = row_sums(ends, far, longest=int(length.max())).flatten()
    # What is not inside goes where nobody looks.
    spot = (own[k_] * most + at[k_]) * most + at[other]
    Z = torch.zeros(count * most * most + 1, b, b, dtype=torch.float64, device=device)
    Z[torch.where(inside, spot, count * most * most)] = taken
    Z = Z[:-1].reshape(count, most, most, b, b)
    beyond = torch.arange(most, device=device) >= sizes[:, None]
    Z += torch.diag_embed(beyond.double())[..., None, None] * torch.eye(b, device=device)
    Z = Z.transpose(2, 3).reshape(count, most * b, most * b)
    flat = (row[:, None] * b + torch.arange(b, device=device)).flatten()
    return Groups(flat, sizes * b, Z, outside, int((size**2).sum()) * b * b)
