"""Nastran files: entries written out in full for meshio, which loses what continues without a mark.

It also passes over entries in large fields or small letters and those of included files, and takes coordinates as they
stand, whatever system they are in.

Source: MSC Nastran Quick Reference Guide, section "Format of Bulk Data Entries", "GRID", "GRDSET" and "CTRIA3" (the
property of an element).
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

from torch_sla.errors import MeshError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import meshio

__all__ = ["read_nastran"]

# Elements and how many points they have at most; what follows these are angles, offsets and the like.
_POINTS = {
    **dict.fromkeys(("CBAR", "CBEAM", "CBUSH", "CBUSH1D", "CGAP", "CROD"), 2),
    **dict.fromkeys(("CTRIA3", "CTRIAR"), 3),
    **dict.fromkeys(("CTRAX6", "CTRIA6", "CTRIAX6"), 6),
    **dict.fromkeys(("CQUAD4", "CQUADR", "CSHEAR"), 4),
    "CQUAD8": 8,
    "CQUAD9": 9,
    "CTETRA": 10,
    "CHEXA": 20,
    "CPENTA": 15,
    "CPYRA": 13,
    "CPYRAM": 13,
}
# Elements of surfaces and bodies; those of lines, masses and springs, and the rest, bound no mesh of these.
_ELEMENT = re.compile("C(TRI?A|QUAD|SHEAR|PLST|TETRA|HEXA|PENTA|PYR).*")


def read_nastran(path: Path) -> meshio.Mesh:
    """Read a Nastran file.

    Raises
    ------
    MeshError
        If its points are in coordinates of another system than the basic one, only some of its elements have a
        property, or elements are of a type that is not read or in another file.
    """
    import meshio

    lines, systems = ["BEGIN BULK"], set[str]()
    for name, fields in _entries(path):
        if name == "INCLUDE":
            raise MeshError(
                f"path: {path} includes other files ({''.join(fields)}), which is not followed; put them in one file"
            )
        if name == "GRDSET":
            systems.update(fields[1:2])
        elif name == "GRID":
            systems.update(fields[1:2])
            number, _, *x = [*fields, *[""] * 5][:5]
            places = [value.upper().replace("D", "E") or "0." for value in x]
            lines.append(",".join([name, number, "", *places]))
        elif name in _POINTS:
            given = fields[: 2 + _POINTS[name]]
            if _ELEMENT.fullmatch(name) or all(given[2:4]):  # one end of a spring may be the ground
                lines.append(",".join([name, *given]))
        elif _ELEMENT.fullmatch(name):
            raise MeshError(
                f"path: {path} has {name} elements, which are not read; those that are: "
                f"{', '.join(filter(_ELEMENT.fullmatch, _POINTS))}"
            )
    if other := sorted(systems - {"", "0"}):
        raise MeshError(
            f"path: {path} has points in the coordinate system {other[0]} (field CP of GRID or GRDSET), which is not "
            "followed; write them in the basic system, 0"
        )
    text = "\n".join([*lines, "ENDDATA", ""])
    try:
        return meshio.read(io.StringIO(text), file_format="nastran")
    except IndexError as error:  # from its groups, which lack the first
        raise MeshError(
            f"path: meshio cannot read {path} ({error}); where elements have a property, give each of them one"
        ) from error


def _entries(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the name of each entry and its fields, those of all its lines, without the blank ones at the end.

    A line is in free fields (with commas), small ones (8 of 8 letters) or large ones (4 of 16, marked with a star). One
    that begins with a blank field, a plus or a star continues the one before it.
    """
    name, fields = "", list[str]()
    for line in _bulk(path):
        if "," in line:
            first, *found = line.split(",")
            most = 4 if "*" in first else 8
            if len(found) == most + 1:  # its last one names the line that continues this one
                found = found[:most]
        else:
            first, wide = line[:8], 16 if "*" in line[:8] else 8
            most = 64 // wide
            found = [line[at : at + wide] for at in range(8, min(len(line), 72), wide)]
        first, found = first.strip(), [value.strip() for value in found]
        found += [""] * (most - len(found))
        if first and first[0] not in "+*":
            if name:
                yield name, _ended(fields)
            name, fields = first.rstrip("*").strip().upper(), found
        else:
            fields += found
    if name:
        yield name, _ended(fields)


def _ended(fields: list[str]) -> list[str]:
    while fields and not fields[-1]:
        fields = fields[:-1]
    return fields


def _bulk(path: Path) -> Iterator[str]:
    """Yield the lines of bulk data, without comments and empty ones."""
    begun = False
    with path.open(encoding="utf-8", errors="replace") as file:
        for written in file:
            line = written.split("$")[0].rstrip().expandtabs(8)
            begun, ahead = begun or line.upper().split()[:2] == ["BEGIN", "BULK"], not begun
            if ahead or not line or line.startswith(("//", "#")):
                continue
            if line.strip().upper() == "ENDDATA":
                return
            yield line
    said = "has no line ENDDATA: it may not be whole" if begun else "has no line BEGIN BULK"
    raise MeshError(f"path: {path} {said}; write it again")
