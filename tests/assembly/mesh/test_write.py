from __future__ import annotations

import errno
import sys
from urllib.parse import unquote

import meshio
import numpy as np
import pytest
import torch

import torch_sla.assembly as fem
from torch_sla.assembly.mesh import raised
from torch_sla.errors import MeshError


@pytest.mark.parametrize("cell", ["line", "triangle", "quad", "tetra", "hexahedron"])
def test_written_meshes_read_back(tools, cell, tmp_path):
    mesh = tools.distorted(cell, 2)
    fields = {"u": mesh.points[:, 0].requires_grad_(), "v": mesh.points}
    fem.write_mesh(tmp_path / "m.vtu", mesh, fields, {"k": torch.arange(mesh.n_cells)})
    raw = meshio.read(tmp_path / "m.vtu")
    assert raw.points.shape[1] == 3
    np.testing.assert_array_equal(raw.point_data["u"], mesh.points[:, 0].numpy())
    np.testing.assert_array_equal(raw.cell_data["k"][0], np.arange(mesh.n_cells))
    again = fem.read_mesh(tmp_path / "m.vtu")
    assert torch.equal(again.points, mesh.points.detach())
    assert torch.equal(again.cells, mesh.cells)


@pytest.mark.parametrize(
    "name", ["P & Q", "T<0", 'the "hot" side', "two\nlines", "ünï", "a &amp; b"]
)
def test_names_of_fields_are_kept(tools, tmp_path, name):
    mesh = tools.structured("triangle", 2)
    field, cellwise = mesh.points[:, 0], torch.arange(mesh.n_cells).double()
    fem.write_mesh(tmp_path / "m.vtu", mesh, {name: field}, {name: cellwise})
    raw = meshio.read(tmp_path / "m.vtu")
    np.testing.assert_array_equal(raw.point_data[name], field.numpy())
    np.testing.assert_array_equal(raw.cell_data[name][0], cellwise.numpy())


def test_fields_are_checked_before_writing(tools, tmp_path):
    mesh = tools.structured("triangle", 2)
    with pytest.raises(MeshError, match=r"u: got shape \(3,\); the first dimension must be 9"):
        fem.write_mesh(tmp_path / "m.vtu", mesh, {"u": torch.ones(3)})
    with pytest.raises(MeshError, match="u: is complex"):
        fem.write_mesh(tmp_path / "m.vtu", mesh, {"u": torch.ones(9, dtype=torch.complex128)})
    with pytest.raises(MeshError, match="cannot write"):
        fem.write_mesh(tmp_path / "m.nothing", mesh)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float16, torch.bfloat16])
def test_numbers_that_viewers_do_not_know_are_written_as_ones_they_do(tmp_path, dtype):
    mesh = fem.rectangle_mesh((2, 1))
    given = torch.tensor([0, 1, 1, 0, 1, 0]).to(dtype)
    for name in ("m.vtu", "m.vtk"):
        fem.write_mesh(tmp_path / name, mesh, {"u": given})
        read = meshio.read(tmp_path / name).point_data["u"]
        assert read.tolist() == [0, 1, 1, 0, 1, 0]
        assert read.dtype.itemsize == (4 if dtype.is_floating_point else 1)


@pytest.mark.parametrize("suffix", [".inp", ".bdf", ".mesh", ".npz", ".ply"])
def test_fields_that_a_format_has_no_place_for_are_refused(tmp_path, suffix):
    mesh = fem.rectangle_mesh((2, 2))
    if suffix != ".ply":
        with pytest.raises(MeshError, match=rf"^point_data: .*m\{suffix} has no place .* got u; "):
            fem.write_mesh(tmp_path / f"m{suffix}", mesh, {"u": torch.ones(9)})
    with pytest.raises(MeshError, match=rf"^cell_data: .*m\{suffix} has no place .* got k; "):
        fem.write_mesh(tmp_path / f"m{suffix}", mesh, cell_data={"k": torch.ones(8)})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("suffix", "dim"), [(".ply", 3), (".off", 3), (".f3grid", 2), (".su2", 2)])
