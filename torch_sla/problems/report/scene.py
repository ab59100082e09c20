"""A result as a grid of pyvista, for pictures in space that can be turned, cut and coloured at will."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from torch_sla.assembly.mesh.write import in_space
from torch_sla.errors import ArgumentError
from torch_sla.problems.report.frames import frames_of

if TYPE_CHECKING:
    import pyvista

__all__ = ["to_pyvista"]

_KINDS = {
    "line": 3,
    "triangle": 5,
    "quad": 9,
    "tetra": 10,
    "hexahedron": 12,
    "line3": 21,
    "triangle6": 22,
    "quad8": 23,
    "quad9": 28,
    "tetra10": 24,
    "hexahedron20": 25,
    "hexahedron27": 29,
}
"""Numbers of cell types in VTK, docs.vtk.org."""


def to_pyvista(result: Any, member: int) -> pyvista.UnstructuredGrid:
    """Make a grid with all fields of a frame; see `Drawn.to_pyvista`."""
    try:
        import pyvista
    except ImportError as error:
        raise ArgumentError("this needs pyvista: pip install pyvista") from error
    frames = frames_of(result)
    if not -len(frames) <= member < len(frames):
        raise ArgumentError(f"member is {member}; there are {len(frames)} pictures")
    mesh = frames.mesh
    cells = mesh.cells.cpu().numpy()
    sized = np.insert(cells, 0, cells.shape[1], axis=1).ravel()
    kinds = np.full(len(cells), _KINDS[mesh.cell], dtype=np.uint8)
    grid = pyvista.UnstructuredGrid(sized, kinds, in_space(frames.points_of(member).cpu().numpy()))
    nodal, cellwise = frames.frame(member)
    for target, fields in ((grid.point_data, nodal), (grid.cell_data, cellwise)):
        for name, value in fields.items():
            array = value.cpu().numpy().reshape(len(value), -1)
            target[name] = array[:, 0] if array.shape[1] == 1 else in_space(array)
    return grid
