"""Fields that change, on one mesh, to files that viewers play: ``.pvd`` and many ``.vtu``, ``.xdmf`` and a ``.bin``.

Sources: the XDMF model and format, xdmf.org (temporal collections, binary data items with an offset); VTK file formats,
docs.vtk.org (collections).
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from torch_sla.assembly.mesh.write import column, in_space, write_mesh
from torch_sla.errors import MeshError
from torch_sla.linalg.sparse.whole import whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import BinaryIO

    from torch import Tensor

    from torch_sla.assembly.mesh.mesh import Mesh

    Frame = tuple[float, Mapping[str, Tensor], Mapping[str, Tensor]]

__all__ = ["write_series"]

_KINDS = {1: "Scalar", 3: "Vector", 6: "Tensor6", 9: "Tensor"}
_TYPES = {"i": "Int", "u": "UInt", "f": "Float"}


def write_series(
    path: str | Path, mesh: Mesh, frames: Iterable[Frame], points: Tensor | None = None
) -> None:
    """Write fields that change.

    Parameters
    ----------
    path
        ``NAME.pvd``, which makes a folder NAME of ``.vtu`` files, or ``NAME.xdmf``, which makes one ``NAME.bin``.
    mesh
        The mesh.
    frames
        For each the time (or another number that grows), fields at points ``[n_points(, components)]`` and in cells
        ``[n_cells(, components)]``, real.
    points
        Moved points ``[n_points, dim]``; the mesh's own when None.

    Raises
    ------
    MeshError
        If the ending is another, or a field has a wrong length or is complex.
    """
    path = Path(path)
    if path.suffix == ".pvd":
        _collection(path, mesh, frames, points)
    elif path.suffix == ".xdmf":
        _xdmf(path, mesh, frames, points)
    else:
        raise MeshError(f"path ends in {path.suffix!r}; a series is .pvd or .xdmf")


def _collection(path: Path, mesh: Mesh, frames: Iterable[Frame], points: Tensor | None) -> None:
    folder = path.with_suffix("")
    order = "LittleEndian" if sys.byteorder == "little" else "BigEndian"
    root = ET.Element("VTKFile", type="Collection", version="1.0", byte_order=order)
    collection = ET.SubElement(root, "Collection")
    for i, (at, nodal, cellwise) in enumerate(frames):
        file = folder / f"{path.stem}_{i:05d}.vtu"
        write_mesh(file, mesh, nodal, cellwise, points=points)
        name = f"{folder.name}/{file.name}"
        ET.SubElement(collection, "DataSet", timestep=repr(float(at)), part="0", file=name)
    _write(path, root)


def _xdmf(path: Path, mesh: Mesh, frames: Iterable[Frame], points: Tensor | None) -> None:
    from meshio.xdmf.common import meshio_to_xdmf_type

    if mesh.cell not in meshio_to_xdmf_type:
        raise MeshError(f"path: XDMF knows no {mesh.cell} cells; write .pvd")
    heavy = path.with_suffix(".bin")
    root = ET.Element("Xdmf", Version="3.0")
    grids = ET.SubElement(
        ET.SubElement(root, "Domain"),
        "Grid",
        Name="series",
        GridType="Collection",
        CollectionType="Temporal",
    )
    xs = (mesh.points if points is None else points).detach().cpu().numpy()
    cells = mesh.cells.cpu().numpy()
    with whole(heavy) as beside, beside.open("wb") as file:
        data = _Heavy(file, heavy.name)
        topology = ET.Element(
            "Topology",
            TopologyType=meshio_to_xdmf_type[mesh.cell][0],
            NumberOfElements=str(len(cells)),
            NodesPerElement=str(cells.shape[1]),
        )
        data.put(topology, cells.astype(np.int32 if mesh.n_points < 2**31 else np.int64))
        geometry = ET.Element("Geometry", GeometryType="XYZ")
        data.put(geometry, in_space(xs))
        for at, nodal, cellwise in frames:
            grid = ET.SubElement(grids, "Grid", Name="mesh", GridType="Uniform")
            grid.extend((topology, geometry))
            ET.SubElement(grid, "Time", Value=repr(float(at)))
            for centre, fields, length in (
                ("Node", nodal, mesh.n_points),
                ("Cell", cellwise, mesh.n_cells),
            ):
                for name, value in fields.items():
                    array = column(name, value, length)
                    kind = _KINDS.get(array.size // max(length, 1), "Matrix")
                    attribute = ET.SubElement(
                        grid, "Attribute", Name=name, AttributeType=kind, Center=centre
                    )
                    data.put(attribute, array)
    _write(path, root)


class _Heavy:
    """The file of numbers beside the XML.

    Parameters
    ----------
    file, name
        Where arrays go, and what the XML calls it.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self._name = file, name

    def put(self, parent: ET.Element, array: npt.NDArray[Any]) -> None:
        """Append an array, and say in the XML where it lies."""
        item = ET.SubElement(
            parent,
            "DataItem",
            Format="Binary",
            NumberType=_TYPES[array.dtype.kind],
            Precision=str(array.dtype.itemsize),
            Dimensions=" ".join(map(str, array.shape)),
            Endian="Little" if sys.byteorder == "little" else "Big",
            Seek=str(self._file.tell()),
        )
        item.text = self._name
        self._file.write(np.ascontiguousarray(array).data)


def _write(path: Path, root: ET.Element) -> None:
    ET.indent(root)
    with whole(path) as file:
        ET.ElementTree(root).write(file, encoding="utf-8", xml_declaration=True)
