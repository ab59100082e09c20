"""Meshes: the frozen `Mesh`, shapes, files."""

from __future__ import annotations

from torch_sla.assembly.mesh.build import make_mesh
from torch_sla.assembly.mesh.files import read_mesh, write_mesh
from torch_sla.assembly.mesh.mesh import CELL_TYPES, Mesh
from torch_sla.assembly.mesh.shapes import box_mesh, interval_mesh, rectangle_mesh

__all__ = [
    "CELL_TYPES",
    "Mesh",
    "box_mesh",
    "interval_mesh",
    "make_mesh",
    "read_mesh",
    "rectangle_mesh",
    "write_mesh",
]
