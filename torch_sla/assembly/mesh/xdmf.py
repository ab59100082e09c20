"""XDMF files: numbers in binary files, which meshio looks for in the folder of the process, from their first byte.

Source: the XDMF model and format, xdmf.org, section "DataItem" (Format, Endian, Seek, Compression).
"""

from __future__ import annotations

import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING

from torch_sla.errors import MeshError

if TYPE_CHECKING:
    import meshio

__all__ = ["read_xdmf"]

_PLAIN = {
    "Seek": ("0",),
    "Compression": ("Raw",),
    "Endian": ("Native", "Little" if sys.byteorder == "little" else "Big"),
}


def read_xdmf(path: Path) -> meshio.Mesh:
    """Read an XDMF file of one mesh, whose other files lie beside it.

    Raises
    ------
    MeshError
        If it is a series, or its numbers are written in a way that is not read.
    """
    import meshio

    tree = ET.parse(path)
    if any(grid.get("GridType") == "Collection" for grid in tree.iter("Grid")):
        raise MeshError(
            f"path: {path} is a series of fields, and a mesh is wanted; write one as .vtu or .npz (write_mesh)"
        )
    binary = [item for item in tree.iter("DataItem") if item.get("Format") == "Binary"]
    for item in binary:
        for name, plain in _PLAIN.items():
            if item.get(name, plain[0]).strip() not in plain:
                raise MeshError(
                    f"path: {path} has numbers with {name}={item.get(name)!r}, which is not read; write them as HDF, "
                    "or each array into a binary file of its own"
                )
    if not binary:
        return meshio.read(path, file_format="xdmf")
    folder = path.resolve().parent
    for item in tree.iter("DataItem"):
        if item.get("Format") in ("Binary", "HDF"):
            item.text = str(folder / (item.text or "").strip())
    with tempfile.TemporaryDirectory() as beside:
        copy = Path(beside) / path.name
        tree.write(copy)
        return meshio.read(copy, file_format="xdmf")
