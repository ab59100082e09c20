"""What kinds of cells a mesh file holds, and which of them are the mesh."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from torch_sla.assembly.mesh.mesh import CELL_TYPES
from torch_sla.errors import MeshError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["GROUPS", "base_name", "choose_cell", "group_numbers"]

# Where meshio keeps the number of each cell's group, by format.
GROUPS = ("gmsh:physical", "medit:ref", "nastran:ref", "avsucd:material", "cell_tags")

# Dimension of the cell types meshio may hand over; the supported ones are in CELL_TYPES.
_DIMENSION = {
    "vertex": 0,
    "line": 1,
    "triangle": 2,
    "quad": 2,
    "polygon": 2,
    "tetra": 3,
    "hexahedron": 3,
    "wedge": 3,
    "pyramid": 3,
    "polyhedron": 3,
}


def base_name(name: str) -> str:
    """Cell type without the number of nodes: ``triangle6`` is a triangle."""
    return name.rstrip("0123456789")


def group_numbers(path: Path, name: str, found: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return the number of each cell's group, which for gmsh is the size of the one written.

    Parameters
    ----------
    path, name, found
        The file, and what it calls the numbers and has for them.

    Raises
    ------
    MeshError
        If these are no whole numbers, one for each cell.
    """
    numbers = np.asarray(found)
    numbers = numbers[:, 0] if numbers.shape[1:] == (1,) else numbers  # of one component
    whole = numbers.ndim == 1 and numbers.dtype.kind in "iuf"
    if whole and numbers.dtype.kind == "f":
        whole = bool(((numbers == np.rint(numbers)) & (np.abs(numbers) < 2**53)).all())
    if not whole:
        raise MeshError(
            f"path: {path} has no whole number for each cell in {name!r}, which says to what group cells belong"
        )
    whole_numbers = numbers.astype(np.int64)
    # A minus says that gmsh turned the curve or surface around in the group, not that it is another group.
    return np.abs(whole_numbers) if name == "gmsh:physical" else whole_numbers


def choose_cell(path: Path, held: Mapping[str, int], cell: str | None) -> str:
    """Return the type of cells that are the mesh: the one asked for, or the only one of the highest dimension.

    Parameters
    ----------
    path, held
        The file, and how many cells of each type it holds.

    Raises
    ------
    MeshError
        If there are none of these, or several types.
    """
    listing = ", ".join(f"{count} {name}" for name, count in held.items() if count) or "no cells"
    if cell is not None:
        if cell not in CELL_TYPES:
            raise MeshError(f"cell: got {cell!r}; cell types are {', '.join(CELL_TYPES)}")
        if not held.get(cell):
            raise MeshError(f"path: {path} has no {cell} cells; it holds {listing}")
        return cell
    dimension = {name: _DIMENSION.get(base_name(name), 0) for name, count in held.items() if count}
    top = max(dimension.values(), default=0)
    if top == 0:
        raise MeshError(
            f"path: {path} has no line, triangle, quad, tetra or hexahedron cells; it holds {listing}"
        )
    names = [name for name, dim in dimension.items() if dim == top]
    if len(names) > 1:
        raise MeshError(
            f"path: {path} mixes cell types of dimension {top} ({', '.join(names)}); mesh it with one type, or name "
            "the one to take with cell="
        )
    if names[0] not in CELL_TYPES:
        raise MeshError(
            f"path: {path} is made of {names[0]} cells, which are not supported; it holds {listing}, and cell types "
            f"are {', '.join(CELL_TYPES)}"
        )
    return names[0]
