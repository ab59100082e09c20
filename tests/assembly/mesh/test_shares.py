"""Shares of meshes in files: archives of plain arrays, and VTK's files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import meshio
import numpy as np
import pytest

from tests.helpers.meshes_in_files import MESHES, in_vtk
from torch_sla.assembly.mesh import mesh_index, read_mesh, rectangle_mesh, write_mesh
from torch_sla.assembly.mesh.share import members
from torch_sla.errors import MeshError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", list(MESHES))
def test_an_archive_keeps_everything(tmp_path: Path, name: str) -> None:
    mesh = MESHES[name]()
    write_mesh(tmp_path / "mesh.npz", mesh)
    again = read_mesh(tmp_path / "mesh.npz", duplicate_nodes="allow", hanging_nodes="allow")
    assert again.key == mesh.key
    assert again.cell_tags.keys() == mesh.cell_tags.keys()


def test_an_archive_takes_no_fields(tmp_path: Path) -> None:
    mesh = rectangle_mesh((2, 2))
    with pytest.raises(MeshError, match="no place for such fields"):
        write_mesh(tmp_path / "mesh.npz", mesh, point_data={"u": mesh.points[:, 0]})


@pytest.mark.parametrize(
    "written",
    [{}, {"compression": None}, {"compression": "lzma"}, {"header_type": "UInt64"}],
    ids=str,
)
@pytest.mark.parametrize("name", list(MESHES))
def test_shares_of_vtk_files_are_what_meshio_reads(
    tmp_path: Path, name: str, written: dict[str, Any]
) -> None:
    path = tmp_path / "mesh.vtu"
    meshio.vtu.write(path, in_vtk(MESHES[name]()), **written)
    mesh = read_mesh(path, duplicate_nodes="allow", hanging_nodes="allow")
    index = mesh_index(path)
    assert index is not None
    shares = [index.read(k, k + 1, 5) for k in range(5)]
    points, cells = (np.concatenate([getattr(s, n) for s in shares]) for n in ("points", "cells"))
    assert np.array_equal(points[:, : mesh.dim], mesh.points.numpy())
    assert np.array_equal(cells, mesh.cells.numpy())
    groups = np.concatenate([s.cell_groups for s in shares])
    assert set(index.cell_groups) == set(mesh.cell_tags)
    for i, group in enumerate(index.cell_groups):
        assert members(groups, i).tolist() == mesh.cell_tags[group].tolist()
    facets = np.concatenate([s.facets for s in shares])
    groups = np.concatenate([s.facet_groups for s in shares])
    assert set(index.facet_groups) == set(mesh.facet_tags)
    for i, group in enumerate(index.facet_groups):
        found = np.sort(facets[members(groups, i)], 1).tolist()
        wanted = np.sort(mesh.facets[mesh.facet_tags[group]], 1).tolist()
        assert sorted(found) == sorted(wanted)


def test_what_has_no_shares_is_read_whole(tmp_path: Path) -> None:
    raw = in_vtk(rectangle_mesh((3, 2)))
    meshio.vtu.write(tmp_path / "text.vtu", raw, binary=False)
    meshio.write(tmp_path / "mesh.mesh", meshio.Mesh(raw.points, raw.cells))
    assert mesh_index(tmp_path / "text.vtu") is None
    assert read_mesh(tmp_path / "text.vtu").n_cells == 12
    assert mesh_index(tmp_path / "mesh.mesh") is None


def test_a_damaged_vtk_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "mesh.vtu"
    meshio.vtu.write(path, in_vtk(rectangle_mesh((40, 40))))
    text = path.read_bytes()
    at = text.index(b"connectivity") + 2000
    path.write_bytes(text[:at] + b"AAAA" + text[at + 4 :])
    index = mesh_index(path)
    assert index is not None
    with pytest.raises(MeshError, match="is damaged"):
        index.read(0, 1, 1)
