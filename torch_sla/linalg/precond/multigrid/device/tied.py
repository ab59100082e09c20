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

from torch_sla.linalg.kernels.rows import row_sums
from torch_sla.linalg.kernels.sparse import expand_rows

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

__all__ = ["TIED", "Groups", "compressed", "tied_groups"]

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
    """

    rows: Tensor
    size: Tensor
    blocks: Tensor
    outside: Tensor

    @property
    def group(self) -> Tensor:
        """Group of each row ``[m]``."""
        number = torch.arange(len(self.size), device=self.size.device)
        return number.repeat_interleave(self.size)

    @property
    def place(self) -> Tensor:
        """Place of each row in its group ``[m]``."""
        first = (self.size.cumsum(0) - self.size).repeat_interleave(self.size)
        return torch.arange(len(self.rows), device=self.rows.device) - first

    def inverted(self) -> Groups | None:
        """Return the groups with inverse blocks, without those that have none; None where no group is left."""
        inverse, failed = torch.linalg.inv_ex(self.blocks)
        sound = (failed == 0) & inverse.isfinite().all(-1).all(-1)
        if not bool(sound.any()):
            return None
        kept = sound[self.group]
        return Groups(self.rows[kept], self.size[sound], inverse[sound], self.outside[kept])

    def heavier(self) -> Groups:
        """Return the groups with what is outside added to the diagonals, away from zero."""
        blocks, group, place = self.blocks.clone(), self.group, self.place
        own = blocks[group, place, place]
        blocks[group, place, place] = own + torch.where(own < 0, -self.outside, self.outside)
        return replace(self, blocks=blocks)


def compressed(groups: Groups) -> tuple[Tensor, Tensor, Tensor]:
    """Return all blocks as one matrix ``[m, m]`` in compressed rows, and where its entries are in the blocks."""
    size, device = groups.size, groups.size.device
    edge = torch.arange(groups.blocks.shape[1], device=device)
    used = edge < size[:, None]
    filled = used[:, :, None] & used[:, None, :]
    first = size.cumsum(0) - size
    column = (first[:, None, None] + edge).expand_as(filled)
    crow = torch.zeros(len(groups.rows) + 1, dtype=torch.int64, device=device)
    torch.cumsum(size.repeat_interleave(size), 0, out=crow[1:])
    return crow, column[filled], filled


def tied_groups(crow: Tensor, ccol: Tensor, values: Tensor, own: Tensor) -> Groups | None:
    """Find the groups of a matrix in compressed rows; None where no rows are tied.

    Parameters
    ----------
    crow, ccol
        Pattern ``[n_rows, n_cols]``; columns after those of the rows are nobody's here.
    values
        ``[nnz]``, or blocks ``[nnz, b, b]``.
    own
        Sizes of the diagonal entries ``[n_rows]``, or norms of blocks.
    """
    b = 1 if values.ndim == 1 else values.shape[1]
    i, j = _pairs(crow, ccol, values, own)
    if not len(i):
        return None
    rows, at = torch.unique(torch.cat([i, j]), return_inverse=True)
    group = _parts(at.cpu().numpy(), len(rows), _MOST // b).to(rows.device)
    group, order = group.sort(stable=True)
    return _blocks(crow, ccol, values.reshape(-1, b, b), rows[order], group)


def _pairs(crow: Tensor, ccol: Tensor, values: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows of couplings that tie them, each coupling in both directions."""
    n = len(own)
    found = [torch.zeros(2, 0, dtype=torch.int64, device=values.device)]
    run = _RUN_ON_CUDA if values.is_cuda else max(_RUN, n // 64)
    for begin in range(0, n, run):
        here = crow[begin : begin + run + 1]
        first, last = int(here[0]), int(here[-1])
        i, j = begin + expand_rows(here - first), ccol[first:last]
        least = TIED * own[i.clamp(max=n - 1)] * own[j.clamp(max=n - 1)]
        square = values[first:last].square()
        if values.ndim > 1:
            square = square.flatten(1).sum(1)
        tied = (j < n) & (i != j) & (square >= least) & (least > 0)
        found.append(torch.stack([i[tied], j[tied]]).long())
    i, j = torch.cat(found, 1)
    both = torch.isin(i * n + j, j * n + i)
    return i[both], j[both]


def _parts(ends: npt.NDArray[np.int64], n: int, most: int) -> Tensor:
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
    return torch.from_numpy(component.astype(np.int64))


def _blocks(crow: Tensor, ccol: Tensor, values: Tensor, rows: Tensor, group: Tensor) -> Groups:
    """Return the groups of rows ``[m]`` of a matrix of blocks ``[nnz, b, b]``."""
    b, device = values.shape[1], rows.device
    size = torch.bincount(group)
    number = torch.arange(len(rows), device=device)
    place = number - (size.cumsum(0) - size)[group]
    start, length = crow[rows].long(), crow.diff()[rows].long()
    k = number.repeat_interleave(length)
    slot = torch.arange(len(k), device=device) + (start - (length.cumsum(0) - length))[k]
    # Few rows are tied, so their columns are looked up among them.
    ascending, back = rows.sort()
    column = ccol[slot].long()
    at = torch.searchsorted(ascending, column).clamp(max=len(rows) - 1)
    other = back[at]
    inside = (ascending[at] == column) & (group[other] == group[k])
    taken = values[slot].double()
    far = torch.where(inside[:, None], 0.0, taken.abs().sum(-1))
    offsets = torch.zeros(len(rows) + 1, dtype=torch.int64, device=device)
    torch.cumsum(length, 0, out=offsets[1:])
    outside = row_sums(offsets, far).flatten()
    k, other, taken = k[inside], other[inside], taken[inside]
    most = int(size.max())
    edge = torch.arange(most, device=device)
    used = edge < size[:, None]
    Z = torch.zeros(len(size), most, most, b, b, dtype=torch.float64, device=device)
    Z[group[k], place[k], place[other]] = taken
    Z += torch.diag_embed((~used).double())[..., None, None] * torch.eye(b, device=device)
    Z = Z.transpose(2, 3).reshape(len(size), most * b, most * b)
    flat = (rows[:, None] * b + torch.arange(b, device=device)).flatten()
    return Groups(flat, size * b, Z, outside)
