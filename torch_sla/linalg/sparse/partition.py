"""Cutting unknowns into parts of nearly equal size."""

from __future__ import annotations

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, BackendUnavailableError
from torch_sla.linalg.sparse.transforms import outside_transforms, physical

__all__ = ["partition_coordinates", "partition_graph_metis", "partition_simple"]


def partition_simple(num_nodes: int, num_parts: int) -> Tensor:
    """Cut ``0 .. num_nodes - 1`` into runs whose lengths differ by at most one.

    Returns
    -------
    Tensor
        Part of each node, int64 ``[num_nodes]``.

    Examples
    --------
    >>> partition_simple(5, 2).tolist()
    [0, 0, 0, 1, 1]
    """
    _check(num_nodes, num_parts)
    quotient, rest = divmod(num_nodes, num_parts)
    sizes = torch.full((num_parts,), quotient)
    sizes[:rest] += 1
    return torch.repeat_interleave(torch.arange(num_parts), sizes)


@outside_transforms
def partition_coordinates(coordinates: Tensor, num_parts: int) -> Tensor:
    """Bisect recursively across the longest side of the bounding box.

    Parameters
    ----------
    coordinates
        ``[num_nodes, dim]``.
    num_parts
        Any number; parts differ in size by at most one per level.

    Returns
    -------
    Tensor
        Part of each node, int64 ``[num_nodes]``.

    Notes
    -----
    Berger and Bokhari, IEEE Trans. Computers C-36, 1987, pages 570-580.

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([[0.0, 0.0], [9.0, 0.0], [1.0, 1.0], [8.0, 1.0]])
    >>> partition_coordinates(x, 2).tolist()
    [0, 1, 0, 1]
    """
    x = physical(coordinates)
    if x.ndim != 2 or not torch.isfinite(x).all():
        raise ArgumentError(
            f"`coordinates` must be finite [num_nodes, dim], got shape {list(x.shape)}"
        )
    _check(x.shape[0], num_parts)
    part = torch.zeros(x.shape[0], dtype=torch.int64, device=x.device)
    pieces = [(torch.arange(x.shape[0], device=x.device), 0, num_parts)]
    while pieces:
        nodes, first, count = pieces.pop()
        if count == 1:
            part[nodes] = first
            continue
        left = count // 2
        here = x[nodes]
        axis = int((here.amax(0) - here.amin(0)).argmax()) if len(nodes) else 0
        order = nodes[here[:, axis].argsort(stable=True)]
        cut = round(len(nodes) * left / count)
        pieces += [(order[:cut], first, left), (order[cut:], first + left, count - left)]
    return part


@outside_transforms
def partition_graph_metis(row: Tensor, col: Tensor, num_nodes: int, num_parts: int) -> Tensor:
    """Partition the graph of a square matrix with METIS, cutting few edges.

    Parameters
    ----------
    row, col
        Positions of its entries ``[nnz]``; direction and the diagonal do not matter.
    num_nodes, num_parts
        Rows of the matrix, parts wanted.

    Raises
    ------
    BackendUnavailableError
        When pymetis is not installed.
    """
    _check(num_nodes, num_parts)
    try:
        import pymetis
    except ImportError as error:
        raise BackendUnavailableError(
            "partitioning by METIS needs pymetis: install the extra 'partition', or use partition_coordinates"
        ) from error
    from scipy.sparse import csr_array

    if num_parts == 1:
        return torch.zeros(num_nodes, dtype=torch.int64)
    i, j = physical(row).cpu().numpy(), physical(col).cpu().numpy()
    kept = i != j
    ones = torch.ones(int(kept.sum()), dtype=torch.bool).numpy()
    graph = csr_array((ones, (i[kept], j[kept])), shape=(num_nodes, num_nodes))
    graph = (graph + graph.T).tocsr()
    if hasattr(pymetis, "CSRAdjacency"):
        adjacency = pymetis.CSRAdjacency(adj_starts=graph.indptr, adjacent=graph.indices)
        _, parts = pymetis.part_graph(num_parts, adjacency)
    else:
        _, parts = pymetis.part_graph(num_parts, xadj=graph.indptr, adjncy=graph.indices)
    return torch.as_tensor(parts, dtype=torch.int64)


def _check(num_nodes: int, num_parts: int) -> None:
    if num_nodes < 0:
        raise ArgumentError(f"`num_nodes` must be >= 0, got {num_nodes}")
    if num_parts < 1:
        raise ArgumentError(f"`num_parts` must be at least 1, got {num_parts}")
