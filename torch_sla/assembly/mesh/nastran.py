"""Nastran files: coordinates that meshio takes as they stand, whatever system they are in.

Source: MSC Nastran Quick Reference Guide, "GRID", "GRDSET" and "CTRIA3" (the property of an element).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from torch_sla.errors import MeshError

if TYPE_CHECKING:
    from pathlib import Path

    import meshio

__all__ = ["read_nastran"]


def read_nastran(path: Path) -> meshio.Mesh:
    """Read a Nastran file.

    Raises
    ------
    MeshError
        If its points are in coordinates of another system than the basic one, or only some of its elements have a
        property.
    """
    import meshio

    try:
        raw = meshio.read(path, file_format="nastran")
    except IndexError as error:  # from its groups, which lack the first
        raise MeshError(
            f"path: meshio cannot read {path} ({error}); where elements have a property, give each of them one"
        ) from error
    systems = {int(number) for number in np.unique(raw.point_data.get("nastran:ref", 0))}
    with path.open(encoding="utf-8", errors="replace") as file:
        systems |= {_system(line) for line in file if line.upper().startswith("GRDSET")}
    if other := sorted(systems - {0}):
        raise MeshError(
            f"path: {path} has points in the coordinate system {other[0]} (field CP of GRID or GRDSET), which is not "
            "followed; write them in the basic system, 0"
        )
    return raw


def _system(line: str) -> int:
    """Return the system of points that name none."""
    wide = 16 if "*" in line[:8] else 8
    field = line.split(",")[2:3] if "," in line else [line[8 + wide : 8 + 2 * wide]]
    return int(field[0]) if field and field[0].strip().isdecimal() else 0
