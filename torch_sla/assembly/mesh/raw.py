"""What meshio reads of a file, with what it loses of some formats."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING

from torch_sla.assembly.mesh.abaqus import read_abaqus
from torch_sla.assembly.mesh.gmsh import read_by_meshio
from torch_sla.assembly.mesh.kinds import GROUPS
from torch_sla.assembly.mesh.med import read_med
from torch_sla.assembly.mesh.nastran import read_nastran
from torch_sla.assembly.mesh.xdmf import read_xdmf
from torch_sla.errors import MeshError

if TYPE_CHECKING:
    from pathlib import Path

    import meshio

__all__ = ["lacking", "read_raw"]

_OF = {
    ".inp": read_abaqus,
    ".med": read_med,
    **dict.fromkeys((".bdf", ".fem", ".nas"), read_nastran),
    **dict.fromkeys((".xdmf", ".xmf"), read_xdmf),
}


def read_raw(path: Path) -> meshio.Mesh:
    """Read a file of any format that meshio knows.

    Raises
    ------
    MeshError
        If it cannot be read.
    """
    said = io.StringIO()
    try:
        # meshio prints, and ends the process when no reader fits.
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            raw = _OF.get(path.suffix.lower(), read_by_meshio)(path)
    except MeshError:
        raise
    except ImportError as error:
        raise lacking(error, path, "read") from error
    except (
        Exception,
        SystemExit,
    ) as error:  # its readers fail on a bad file in whatever way they come to
        detail = said.getvalue().strip() or str(error) or type(error).__name__
        raise MeshError(f"path: meshio cannot read {path}: {detail}") from error
    for name in GROUPS:
        found = raw.cell_data.get(name)
        if found is not None and [len(part) for part in found] != [len(b.data) for b in raw.cells]:
            raise MeshError(
                f"path: {path} says for some cells only to what group they belong ({name!r}); give each cell one"
            )
    return raw


def lacking(error: ImportError, path: Path, verb: str) -> MeshError:
    """Return the error for a package that a format needs."""
    return MeshError(
        f"path: meshio needs {error.name} to {verb} {path.suffix} files; install it (pip install {error.name})"
    )
