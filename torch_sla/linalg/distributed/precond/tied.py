"""Rows that values tie together: a smoother inverts each small group of them as one block.

Rows i and j are tied where ``min(|a_ij|, |a_ji|)² >= 0.55 |a_ii a_jj|``. A flat tetrahedron brings one stiff condition
on its four corners: all of its couplings are that strong, whatever their signs. Three of the four ways in which the
corners can move meet no stiffness, and a smoother that knows the rows one by one shortens every step there by the
factor of the stiffness; the coarse levels see one of the three. Neighbours on a regular grid reach a quarter, along a
stretched one and at its free ends a half. The compiled smoothers of one process have the same rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from torch_sla.linalg.kernels import sparse as kernels
from torch_sla.linalg.kernels.sparse import expand_rows

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    from torch_sla.linalg.distributed.sharding import Sharding

__all__ = ["Ties"]

_TIED = 0.55  # of the product of the diagonal entries, the square of the coupling
_MOST = 24  # rows in a group
_RUN = 1 << 14  # rows that are looked at at a time, at least


@dataclass(frozen=True)
class Ties:
    """Blocks in place of the diagonal, for groups of tied rows; each group is within one part.

    Parameters
    ----------
    rows
        Rows in groups ``[m]``, of those that are held here, group after group.
    crow, ccol
        Which of them are together, compressed rows of ``[m, m]``.
    inverse, turned
        Inverses of the blocks, and their adjoints.
    """

    rows: Tensor
    crow: Tensor
    ccol: Tensor
    inverse: Tensor
    turned: Tensor

    @classmethod
    def of(cls, A: Sharding, values: Tensor) -> Ties | None:
        """Find the groups of a matrix, slot values ``[nnz]``; None where no rows held here are tied."""
        i, j = _pairs(A, values)
        if not len(i):
            return None
        rows, at = torch.unique(torch.cat([i, j]), return_inverse=True)
        group = _groups(at.cpu().numpy(), len(rows)).to(rows.device)
        group, order = group.sort(stable=True)
        Z, size = _blocks(A, values, rows[order], group)
        inverse, failed = torch.linalg.inv_ex(Z)
        # Rows whose block cannot be inverted stay on their own.
        sound = (failed == 0) & inverse.isfinite().all(-1).all(-1)
        inverse, size, rows = inverse[sound], size[sound], rows[order][sound[group]]
        if not len(rows):
            return None
        edge = torch.arange(inverse.shape[1], device=rows.device)
        used = edge < size[:, None]
        filled = used[:, :, None] & used[:, None, :]
        first = size.cumsum(0) - size
        column = (first[:, None, None] + edge).expand_as(filled)
        crow = torch.zeros(len(rows) + 1, dtype=torch.int64, device=rows.device)
        torch.cumsum(size.repeat_interleave(size), 0, out=crow[1:])
        turned = inverse.transpose(1, 2)[filled]
        entries = (inverse[filled].to(values.dtype), turned.to(values.dtype))
        return cls(rows, crow, column[filled], *entries)

    def put(self, z: Tensor, r: Tensor, *, adjoint: bool) -> None:
        """Replace rows in groups of ``z`` ``[n_held, K]`` by the inverse blocks, or their adjoints, times ``r``."""
        values = self.turned if adjoint else self.inverse
        z.index_copy_(0, self.rows, kernels.spmm(self.crow, self.ccol, values, r[self.rows]))


def _pairs(A: Sharding, values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows of couplings that tie them, both held by one part; each coupling in both directions."""
    pattern, n = A.pattern, A.rows.n_held
    size = A.diagonal(values).abs()
    found = [torch.zeros(2, 0, dtype=torch.int64, device=values.device)]
    run = max(_RUN, n // 64)
    for begin in range(0, n, run):
        crow = pattern.crow[begin : begin + run + 1]
        first, last = int(crow[0]), int(crow[-1])
        i, j = begin + expand_rows(crow - first), pattern.ccol[first:last]
        # Columns of other parts come after those that are owned.
        own = (j < n) & (i != j)
        least = _TIED * size[i.clamp(max=n - 1)] * size[j.clamp(max=n - 1)]
        tied = own & (values[first:last].square() >= least) & (least > 0)
        found.append(torch.stack([i[tied], j[tied]]).long())
    i, j = torch.cat(found, 1)
    both = torch.isin(i * n + j, j * n + i)
    return i[both], j[both]


def _groups(ends: npt.NDArray[np.int64], n: int) -> Tensor:
    """Return the group of each of `n` rows that pairs tie, first ends and then second ones; none is too large."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components, reverse_cuthill_mckee

    i, j = ends.reshape(2, -1)
    graph = csr_array((np.ones(len(i), np.int8), (i, j)), (n, n))
    _, component = connected_components(graph, directed=False)
    if np.bincount(component).max() > _MOST:
        # Cut along rows in an order in which those that are tied are near each other.
        order = reverse_cuthill_mckee(graph, symmetric_mode=True)
        order = order[np.argsort(component[order], kind="stable")]
        sizes = np.bincount(component)
        pieces = -(-sizes // _MOST)
        place = np.empty(n, np.int64)
        place[order] = np.arange(n) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        first = np.cumsum(pieces) - pieces
        component = first[component] + place * pieces[component] // sizes[component]
    return torch.from_numpy(component.astype(np.int64))


def _blocks(A: Sharding, values: Tensor, rows: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
    """Return the block of each group ``[groups, most, most]``, ones on the diagonal beyond it, and its size."""
    pattern, size = A.pattern, torch.bincount(group)
    place = torch.arange(len(rows), device=rows.device) - (size.cumsum(0) - size)[group]
    number = torch.full((pattern.shape[1],), -1, dtype=torch.int64, device=rows.device)
    number[rows] = torch.arange(len(rows), device=rows.device)
    start, length = pattern.crow[rows].long(), pattern.crow.diff()[rows].long()
    k = torch.arange(len(rows), device=rows.device).repeat_interleave(length)
    slot = torch.arange(len(k), device=rows.device) + (start - (length.cumsum(0) - length))[k]
    other = number[pattern.ccol[slot].long()]
    inside = (other >= 0) & (group[other.clamp(min=0)] == group[k])
    k, other, slot = k[inside], other[inside], slot[inside]
    Z = torch.eye(int(size.max()), dtype=torch.float64, device=rows.device).repeat(len(size), 1, 1)
    edge = torch.arange(Z.shape[1], device=rows.device)
    Z.masked_fill_((edge < size[:, None])[:, :, None] & (edge < size[:, None])[:, None], 0.0)
    Z[group[k], place[k], place[other]] = values[slot].double()
    return Z, size
