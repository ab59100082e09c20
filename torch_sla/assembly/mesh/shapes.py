"""Structured meshes of simple shapes."""

from __future__ import annotations

from dataclasses import replace
from math import isfinite
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from torch_sla.assembly.mesh.build import trusted_mesh
from torch_sla.assembly.mesh.mesh import Mesh  # noqa: TC001  (a NamedTuple holds it)
from torch_sla.errors import ArgumentError, MeshError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Piece", "box_mesh", "interval_mesh", "rectangle_mesh", "structured_window"]

Ints = npt.NDArray[np.int64]

# The square cut along the diagonal from the lower left to the upper right, and the cube cut into six
# tetrahedra around its main diagonal (Kuhn 1960), so that neighbouring cubes match.
_TRIANGLES = ((0, 1, 2), (0, 2, 3))
_TETRAHEDRA = ((0, 1, 2, 6), (0, 2, 3, 6), (0, 3, 7, 6), (0, 7, 4, 6), (0, 4, 5, 6), (0, 5, 1, 6))


def interval_mesh(
    cells: int = 1, size: float = 1.0, origin: float = 0.0, grading: float = 1.0
) -> Mesh:
    """Cut an interval into lines.

    Parameters
    ----------
    cells
        Number of cells.
    size, origin
        Length and left end.
    grading
        Size of the last cell over that of the first; sizes in between grow by a constant factor.

    Returns
    -------
    Mesh
        With facet tags ``left`` and ``right``.

    Examples
    --------
    >>> interval_mesh(2).points.T
    tensor([[0.0000, 0.5000, 1.0000]], dtype=torch.float64)
    """
    return _structured((cells,), (size,), (origin,), "line", (grading,))


def rectangle_mesh(
    cells: tuple[int, int] = (1, 1),
    size: tuple[float, float] = (1.0, 1.0),
    origin: tuple[float, float] = (0.0, 0.0),
    cell: Literal["triangle", "quad"] = "triangle",
    grading: tuple[float, float] = (1.0, 1.0),
) -> Mesh:
    """Cut a rectangle into quadrilaterals, or each of those into two triangles.

    Parameters
    ----------
    cells
        Divisions along x and y.
    size, origin
        Side lengths and lower left corner.
    cell
        ``"triangle"`` or ``"quad"``.
    grading
        Per direction, the size of the last cell over that of the first.

    Returns
    -------
    Mesh
        With facet tags ``left right`` (x) and ``bottom top`` (y). Points run along x first.

    Examples
    --------
    >>> rectangle_mesh((4, 3), cell="quad").n_cells
    12
    """
    if cell not in ("triangle", "quad"):
        raise ArgumentError(
            f"cell: got {cell!r}; a rectangle is made of 'triangle' or 'quad' cells"
        )
    return _structured(cells, size, origin, cell, grading)


