"""Numbering of sub-entities (edges, faces, facets) of cells by their vertices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch_sla.assembly.reference.cell import ReferenceCell

__all__ = [
    "Facets",
    "InteriorFacets",
    "all_facets",
    "interior_facets",
    "number_rows",
    "sub_entities",
]

Ints = npt.NDArray[np.int64]


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


@dataclass(frozen=True)
class Facets:
    """Every facet of a mesh.

    Parameters
    ----------
    vertices
        ``[n_facets, k]``, oriented outward from the owner.
    owner, side
        Owning cell and local facet number in it.
    neighbour
        Second cell, -1 on the boundary.
    number
        Facet of each side of each cell, ``[n_cells, sides]``.
    crowded
        A facet shared by more than two cells, or -1.
    overlapping
        Facets whose two cells see them in the same order, and so lie on the same side.
    """

    vertices: Ints
    owner: Ints
    side: Ints
    neighbour: Ints
    number: Ints
    crowded: int
    overlapping: Ints


@dataclass(frozen=True)
class InteriorFacets:
    """Facets between two cells, seen from both.

    Parameters
    ----------
    owner, neighbour
        Cells on the side the normal leaves and the one it enters ``[n]``; the owner has the lower number.
    owner_side, neighbour_side
        Local facet number in each.
    matching
        Vertex of the facet in the neighbour, as its local vertex, for each vertex in the owner's order ``[n, k]``.
    """

    owner: Ints
    neighbour: Ints
    owner_side: Ints
    neighbour_side: Ints
    matching: Ints


def interior_facets(cells: Ints, cell: ReferenceCell, n: int) -> InteriorFacets:
    """Find the facets between cells; parameters as in `all_facets`."""
    facets = all_facets(cells, cell, n)
    inside = np.nonzero(facets.neighbour >= 0)[0]
    inside = inside[np.lexsort((facets.side[inside], facets.owner[inside]))]
    neighbour = facets.neighbour[inside]
    other = np.argmax(facets.number[neighbour] == inside[:, None], 1)
    vertices = facets.vertices[inside]
    matching = np.argmax(cells[neighbour][:, None, :] == vertices[:, :, None], 2)
    return InteriorFacets(facets.owner[inside], neighbour, facets.side[inside], other, matching)


def all_facets(cells: Ints, cell: ReferenceCell, n: int) -> Facets:
    """Find all facets of a mesh with their cells; the owner is the cell of lowest index.

    Parameters
    ----------
    cells
        Vertices of the cells ``[n_cells, n_vertices]``.
    cell
        Their reference cell.
    n
        Number of points.
    """
    sides = len(cell.facets)
    oriented = cells[:, np.array(cell.facets)].reshape(len(cells) * sides, -1)
    first, number = number_rows(np.sort(oriented, axis=1), n)
    count = np.bincount(number, minlength=len(first))
    last = np.full(len(first), -1, dtype=np.int64)
    last[number] = np.arange(len(number))
    crowded = int(np.argmax(count)) if len(count) and count.max() > 2 else -1
    inside = np.nonzero(count == 2)[0]
    same = _same_order(oriented[first[inside]], oriented[last[inside]])
    if cell.dim == 1:
        same = first[inside] % sides == last[inside] % sides
    return Facets(
        vertices=oriented[first],
        owner=first // sides,
        side=first % sides,
        neighbour=np.where(count > 1, last // sides, -1),
        number=number.reshape(len(cells), sides),
        crowded=crowded,
        overlapping=inside[same],
    )


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
