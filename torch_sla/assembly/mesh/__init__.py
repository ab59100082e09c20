"""Meshes: the frozen `Mesh`, shapes, files."""

from __future__ import annotations

from torch_sla.assembly.mesh.build import make_mesh
from torch_sla.assembly.mesh.curve import curved, raised
from torch_sla.assembly.mesh.extrude import extrude
from torch_sla.assembly.mesh.files import mesh_index, read_mesh
from torch_sla.assembly.mesh.mesh import CELL_TYPES, Mesh
from torch_sla.assembly.mesh.parts import Part, partition, partition_boxes, partition_cells
from torch_sla.assembly.mesh.refine import refine
from torch_sla.assembly.mesh.round_shapes import annulus_mesh, disk_mesh, lshape_mesh
from torch_sla.assembly.mesh.series import write_series
from torch_sla.assembly.mesh.shapes import (
    Piece,
    box_mesh,
    interval_mesh,
    rectangle_mesh,
    structured_window,
)
from torch_sla.assembly.mesh.submesh import Submesh, submesh
from torch_sla.assembly.mesh.write import write_mesh

__all__ = [
    "CELL_TYPES",
    "Mesh",
    "Part",
    "Piece",
    "Submesh",
    "annulus_mesh",
    "box_mesh",
    "curved",
    "disk_mesh",
    "extrude",
    "interval_mesh",
    "lshape_mesh",
    "make_mesh",
    "mesh_index",
    "partition",
    "partition_boxes",
    "partition_cells",
    "raised",
    "read_mesh",
    "rectangle_mesh",
    "refine",
    "structured_window",
    "submesh",
    "write_mesh",
    "write_series",
]
