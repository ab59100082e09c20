"""Meshes and fields on them to files, through meshio."""

from __future__ import annotations

import contextlib
import io
import re
import string
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from xml.sax.saxutils import escape

import numpy as np
import numpy.typing as npt
import torch

from torch_sla.assembly.mesh.archive import write_archive
from torch_sla.assembly.mesh.raw import lacking
from torch_sla.errors import MeshError
from torch_sla.linalg.sparse.whole import make_folder, named, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor

    from torch_sla.assembly.mesh.mesh import Mesh

__all__ = ["column", "in_space", "write_mesh"]

# meshio writes names as they are. In the legacy format of VTK a space ends one; VTK writes ``%20`` and turns it back.
_SPELLED: dict[str, Callable[[str], str]] = {
    ".vtu": partial(escape, entities={'"': "&quot;", "\n": "&#10;", "\t": "&#9;"}),
    ".vtk": partial(quote, safe=string.punctuation.translate({ord(sign): None for sign in '%"'})),
}
# Formats of several files, which name each other.
_SEVERAL = (".ele", ".node", ".xdmf", ".xmf", ".xml")
# Formats in which meshio writes fields in cells, and those at points.
_IN_CELLS = (".avs", ".dat", ".hmf", ".med", ".msh", ".tec", ".vtk", ".vtu", ".xdmf", ".xmf")
_AT_POINTS = (*_IN_CELLS, ".e", ".ex2", ".exo", ".ply")
# Formats that meshio takes for others: it writes ``.msh`` as Fluent has it.
_FORMAT = {".msh": {"file_format": "gmsh"}}
# What it says of cells and fields that it leaves out.
_LOST = re.compile("skip|discard|can only", re.IGNORECASE)
# How NumPy 2 prints the numbers that some of its writers mean to write as text.
_PRINTED = re.compile(rb"\bnp\.(?:float|int)\d+\(")
# Numbers that viewers do not know, as those that they do.
_KNOWN = {torch.bool: torch.uint8, torch.float16: torch.float32, torch.bfloat16: torch.float32}


def write_mesh(
    path: str | Path,
    mesh: Mesh,
    point_data: Mapping[str, Tensor] | None = None,
    cell_data: Mapping[str, Tensor] | None = None,
    points: Tensor | None = None,
) -> None:
    """Write a mesh with fields on it; the format follows the suffix (``.vtu`` for ParaView, ``.msh`` for gmsh).

    With ``.npz`` the mesh and its tags are written as plain arrays, without fields: `read_mesh` reads the same mesh
    back, and on several processes each reads its share only.

    Parameters
    ----------
    path
        The file; a folder that does not exist is made.
    mesh
        The mesh.
    point_data
        Real fields ``[n_points]`` or ``[n_points, components]``; truth values become 0 and 1.
    cell_data
        Real fields ``[n_cells]`` or ``[n_cells, components]``.
    points
        Moved points ``[n_points, dim]``; the mesh's own when None.

    Raises
    ------
    MeshError
        If a field has a wrong length or is complex, meshio does not know the suffix, or the format has no place for
        the cells or the fields.
    """
    import meshio

    path = Path(path)
    points_of, cells_of = point_data or {}, cell_data or {}
    suffix = path.suffix.lower()
    for what, fields, formats in (
        ("point_data", points_of, _AT_POINTS),
        ("cell_data", cells_of, _IN_CELLS),
    ):
        if fields and suffix not in formats:
            raise MeshError(
                f"{what}: {path} has no place for such fields, and got {', '.join(fields)}; use .vtu"
            )
    if suffix == ".npz":
        write_archive(path, mesh if points is None else replace(mesh, points=points))
        return
    xs = (mesh.points if points is None else points).detach().cpu().numpy()
    said_as = _SPELLED.get(suffix, str)
    raw = meshio.Mesh(
        in_space(xs),
        [(mesh.cell, mesh.cells.cpu().numpy())],
        point_data={said_as(k): column(k, v, mesh.n_points) for k, v in points_of.items()},
        cell_data={said_as(k): [column(k, v, mesh.n_cells)] for k, v in cells_of.items()},
    )
    said = io.StringIO()
    try:
        with (
            (_several if suffix in _SEVERAL else whole)(path) as file,
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(said),
        ):
            meshio.write(file, raw, **_FORMAT.get(suffix, {}))
            if _LOST.search(said.getvalue()):
                raise meshio.WriteError
            with file.open("rb") as begun:
                printed = _PRINTED.search(begun.read(1 << 16))
            if printed:
                raise meshio.WriteError(
                    f"with this NumPy it writes {path.suffix} files that nothing reads; use .vtu, .msh or .npz"
                )
    except ImportError as error:
        raise lacking(error, path, "write") from error
    except OSError:
        raise
    except (Exception, SystemExit) as error:
        # Its writers fail on what they do not know in whatever way they come to.
        detail = said.getvalue().strip() or str(error) or type(error).__name__
        raise MeshError(f"path: meshio cannot write {path}: {detail}") from error


@contextlib.contextmanager
def _several(path: Path) -> Iterator[Path]:
    """Yield where to write a file and those beside it, which take their places when the block ends well."""
    hidden = f".{path.stem}."
    try:
        make_folder(path.parent)
        with tempfile.TemporaryDirectory(prefix=hidden, dir=path.parent) as folder:
            yield Path(folder) / path.name
            # The one that names the others comes last.
            for file in sorted(Path(folder).iterdir(), key=lambda file: file.name == path.name):
                file.replace(path.with_name(file.name))
    except OSError as error:
        at = str(error.filename)
        named(error, path, at if any(p.startswith(hidden) for p in Path(at).parts) else path)
        raise


def in_space(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Pad vectors to three components, as viewers expect."""
    missing = 3 - values.shape[1]
    return np.pad(values, ((0, 0), (0, missing))) if missing > 0 else values


def column(name: str, values: Tensor, length: int) -> npt.NDArray[Any]:
    """Return a field as viewers take it: ``[length]`` or ``[length, components]``, real."""
    if values.is_complex():
        raise MeshError(f"{name}: is complex; write its real and imaginary parts as two fields")
    if values.ndim < 1 or values.shape[0] != length:
        raise MeshError(
            f"{name}: got shape {tuple(values.shape)}; the first dimension must be {length}"
        )
    array = values.detach().to(_KNOWN.get(values.dtype, values.dtype)).cpu().numpy()
    array = array.reshape(length, -1) if array.ndim > 2 else array
    return in_space(array) if array.ndim == 2 and array.shape[1] == 2 else array
