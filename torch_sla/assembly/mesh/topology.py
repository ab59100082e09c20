"""Numbering of sub-entities (edges, faces, facets) of cells by their vertices."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from torch_sla.errors import MeshError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from torch_sla.assembly.mesh.checks import Called
    from torch_sla.assembly.reference.cell import ReferenceCell

__all__ = [
    "Facets",
    "InteriorFacets",
    "all_facets",
    "bodies",
    "facet_runs",
    "interior_facets",
    "number_rows",
    "sub_entities",
]

Ints = npt.NDArray[np.int64]

_RUN, _MOST_RUNS = 1 << 17, 64  # rows that are sorted at a time, and how often at most


def number_rows(rows: Ints, n: int) -> tuple[Ints, Ints]:
    """Give the distinct rows of an integer array numbers.

    Parameters
    ----------
    rows
        ``[m, k]`` with entries in ``[0, n)``; rows are equal when all entries are.
    n
        Bound of the entries.

    Returns
    -------
    first, number
        Index of the first occurrence of each distinct row (in the order of the sorted rows), and the number of
        each row ``[m]``.

    Examples
    --------
    >>> import numpy as np
    >>> number_rows(np.array([[1, 2], [0, 1], [1, 2]]), 3)[1]
    array([1, 0, 1])
    """
    spans = _spans(rows[:, 0], n)
    if len(spans) <= 1:
        return _number_rows(rows, n)
    firsts, number, count = [], np.empty(len(rows), dtype=np.int64), 0
    for low, high in spans:
        at = np.nonzero((rows[:, 0] >= low) & (rows[:, 0] < high))[0]
        first, its = _number_rows(rows[at], n)
        firsts.append(at[first])
        number[at] = its + count
        count += len(first)
    return np.concatenate(firsts), number


def _number_rows(rows: Ints, n: int) -> tuple[Ints, Ints]:
    key = rows[:, 0].astype(np.int64)
    bound = n
    for column in rows.T[1:]:
        # Keep the mixed-radix key inside 63 bits by renumbering when it would overflow.
        if bound > (2**63 - 1) // n:
            _, key = np.unique(key, return_inverse=True)
            bound = len(key)
        key = key * n + column
        bound *= n
    _, first, number = np.unique(key, return_index=True, return_inverse=True)
    return first, number.reshape(-1)


def sub_entities(cells: Ints, local: tuple[tuple[int, ...], ...], n: int) -> tuple[Ints, int]:
    """Give the edges or faces of a mesh numbers.

    Parameters
    ----------
    cells
        Vertices of the cells ``[n_cells, n_vertices]``.
    local
        Local vertices of each sub-entity of a cell.
    n
        Number of points.

    Returns
    -------
    number, count
        ``[n_cells, len(local)]`` and the number of distinct entities.
    """
    rows = np.sort(cells[:, np.array(local)].reshape(-1, len(local[0])), axis=1)
    first, number = number_rows(rows, n)
    return number.reshape(len(cells), len(local)), len(first)


class Facets(NamedTuple):
    """Facets of a mesh, in the order of their sorted vertices.

    Parameters
    ----------
    vertices
        ``[n_facets, k]``, oriented outward from the owner.
    owner, side
        Owning cell, the one of lowest index, and local facet number in it.
    neighbour
        Second cell, -1 on the boundary.
    overlapping
        Of facets whose two cells see them in the same order, and so lie on the same side: those cells, then the
        vertices ``[m, 2 + k]``.
    """

    vertices: Ints
    owner: Ints
    side: Ints
    neighbour: Ints
    overlapping: Ints


@dataclass(frozen=True)
class InteriorFacets:
    """Facets between two cells, seen from both.

    Parameters
    ----------
    owner, neighbour
        Cells on the side the normal leaves and the one it enters ``[n]``; the owner has the lower number.
    owner_side
        Local facet number in the owner.
    matching
        Vertex of the facet in the neighbour, as its local vertex, for each vertex in the owner's order ``[n, k]``.
    """

    owner: Ints
    neighbour: Ints
    owner_side: Ints
    matching: Ints


def interior_facets(cells: Ints, cell: ReferenceCell, n: int) -> InteriorFacets:
    """Find the facets between cells; parameters as in `all_facets`."""
    facets = all_facets(cells, cell, n)
    inside = np.nonzero(facets.neighbour >= 0)[0]
    inside = inside[np.lexsort((facets.side[inside], facets.owner[inside]))]
    neighbour, vertices = facets.neighbour[inside], facets.vertices[inside]
    matching = np.argmax(cells[neighbour][:, None, :] == vertices[:, :, None], 2)
    return InteriorFacets(facets.owner[inside], neighbour, facets.side[inside], matching)


def all_facets(
    cells: Ints,
    cell: ReferenceCell,
    n: int,
    keep: Callable[[Facets], Ints] | None = None,
    called: Called | None = None,
) -> Facets:
    """Find the facets of a mesh with their cells.

    Parameters
    ----------
    cells
        Vertices of the cells ``[n_cells, n_vertices]``.
    cell
        Their reference cell.
    n
        Number of points.
    keep
        Returns which ones to keep of some facets ``[m]``; None keeps all.
    called
        Of a part of a mesh.

    Raises
    ------
    MeshError
        If a facet belongs to three cells.
    """
    found = []
    for run in facet_runs(cells, cell, n, called):
        if keep is None:
            found.append(run)
        else:
            chosen = keep(run)
            found.append(Facets._make([*(x[chosen] for x in run[:-1]), run.overlapping]))
    return found[0] if len(found) == 1 else Facets(*map(np.concatenate, zip(*found, strict=True)))


def facet_runs(
    cells: Ints, cell: ReferenceCell, n: int, called: Called | None = None
) -> Iterator[Facets]:
    """Yield all facets, those with low vertices first, so many at a time that they are small beside the mesh.

    Parameters as in `all_facets`.
    """
    table = np.array(cell.facets)
    sides = len(table)
    least = np.stack([cells[:, list(facet)].min(1) for facet in table], 1, dtype=_index(n)).ravel()
    for low, high in _spans(least, n):
        yield _facets_of(cells, table, np.nonzero((least >= low) & (least < high))[0], called)
    if not sides * len(cells):
        yield _facets_of(cells, table, np.zeros(0, np.int64))


def _facets_of(cells: Ints, table: Ints, at: Ints, called: Called | None = None) -> Facets:
    """Join sides of cells, numbered cell by cell, to facets; both sides of a facet are there."""
    sides, n = len(table), int(cells.max(initial=0)) + 1
    oriented = cells[(at // sides)[:, None], table[at % sides]]
    first, number = number_rows(np.sort(oriented, axis=1), n)
    count = np.bincount(number, minlength=len(first))
    last = np.full(len(first), -1, dtype=np.int64)
    last[number] = np.arange(len(number))
    if count.max(initial=0) > 2:
        crowded = int(np.argmax(count))
        owners, corners = at[number == crowded] // sides, oriented[first[crowded]]
        if called is not None:
            owners, corners = called.cells[owners], called.points[corners]
        raise MeshError(
            f"cells: cells {owners[:4].tolist()} share the facet {corners.tolist()}; "
            "a facet has at most two cells, so remove repeated or overlapping cells"
        )
    inside = np.nonzero(count == 2)[0]
    same = _same_order(oriented[first[inside]], oriented[last[inside]])
    one, other = at[first], np.where(count > 1, at[last], -1)
    if table.shape[1] == 1:
        same = one[inside] % sides == other[inside] % sides
    owner, neighbour = one // sides, np.where(count > 1, other // sides, -1)
    vertices, lying = oriented[first], inside[same]
    return Facets(
        vertices=vertices,
        owner=owner,
        side=one % sides,
        neighbour=neighbour,
        overlapping=np.column_stack([owner[lying], neighbour[lying], vertices[lying]]),
    )


def _index(n: int) -> type[np.signedinteger[Any]]:
    """Shortest integers that count to n."""
    return np.int32 if n < 2**31 else np.int64


def _spans(x: npt.NDArray[np.signedinteger[Any]], n: int) -> list[tuple[int, int]]:
    """Cut the range from 0 to `n` so that about as many entries of `x` are in each span."""
    if len(x) <= _RUN:
        return [(0, n)] if len(x) else []
    ends = np.cumsum(np.bincount(x, minlength=n))
    pieces = min(len(x) // _RUN + 1, _MOST_RUNS)
    cuts = np.unique(np.searchsorted(ends, np.arange(1, pieces) * len(x) // pieces) + 1)
    bounds = [0, *(c for c in cuts.tolist() if c < n), n]
    return list(itertools.pairwise(bounds))


def _same_order(a: Ints, b: Ints) -> npt.NDArray[np.bool_]:
    """Whether two cycles of the same vertices run in the same direction ``[m]``."""
    k = a.shape[1]
    same: npt.NDArray[np.bool_]
    if k == 2:
        same = a[:, 0] == b[:, 0]
        return same
    place = np.argmax(b == a[:, :1], 1)
    same = b[np.arange(len(a)), (place + 1) % k] == a[:, 1 % k]
    return same


def bodies(cell_nodes: Tensor, count: int) -> Tensor:
    """Return which body each node belongs to ``[count]``, from 0: no cell joins two of them.

    Parameters
    ----------
    cell_nodes
        ``[n_cells, nodes of a cell]``.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    nodes = cell_nodes.cpu().numpy().astype(np.int32 if count < 2**31 else np.int64)
    rows = np.repeat(nodes[:, 0], nodes.shape[1] - 1)
    entries = (np.ones(len(rows), bool), (rows, nodes[:, 1:].ravel()))
    _, label = connected_components(coo_array(entries, shape=(count, count)), directed=False)
    return torch.from_numpy(label.astype(np.int64)).to(cell_nodes.device)
