"""Cutting unknowns into parts of nearly equal size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, BackendUnavailableError
from torch_sla.linalg.kernels.metis import as_graph
from torch_sla.linalg.sparse.transforms import outside_transforms, physical

__all__ = [
    "partition_coordinates",
    "partition_graph",
    "partition_graph_metis",
    "partition_simple",
]


def partition_simple(num_nodes: int, num_parts: int) -> Tensor:
    """Cut ``0 .. num_nodes - 1`` into runs whose lengths differ by at most one.

    Raises
    ------
    ArgumentError
        For fewer than one part.

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
def partition_graph_metis(
    row: Tensor, col: Tensor, num_nodes: int, num_parts: int, weights: Tensor | None = None
) -> Tensor:
    """Partition the graph of a square matrix with METIS, cutting few edges.

    Parameters
    ----------
    row, col
        Positions of its entries ``[nnz]``; direction and the diagonal do not matter.
    num_nodes, num_parts
        Rows of the matrix, parts wanted.
    weights
        Size of each node ``[num_nodes]``, whole numbers; 1 by default.

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
    if num_parts == 1:
        return torch.zeros(num_nodes, dtype=torch.int64)
    graph = _graph(row, col, num_nodes)
    sizes = None if weights is None else physical(weights).cpu().numpy()
    adjacency = as_graph(graph.indptr, graph.indices)
    _, parts = pymetis.part_graph(num_parts, **adjacency, vweights=sizes)
    return torch.as_tensor(parts, dtype=torch.int64)


@outside_transforms
def partition_graph(
    row: Tensor, col: Tensor, num_nodes: int, num_parts: int, weights: Tensor | None = None
) -> Tensor:
    """Halve the graph of a square matrix again and again, between levels of nodes at one distance from an end of it.

    Parameters
    ----------
    row, col, num_nodes, num_parts, weights
        As for `partition_graph_metis`; parts are of equal size to one node.

    Returns
    -------
    Tensor
        Part of each node, int64 ``[num_nodes]``.

    Notes
    -----
    Levels are those of reverse Cuthill-McKee orderings (George and Liu, Computer Solution of Large Sparse Positive
    Definite Systems, 1981, chapter 4), one of every half. Cuts are a third to two thirds longer than by METIS.

    Examples
    --------
    >>> import torch
    >>> ring = torch.tensor([0, 2, 4, 1, 3])
    >>> torch.bincount(partition_graph(ring, ring.roll(1), 5, 2)).tolist()
    [2, 3]
    """
    from scipy.sparse.csgraph import reverse_cuthill_mckee

    _check(num_nodes, num_parts)
    size = torch.ones(num_nodes) if weights is None else physical(weights).cpu()
    part = torch.zeros(num_nodes, dtype=torch.int64)
    pieces = [(torch.arange(num_nodes), _graph(row, col, num_nodes), 0, num_parts)]
    while pieces:
        nodes, graph, first, count = pieces.pop()
        if count == 1 or not len(nodes):
            part[nodes] = first
            continue
        left = count // 2
        order = torch.from_numpy(reverse_cuthill_mckee(graph, symmetric_mode=True).copy()).long()
        reached = torch.cumsum(size[nodes[order]].double(), 0)
        cut = int(torch.searchsorted(reached, reached[-1] * left / count, right=True))
        for half, begin, number in (
            (order[:cut], first, left),
            (order[cut:], first + left, count - left),
        ):
            inner = half.sort().values
            index = inner.numpy()
            pieces.append((nodes[inner], graph[index][:, index], begin, number))
    return part


def _graph(row: Tensor, col: Tensor, n: int) -> Any:
    """Symmetric adjacency of entries, without the diagonal."""
    from scipy.sparse import csr_array

    i, j = physical(row).cpu().numpy(), physical(col).cpu().numpy()
    kept = i != j
    ones = torch.ones(int(kept.sum()), dtype=torch.bool).numpy()
    graph = csr_array((ones, (i[kept], j[kept])), shape=(n, n))
    return (graph + graph.T).tocsr()


def _check(num_nodes: int, num_parts: int) -> None:
    if num_nodes < 0:
        raise ArgumentError(f"`num_nodes` must be >= 0, got {num_nodes}")
    if num_parts < 1:
        raise ArgumentError(f"`num_parts` must be at least 1, got {num_parts}")