def box_mesh(
    cells: tuple[int, int, int] = (1, 1, 1),
    size: tuple[float, float, float] = (1.0, 1.0, 1.0),
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
    cell: Literal["tetra", "hexahedron"] = "tetra",
    grading: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Mesh:
    """Cut a box into hexahedra, or each of those into six tetrahedra.

    Parameters
    ----------
    cells
        Divisions along x, y and z.
    size, origin
        Side lengths and the corner of least coordinates.
    cell
        ``"tetra"`` or ``"hexahedron"``.
    grading
        Per direction, the size of the last cell over that of the first.

    Returns
    -------
    Mesh
        With facet tags ``left right`` (x), ``front back`` (y), ``bottom top`` (z). Points run along x first.

    Examples
    --------
    >>> box_mesh((2, 1, 1)).n_cells
    12
    """
    if cell not in ("tetra", "hexahedron"):
        raise ArgumentError(f"cell: got {cell!r}; a box is made of 'tetra' or 'hexahedron' cells")
    return _structured(cells, size, origin, cell, grading)


class Piece(NamedTuple):
    """A window of a structured mesh.

    Parameters
    ----------
    mesh
        The cells in the window; its facets are those of the boundary of the whole, its tags may be empty.
    points, cells
        Numbers in the whole of its points and cells.
    """

    mesh: Mesh
    points: torch.Tensor
    cells: torch.Tensor


def structured_window(
    cells: Sequence[int],
    size: Sequence[float],
    origin: Sequence[float],
    cell: str,
    grading: Sequence[float],
    window: Sequence[tuple[int, int]],
) -> Piece:
    """Make some of the cells of an interval, a rectangle or a box, without making the others.

    Parameters
    ----------
    cells, size, origin, cell, grading
        The whole, as `interval_mesh`, `rectangle_mesh` and `box_mesh` have them.
    window
        Per direction, the first division that is taken, and the first that is not any more.

    Examples
    --------
    >>> piece = structured_window(
    ...     (4, 1), (1.0, 1.0), (0.0, 0.0), "quad", (1.0, 1.0), ((2, 4), (0, 1))
    ... )
    >>> piece.cells.tolist(), piece.points.tolist(), len(piece.mesh.facet_tags["left"])
    ([2, 3], [2, 3, 4, 7, 8, 9], 0)
    """
    dim = {"line": 1, "triangle": 2, "quad": 2, "tetra": 3, "hexahedron": 3}[cell]
    _check(dim, cells, size, origin, grading)
    if len(window) != dim or any(
        not 0 <= low < high <= n for (low, high), n in zip(window, cells, strict=True)
    ):
        raise ArgumentError(f"window: got {window!r}; runs of the divisions {tuple(cells)}")
    axes = [
        (origin[d] + size[d] * _graded(cells[d], grading[d]))[window[d][0] : window[d][1] + 1]
        for d in range(dim)
    ]
    # x runs fastest: the last axis of an 'ij' grid runs fastest, so build it in reverse.
    grids = np.meshgrid(*axes[::-1], indexing="ij")
    points = np.stack([grid.ravel() for grid in grids[::-1]], 1)
    corners = _blocks([high - low for low, high in window])
    splits = {"triangle": _TRIANGLES, "tetra": _TETRAHEDRA}.get(cell)
    if splits is not None:
        corners = corners[:, np.array(splits)].reshape(-1, dim + 1)
    mesh = trusted_mesh(points, np.ascontiguousarray(corners), cell, {}, {})
    blocks = _numbers(window, cells)
    each = 1 if splits is None else len(splits)
    numbers = (blocks[:, None] * each + np.arange(each)).ravel()
    places = _numbers([(low, high + 1) for low, high in window], [n + 1 for n in cells])
    return Piece(
        _with_sides(mesh, cells, window), torch.from_numpy(places), torch.from_numpy(numbers)
    )


def _structured(
    cells: Sequence[int],
    size: Sequence[float],
    origin: Sequence[float],
    cell: str,
    grading: Sequence[float],
) -> Mesh:
    everything = [(0, count) for count in cells]
    return structured_window(cells, size, origin, cell, grading, everything).mesh


def _numbers(window: Sequence[tuple[int, int]], counts: Sequence[int]) -> Ints:
    """Numbers in a lattice of the places in a window of it, x fastest."""
    index, stride = np.zeros((), dtype=np.int64), 1
    for (low, high), count in zip(window, counts, strict=True):
        along = np.arange(low, high, dtype=np.int64) * stride
        index = along.reshape(-1, *[1] * index.ndim) + index
        stride *= count
    return index.ravel()


def _blocks(cells: Sequence[int]) -> Ints:
    """Vertices of the lattice cells, in VTK order."""
    steps = [1, *np.cumprod([count + 1 for count in cells]).tolist()]
    corners = [0, steps[0]]
    if len(cells) > 1:
        corners = [0, steps[0], steps[0] + steps[1], steps[1]]
    if len(cells) > 2:
        corners += [corner + steps[2] for corner in corners]
    first = _numbers([(0, count) for count in cells], [count + 1 for count in cells])
    return first[:, None] + np.array(corners, dtype=np.int64)


def _with_sides(mesh: Mesh, cells: Sequence[int], window: Sequence[tuple[int, int]]) -> Mesh:
    """Tag the facets on the sides of the whole, by lattice positions, so that no coordinate is compared."""
    names = {1: ("left", "right"), 2: ("left", "right", "bottom", "top")}.get(
        len(cells), ("left", "right", "front", "back", "bottom", "top")
    )
    position, sides = mesh.facets, {}
    for d, (low, high) in enumerate(window):
        count = high - low + 1
        along = position % count + low
        position = torch.div(position, count, rounding_mode="floor")
        for name, side in zip(names[2 * d : 2 * d + 2], (0, cells[d]), strict=True):
            sides[name] = (along == side).all(1)
    outside = torch.stack(list(sides.values())).any(0)
    kept = torch.nonzero(outside)[:, 0]
    if len(kept) < mesh.n_facets:
        mesh = replace(
            mesh,
            facets=mesh.facets[kept],
            facet_cells=mesh.facet_cells[kept],
            facet_sides=mesh.facet_sides[kept],
            facet_neighbours=mesh.facet_neighbours[kept],
        )
    tags = {name: torch.nonzero(where[kept])[:, 0] for name, where in sides.items()}
    return replace(mesh, facet_tags=MappingProxyType(tags))


def _graded(cells: int, grading: float) -> npt.NDArray[np.float64]:
    """Find the ends of `cells` parts of the unit interval that grow by a constant factor."""
    if grading == 1.0 or cells == 1:
        return np.linspace(0.0, 1.0, cells + 1, dtype=np.float64)
    sizes = grading ** (np.arange(cells) / (cells - 1))
    ends: npt.NDArray[np.float64] = np.concatenate([[0.0], np.cumsum(sizes)]) / sizes.sum()
    ends[-1] = 1.0
    return ends


def _check(
    dim: int,
    cells: Sequence[int],
    size: Sequence[float],
    origin: Sequence[float],
    grading: Sequence[float],
) -> None:
    given = (("cells", cells), ("size", size), ("origin", origin), ("grading", grading))
    for name, value in given:
        if len(value) != dim:
            raise ArgumentError(f"{name}: got {value!r}; this shape needs {dim} numbers")
    if any(isinstance(count, bool) or int(count) != count or count < 1 for count in cells):
        raise MeshError(f"cells: got {cells!r}; divisions are whole numbers of at least 1")
    if any(not isfinite(length) or length <= 0 for length in size):
        raise MeshError(f"size: got {size!r}; lengths are positive and finite")
    if any(not isfinite(ratio) or not 1e-6 <= ratio <= 1e6 for ratio in grading):
        raise MeshError(f"grading: got {grading!r}; ratios of sizes lie between 1e-6 and 1e6")
    if any(not isfinite(value) for value in origin):
        raise MeshError(f"origin: got {origin!r}; coordinates are finite")
