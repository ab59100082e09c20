"""MED files of Salome: groups by their names, and what meshio cannot read told by name.

Source: the MED file format, docs.salome-platform.org (families of cells, each in several groups).
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from torch_sla.errors import MeshError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import meshio

__all__ = ["read_med"]

# What meshio knows, as the format calls it.
_KINDS = (
    *("PO1", "SE2", "SE3", "TR3", "TR6", "QU4", "QU8", "TE4", "T10", "HE8", "H20"),
    *("PY5", "P13", "PE6", "P15"),
)


def read_med(path: Path) -> meshio.Mesh:
    """Read a MED file; the groups of its cells are cell sets.

    Raises
    ------
    MeshError
        If it has cells that meshio does not know.
    """
    import h5py
    import meshio

    with h5py.File(path, "r") as file:
        unknown = [kind for cells in _cells(file) for kind in cells if kind not in _KINDS]
        without = [True for cells in _cells(file) for kind in cells if "FAM" not in cells[kind]]
    if unknown:
        raise MeshError(
            f"path: {path} has cells of the kind {', '.join(unknown)}, which are not read from MED files; second-order "
            "quadrilaterals and hexahedra with nodes in the middle can be written as .msh or .vtu"
        )
    if without:
        # meshio wants families for all kinds of cells or for none; where there are none, each cell is in family 0.
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / path.name
            copy.write_bytes(path.read_bytes())
            with h5py.File(copy, "r+") as file:
                for cells in _cells(file):
                    for kind in cells:
                        if "FAM" not in cells[kind]:
                            count = int(cells[kind]["NOD"].attrs["NBR"])
                            cells[kind]["FAM"] = np.zeros(count, np.int64)
            raw = meshio.read(copy, file_format="med")
    else:
        raw = meshio.read(path, file_format="med")
    _name_groups(raw)
    return raw


def _cells(file: Any) -> Iterator[Any]:
    """Yield where the cells of each mesh, or of each of its steps, are."""
    for mesh in file["ENS_MAA"].values():
        for place in (mesh, *mesh.values()):
            if "MAI" in place:
                yield place["MAI"]


def _name_groups(raw: meshio.Mesh) -> None:
    """Make cell sets of the groups of families; a family without groups keeps its number."""
    families = raw.cell_data.get("cell_tags")
    if families is None:
        return
    named = {number: names for number, names in raw.cell_tags.items() if names}
    for number, names in named.items():
        members = [np.nonzero(found == number)[0] for found in families]
        for name in dict.fromkeys(name.strip("\0 ") for name in names):
            before = raw.cell_sets.get(name, [np.zeros(0, np.int64)] * len(families))
            raw.cell_sets[name] = [
                np.concatenate(pair) for pair in zip(before, members, strict=True)
            ]
    known = list(named)
    raw.cell_data["cell_tags"] = [np.where(np.isin(found, known), 0, found) for found in families]
