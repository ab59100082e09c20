"""Making a mesh from arrays: checks, orientation, facets, tags."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from torch_sla.assembly.mesh.checks import check_cells, check_duplicates, check_points, oriented
from torch_sla.assembly.mesh.hanging import check_hanging
from torch_sla.assembly.mesh.mesh import CELL_TYPES, Mesh
from torch_sla.assembly.mesh.topology import Facets, all_facets, number_rows
from torch_sla.assembly.reference.cell import reference_cell
from torch_sla.errors import ArgumentError, MeshError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch_sla.assembly.mesh.checks import Called

__all__ = ["Array", "make_mesh"]

Array = Tensor | npt.NDArray[np.generic]
Ints = npt.NDArray[np.int64]


def make_mesh(
    points: Array,
    cells: Array,
    cell: str,
    *,
    cell_tags: Mapping[str, Array] | None = None,
    facet_tags: Mapping[str, Array] | None = None,
    orientation: Literal["fix", "refuse"] = "fix",
    duplicate_nodes: Literal["refuse", "allow"] = "refuse",
    hanging_nodes: Literal["refuse", "allow"] = "refuse",
) -> Mesh:
    """Build a checked mesh from arrays.

    Parameters
    ----------
    points
        Coordinates ``[n_points, dim]``.
    cells
        Point indices ``[n_cells, nodes per cell]`` in VTK order.
    cell
        Cell type: ``"line" "triangle" "quad" "tetra" "hexahedron"`` or a second-order name such as ``"triangle6"``.
    cell_tags
        By name, a boolean mask ``[n_cells]`` or indices of cells.
    facet_tags
        By name, the vertices ``[m, k]`` of facets in any order; interior facets are welcome.
    orientation
        Whether negatively oriented cells are mirrored (their local numbering changes) or refused.
    duplicate_nodes
        Whether two points at one place are refused, or allowed as the two lips of a crack.
    hanging_nodes
        Whether a vertex inside a facet of another cell is refused, or allowed where bodies only touch.

    Raises
    ------
    MeshError
        If the coordinates are not finite, an index dangles, a point is isolated or repeated, a cell is flat,
        folded, repeated or on the wrong side of a neighbour, a node hangs on a facet, a facet belongs to three cells,
        or a tagged facet is no facet of the mesh.

    Examples
    --------
    >>> import numpy as np
    >>> mesh = make_mesh(np.array([[0.0, 0], [1, 0], [0, 1]]), np.array([[0, 2, 1]]), "triangle")
    >>> mesh.cells
    tensor([[0, 1, 2]])
    """
    if orientation not in ("fix", "refuse"):
        raise ArgumentError(f"orientation: got {orientation!r}; use 'fix' or 'refuse'")
    if duplicate_nodes not in ("refuse", "allow"):
        raise ArgumentError(f"duplicate_nodes: got {duplicate_nodes!r}; use 'refuse' or 'allow'")
    if hanging_nodes not in ("refuse", "allow"):
        raise ArgumentError(f"hanging_nodes: got {hanging_nodes!r}; use 'refuse' or 'allow'")
    ids = _numpy(cells)
    if ids.dtype.kind not in "iu":
        raise MeshError(f"cells: got dtype {ids.dtype}; point indices are integers")
    return checked_mesh(
        np.array(_numpy(points), dtype=np.float64),
        np.array(ids, dtype=np.int64),
        cell,
        cell_tags or {},
        facet_tags or {},
        mirrored=orientation == "fix",
        duplicates=duplicate_nodes == "allow",
        hanging=hanging_nodes == "allow",
    )


def checked_mesh(
    points: npt.NDArray[np.float64],
    cells: Ints,
    cell: str,
    cell_tags: Mapping[str, Array],
    facet_tags: Mapping[str, Array],
    *,
    mirrored: bool = True,
    duplicates: bool,
    hanging: bool,
) -> Mesh:
    """Build a mesh as `make_mesh` does, of arrays that nobody else will change."""
    check_points(points)
    check_cells(points, cells, cell)
    if not duplicates:
        check_duplicates(points)
    cells = oriented(points, cells, cell, mirrored=mirrored)
    mesh = trusted_mesh(points, cells, cell, cell_tags, facet_tags)
    if not hanging:
        check_hanging(mesh)
    return mesh


def trusted_mesh(
    points: npt.NDArray[np.float64],
    cells: Ints,
    cell: str,
    cell_tags: Mapping[str, Array],
    facet_tags: Mapping[str, Array],
    called: Called | None = None,
) -> Mesh:
    """Build a mesh whose points and cells are known to be sound; facets and tags are still checked.

    Parameters
    ----------
    points, cells, cell, cell_tags, facet_tags
        As of `make_mesh`.
    called
        Of a part of a mesh.
    """
    reference = reference_cell(CELL_TYPES[cell][0])
    n = len(points)
    width = len(reference.facets[0])
    rows = {name: _rows(name, vertices, width, n) for name, vertices in facet_tags.items()}
    wanted = np.sort(np.concatenate([np.zeros((0, width), np.int64), *rows.values()]), 1)

    def listed_ones(found: Facets) -> Ints:
        chosen = found.neighbour < 0
        if len(wanted):
            chosen |= _among(found, wanted, n)
        return np.nonzero(chosen)[0]

    facets = all_facets(cells[:, : reference.n_vertices], reference, n, listed_ones, called)
    if len(facets.overlapping):
        pair, vertices = facets.overlapping[0, :2], facets.overlapping[0, 2:]
        if called is not None:
            pair, vertices = called.cells[pair], called.points[vertices]
        raise MeshError(
            f"cells: cells {pair[0]} and {pair[1]} lie on the same side of their common facet {vertices.tolist()} "
            f"({len(facets.overlapping)} such facets); remove overlapping cells"
        )
    on_boundary = np.nonzero(facets.neighbour < 0)[0]
    on_boundary = on_boundary[np.lexsort((facets.side[on_boundary], facets.owner[on_boundary]))]
    tagged = {name: _find(name, vertices, facets, n) for name, vertices in rows.items()}
    listed = on_boundary
    if tagged:
        every = np.unique(np.concatenate(list(tagged.values())))
        listed = np.concatenate([on_boundary, every[facets.neighbour[every] >= 0]])
    position = np.full(len(facets.owner), -1, dtype=np.int64)
    position[listed] = np.arange(len(listed))
    mesh = Mesh(
        points=torch.from_numpy(np.ascontiguousarray(points)),
        cells=torch.from_numpy(np.ascontiguousarray(cells)),
        cell=cell,
        cell_tags=MappingProxyType({}),
        facets=torch.from_numpy(facets.vertices[listed]),
        facet_cells=torch.from_numpy(facets.owner[listed]),
        facet_sides=torch.from_numpy(facets.side[listed]),
        facet_neighbours=torch.from_numpy(facets.neighbour[listed]),
        facet_tags=MappingProxyType(
            {name: torch.from_numpy(np.unique(position[found])) for name, found in tagged.items()}
        ),
    )
    for name, where in cell_tags.items():
        mesh = mesh.tag_cells(name, torch.from_numpy(_numpy(where)))
    return mesh


def _numpy(array: Array) -> npt.NDArray[np.generic]:
    return array.detach().cpu().numpy() if isinstance(array, Tensor) else np.asarray(array)


def _rows(name: str, vertices: Array, width: int, n: int) -> Ints:
    """Vertices of the facets of a tag, checked."""
    given = _numpy(vertices)
    if given.size and given.dtype.kind not in "iu":
        raise MeshError(f"facet_tags: {name!r} has dtype {given.dtype}; point indices are integers")
    rows = np.array(given, dtype=np.int64)
    if rows.ndim != 2 or rows.shape[1] != width:
        raise MeshError(
            f"facet_tags: {name!r} has shape {rows.shape}; facets of this mesh have {width} vertices, so "
            f"give [m, {width}]"
        )
    if not len(rows):
        raise MeshError(f"facet_tags: {name!r} is empty; leave the tag out, or give its facets")
    if rows.min() < 0 or rows.max() >= n:
        raise MeshError(f"facet_tags: {name!r} refers to points outside 0..{n - 1}")
    return rows


def _find(name: str, rows: Ints, facets: Facets, n: int) -> Ints:
    """Numbers of the facets with given vertices."""
    every = np.concatenate([np.sort(facets.vertices, 1), np.sort(rows, 1)])
    first, number = number_rows(every, n)
    found = first[number[len(facets.vertices) :]]
    lost = np.nonzero(found >= len(facets.vertices))[0]
    if len(lost):
        raise MeshError(
            f"facet_tags: {name!r} names the facet {rows[lost[0]].tolist()}, which no cell has "
            f"({len(lost)} of {len(rows)})"
        )
    return found


def _among(facets: Facets, rows: Ints, n: int) -> npt.NDArray[np.bool_]:
    """Whether the sorted vertices of each facet are among some rows."""
    known = np.sort(facets.vertices, 1)
    first = known[:, 0]
    near = rows[(rows[:, 0] >= first.min(initial=n)) & (rows[:, 0] <= first.max(initial=-1))]
    places, number = number_rows(np.concatenate([known, near]), n)
    among = np.zeros(len(known) + len(near), bool)
    among[places[number[len(known) :]]] = True
    return among[: len(known)]
