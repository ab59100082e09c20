"""Cutting a matrix along its graph when it is in parts already, and nobody has all of it.

Rows join points that are kept, as for a coarser level, over all parts together. The first process cuts the graph of
these points, about a tenth of the rows, and rows go where their points go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.linalg.distributed.partition import choose_parts
from torch_sla.linalg.distributed.precond.kept_points import Graph, chosen, extended, numbered
from torch_sla.linalg.distributed.tensor import DSparseTensor
from torch_sla.linalg.kernels.rows import row_max
from torch_sla.linalg.kernels.sparse import expand_rows

if TYPE_CHECKING:
    from torch_sla.linalg.distributed.communicator import Communicator
    from torch_sla.linalg.distributed.sharding import Sharding

__all__ = ["along_graph", "recut"]


def along_graph(A: Sharding, edge: int = 1) -> Tensor:
    """Choose the part of each row held here ``[n_held]`` by the graph of the entries; all processes call it together.

    Parameters
    ----------
    A
        Positions, in any parts.
    edge
        Rows of a node, one after the other, which stay together.
    """
    comm, pattern = A.rows.comm, A.pattern
    row, col = expand_rows(pattern.crow).long(), pattern.ccol.long()
    joined = row != col
    row, col = row[joined], col[joined]
    degree = torch.bincount(row, minlength=A.rows.n_held)
    kept = chosen(A, Graph(joined, joined, degree)) | (degree == 0)
    layout, place = numbered(A.rows, kept)
    near = extended(A, place)[pattern.ccol.long()].masked_fill_(~joined, -1)
    point = torch.where(kept, place, row_max(pattern.crow, near, None, -1))
    del near, joined
    pairs = torch.unique(point[row] * layout.n + extended(A, point)[col])
    del row, col
    part = _cut_of_points(comm, layout.n, pairs, point)[point]
    return part.reshape(-1, edge)[:, :1].expand(-1, edge).reshape(-1)


def _cut_of_points(comm: Communicator, n: int, pairs: Tensor, point: Tensor) -> Tensor:
    """Cut the graph of `n` points on the first process; the part of each ``[n]``, on every process.

    Parameters
    ----------
    pairs
        Joined points, ``first * n + second``.
    point
        That of each row here, which makes their sizes.
    """
    whose, rows = torch.unique(point, return_counts=True)
    _, (pairs,) = comm.route(torch.zeros_like(pairs), [pairs])
    _, (whose, rows) = comm.route(torch.zeros_like(whose), [whose, rows])
    part = torch.zeros(n, dtype=torch.int64, device=point.device)
    if comm.rank == 0:
        sizes = torch.zeros_like(part).index_add_(0, whose, rows)
        ends = torch.div(pairs, n, rounding_mode="floor"), pairs % n
        part = choose_parts(*ends, n, comm.parts, method="graph", weights=sizes)
    return comm.broadcast(part)


def recut(D: DSparseTensor, part: Tensor) -> DSparseTensor:
    """Send rows to other parts, without history; all processes call it together.

    Parameters
    ----------
    part
        Where each row held here goes ``[n_held]``.
    """
    s, names = D.sharding.slots, D.layout.names
    there = torch.cat([names, D.halo_names])
    row, col = names[expand_rows(s.pattern.crow).long()], there[s.pattern.ccol.long()]
    near = D.near_nullspace
    told = [names, part] if near is None else [names, part, near]
    _, (names, part, *rest) = D.comm.route(part, told)
    order = torch.argsort(part * D.shape[0] + names)
    names, part = names[order], part[order]
    made = DSparseTensor.from_local(
        *(D.slot_values().detach(), row, col, D.shape),
        [names[part == p] for p in D.comm.held],
        comm=D.comm,
        near_nullspace=rest[0][order] if rest else None,
    )
    return made.settled()