def test_cells_that_a_format_has_no_place_for_are_refused(tmp_path, suffix, dim):
    """meshio leaves them out with a warning, or ends in an error of any kind."""
    mesh = fem.rectangle_mesh((1, 1)) if dim == 2 else fem.box_mesh((1, 1, 1))
    with pytest.raises(MeshError, match=rf"cannot write .*m\{suffix}: \w"):
        fem.write_mesh(tmp_path / f"m{suffix}", mesh)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("cell", ["triangle", "hexahedron27"])
def test_msh_is_the_format_of_gmsh(tools, tmp_path, cell):
    mesh = tools.distorted(cell.rstrip("0123456789"), 2)
    mesh = raised(mesh) if cell == "hexahedron27" else mesh
    k = torch.arange(mesh.n_cells).double()
    fem.write_mesh(tmp_path / "m.msh", mesh, {"v": mesh.points}, {"k": k})
    assert (tmp_path / "m.msh").read_bytes().startswith(b"$MeshFormat\n4.1")
    raw = meshio.read(tmp_path / "m.msh", file_format="gmsh")
    np.testing.assert_array_equal(raw.point_data["v"][:, : mesh.dim], mesh.points)
    np.testing.assert_array_equal(raw.cell_data["k"][0], k)
    again = fem.read_mesh(tmp_path / "m.msh")
    assert torch.equal(again.points, mesh.points)
    assert torch.equal(again.cells, mesh.cells)


def test_a_missing_writer_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MeshError, match=r"meshio needs h5py to write \.xdmf files; install it"):
        fem.write_mesh(tmp_path / "m.xdmf", fem.rectangle_mesh((1, 1)))


def test_names_in_legacy_vtk_files_are_one_word(tmp_path):
    """As VTK writes them: a space or a new line would end the name, and %-codes are read back."""
    mesh = fem.rectangle_mesh((2, 2))
    names = ["heat flux", "two\nlines", "50%", 'so "called"', "ä", "|u|", "steel_1.2"]
    fields = {n: torch.full((mesh.n_cells,), float(i)) for i, n in enumerate(names)}
    fem.write_mesh(tmp_path / "a.vtk", mesh, cell_data=fields)
    seen = meshio.read(tmp_path / "a.vtk").cell_data
    assert all(len(name.split()) == 1 for name in seen)
    assert {unquote(name): float(values[0][0]) for name, values in seen.items()} == {
        name: float(i) for i, name in enumerate(names)
    }
    assert {"heat%20flux", "two%0Alines", "50%25", "|u|", "steel_1.2"} <= set(seen)


def test_files_of_several_parts_are_written_whole(tmp_path, monkeypatch):
    """A file of XDMF has another one beside it; h5py does not matter to that."""
    mesh = fem.rectangle_mesh((2, 2))
    path = tmp_path / "m.xdmf"

    def write(file, raw, failing=None):
        file.with_suffix(".h5").write_text("heavy" * len(raw.points))
        if failing:
            raise failing
        file.write_text(file.with_suffix(".h5").name)

    monkeypatch.setattr(meshio, "write", write)
    fem.write_mesh(path, mesh)
    assert path.read_text() == "m.h5"
    assert path.with_suffix(".h5").read_text() == "heavy" * 9
    full = OSError(errno.ENOSPC, "full")
    monkeypatch.setattr(meshio, "write", lambda file, raw: write(file, raw, full))
    with pytest.raises(OSError, match=r"full: '.*m\.xdmf'"):
        fem.write_mesh(path, fem.refine(mesh))
    assert path.with_suffix(".h5").read_text() == "heavy" * 9
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["m.h5", "m.xdmf"]
    monkeypatch.setattr(meshio, "write", write)
    fem.write_mesh(tmp_path / "new/er/m.xdmf", mesh)
    assert (tmp_path / "new/er/m.xdmf").read_text() == "m.h5"
    with pytest.raises(NotADirectoryError, match=r"directory: '.*m\.xdmf'"):
        fem.write_mesh(path / "m.xdmf", mesh)
