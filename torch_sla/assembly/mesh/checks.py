"""Checks of raw mesh data; each names the first offender and the remedy."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from torch_sla.assembly.elements import lagrange
from torch_sla.assembly.mesh.mesh import CELL_TYPES
from torch_sla.errors import MeshError

__all__ = ["Called", "check_cells", "check_corners", "check_duplicates", "check_points", "oriented"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# A cell counts as degenerate below this fraction of the volume its diameter suggests.
_FLAT = 1e-14
_SHOWN = 3  # numbers of those that are named, at most
_RUN = 1 << 16  # cells that are looked at at a time


class Called(NamedTuple):
    """What cells and points of a part are called in the whole, where something is wrong with them.

    Parameters
    ----------
    cells, points
        Their numbers there.
    """

    cells: Ints
    points: Ints


def _list(values: npt.NDArray[np.generic]) -> str:
    shown = ", ".join(str(value) for value in values[:_SHOWN].tolist())
    return shown + (f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else "")


def check_points(points: Floats, first: int = 0) -> None:
    """Refuse coordinates of a wrong shape and such that are not finite; the first point has the number `first`."""
    if points.ndim != 2 or points.shape[1] not in (1, 2, 3):
        raise MeshError(
            f"points: got shape {points.shape}; expected [n_points, dim] with dim 1, 2 or 3"
        )
    bad = np.nonzero(~np.isfinite(points).all(1))[0]
    if len(bad):
        raise MeshError(
            f"points: point {bad[0] + first} is {points[bad[0]].tolist()}; coordinates must be finite "
            f"({len(bad)} of {len(points)} are not)"
        )


def check_cells(points: Floats, cells: Ints, cell: str) -> None:
    """Refuse unknown cell types, dangling indices, repeated vertices, repeated cells, isolated points."""
    if cell not in CELL_TYPES:
        raise MeshError(f"cell: got {cell!r}; cell types are {', '.join(CELL_TYPES)}")
    geometry = lagrange(*CELL_TYPES[cell])
    if cells.ndim != 2 or cells.shape[1] != geometry.n_nodes:
        raise MeshError(
            f"cells: got shape {cells.shape}; {cell} cells need [n_cells, {geometry.n_nodes}]"
        )
    if not len(cells):
        raise MeshError("cells: there are none; a mesh needs at least one cell")
    if geometry.cell.dim != points.shape[1]:
        raise MeshError(
            f"points: {cell} cells live in {geometry.cell.dim}D, the points have {points.shape[1]} "
            "coordinates; drop the constant ones, or use cells of the full dimension"
        )
    bad = np.nonzero(((cells < 0) | (cells >= len(points))).any(1))[0]
    if len(bad):
        raise MeshError(
            f"cells: cell {bad[0]} refers to points {cells[bad[0]].tolist()}; "
            f"there are {len(points)} points, counted from 0"
        )
    check_corners(cells)
    used = np.zeros(len(points), bool)
    used[cells] = True
    if not used.all():
        lonely = np.nonzero(~used)[0]
        raise MeshError(
            f"points: no cell uses point {_list(lonely)}; remove isolated points and renumber the cells"
        )


def check_corners(cells: Ints, first: int = 0) -> None:
    """Refuse cells that have a point twice; the first one of a part has the number `first` in the whole."""
    ordered = np.sort(cells, 1)
    bad = np.nonzero((ordered[:, 1:] == ordered[:, :-1]).any(1))[0]
    if len(bad):
        raise MeshError(
            f"cells: cell {bad[0] + first} uses a point twice: {cells[bad[0]].tolist()}; remove degenerate cells"
        )


def check_duplicates(points: Floats, size: float | None = None, called: Ints | None = None) -> None:
    """Refuse two points at one place (within 1e-12 of the size of the mesh).

    Parameters
    ----------
    size, called
        Of a part of the points: the size of the mesh, and their numbers in it.
    """
    from scipy.spatial import cKDTree

    size = float(np.ptp(points, 0).max()) if size is None else size
    pairs = cKDTree(points).query_pairs(1e-12 * size, output_type="ndarray")
    if len(pairs):
        a, b = np.sort(pairs[np.lexsort(np.sort(pairs, 1).T[::-1])[0]])
        one, other = (a, b) if called is None else sorted((called[a], called[b]))
        raise MeshError(
            f"points: points {one} and {other} are both at {points[a].tolist()} ({len(pairs)} such pairs); merge "
            "them, or pass duplicate_nodes='allow' if the mesh has a crack there"
        )


def oriented(
    points: Floats,
    cells: Ints,
    cell: str,
    *,
    mirrored: bool = True,
    called: Called | None = None,
) -> Ints:
    """Return the cells with positive orientation; refuse flat and tangled ones.

    Parameters
    ----------
    mirrored
        Whether the local numbering of negatively oriented cells is mirrored, or they are refused.
    called
        Of a part of the cells.
    """

    def name(cell: int) -> str:
        rows = cells[cell]
        if called is None:
            return f"cell {cell} (points {rows.tolist()})"
        return f"cell {called.cells[cell]} (points {called.points[rows].tolist()})"

    geometry = lagrange(*CELL_TYPES[cell])
    reference = geometry.cell
    # Determinants at the vertices: constant on simplices, and the place where a cell inverts first.
    sites = reference.vertices[:1] if geometry.is_affine else geometry.nodes
    slopes = geometry.gradients(sites).numpy()
    lowest, highest, scale = np.empty((3, len(cells)))
    for begin in range(0, len(cells), _RUN):
        run = slice(begin, begin + _RUN)
        det = np.linalg.det(np.einsum("cka,qkb->cqab", points[cells[run]], slopes))
        lowest[run], highest[run] = det.min(1), det.max(1)
        corners = points[cells[run, : reference.n_vertices]]
        scale[run] = np.ptp(corners, axis=1).max(1) ** reference.dim
    flat = np.nonzero(np.maximum(-lowest, highest) <= _FLAT * scale)[0]
    if len(flat):
        raise MeshError(
            f"cells: {name(flat[0])} has zero volume; remove it or move its "
            f"points ({len(flat)} such cells)"
        )
    tangled = np.nonzero((lowest <= _FLAT * scale) & (highest > _FLAT * scale))[0]
    if len(tangled):
        raise MeshError(
            f"cells: {name(tangled[0])} folds over itself: its Jacobian "
            f"determinant ranges from {lowest[tangled[0]]:.3g} to {highest[tangled[0]]:.3g}; check the order of its "
            f"nodes ({len(tangled)} such cells)"
        )
    negative = np.nonzero(highest < 0)[0]
    if not len(negative):
        return cells
    if not mirrored:
        raise MeshError(
            f"cells: {name(negative[0])} is oriented negatively; reorder its "
            f"points or pass orientation='fix' ({len(negative)} such cells)"
        )
    fixed = cells.copy()
    fixed[negative] = cells[negative][:, _mirror(cell)]
    return fixed


def _mirror(cell: str) -> Ints:
    """Permutation of the local nodes that reflects the reference cell."""
    geometry = lagrange(*CELL_TYPES[cell])
    nodes = geometry.nodes
    mirrored = nodes.clone()
    if geometry.cell.dim == 1:
        mirrored[:, 0] = 1.0 - nodes[:, 0]
    else:
        mirrored[:, [0, 1]] = nodes[:, [1, 0]]
    distance = torch.cdist(mirrored, nodes)
    return distance.argmin(1).numpy()
