"""Choosing which part owns which row."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from torch_sla.errors import ArgumentError
from torch_sla.linalg.distributed.lattice.boxes import box_ids, cut
from torch_sla.linalg.sparse.partition import (
    partition_coordinates,
    partition_graph,
    partition_graph_metis,
    partition_simple,
)
from torch_sla.linalg.sparse.pattern import Pattern

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["choose_parts"]

_ALIASES = {
    "auto": "auto",
    "metis": "metis",
    "graph": "graph",
    "coordinates": "coordinates",
    "rcb": "coordinates",
    "geometric": "coordinates",
    "lattice": "lattice",
    "simple": "simple",
    "contiguous": "simple",
}


def choose_parts(
    row: Tensor,
    col: Tensor,
    n: int,
    parts: int,
    *,
    coords: Tensor | None = None,
    method: str = "auto",
    weights: Tensor | None = None,
) -> Tensor:
    """Assign every row to a part.

    Parameters
    ----------
    row, col
        Positions of entries ``[nnz]``.
    n, parts
        Rows, parts.
    coords
        ``[n, dim]`` where rows are in space.
    method
        ``"lattice"`` (boxes of the lattice whose neighbours the entries join), ``"metis"`` (needs pymetis),
        ``"coordinates"`` (recursive bisection, needs `coords`), ``"graph"`` (METIS where pymetis is installed, else
        recursive bisection of the graph), ``"simple"`` (runs of rows); ``"auto"`` is the first that can be had.
    weights
        Size of each row ``[n]``, whole numbers, where they are cut along the graph; 1 by default.

    Returns
    -------
    Tensor
        int64 ``[n]``. Parts may be empty where there are more of them than rows.

    Examples
    --------
    >>> import torch
    >>> i = torch.arange(4)
    >>> choose_parts(i, i, 4, 2, method="simple").tolist()
    [0, 0, 1, 1]
    """
    if method not in _ALIASES:
        raise ArgumentError(
            f"`partition_method` must be auto, lattice, metis, coordinates, graph or simple, got {method!r}"
        )
    wanted = _ALIASES[method]
    if coords is not None and (coords.ndim != 2 or coords.shape[0] != n):
        raise ArgumentError(f"`coords` must be [{n}, dim], got {list(coords.shape)}")
    if wanted == "coordinates" and coords is None:
        raise ArgumentError("partition_method='coordinates' needs `coords` [n, dim]")
    if wanted in ("auto", "lattice"):
        lattice = Pattern.from_coo(row, col, (n, n)).lattice
        if lattice is not None:
            return box_ids(lattice.shape, cut(lattice.shape, parts), row.device)
        if wanted == "lattice":
            raise ArgumentError(
                "partition_method='lattice' needs entries that join neighbours of a lattice, and this matrix has others"
            )
    if wanted in ("auto", "graph"):
        if find_spec("pymetis") is not None:
            wanted = "metis"
        elif wanted == "auto":
            wanted = "graph" if coords is None else "coordinates"
    if parts < n and wanted in ("metis", "graph"):
        along = partition_graph_metis if wanted == "metis" else partition_graph
        return along(row, col, n, parts, weights).to(row.device)
    if wanted == "coordinates" and coords is not None:
        return partition_coordinates(coords, parts).to(row.device)
    return partition_simple(n, parts).to(row.device)
