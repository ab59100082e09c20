from __future__ import annotations

import math

import meshio
import numpy as np
import pytest
import torch

import torch_sla.assembly as fem
from torch_sla.assembly.mesh.files import mesh_index
from torch_sla.assembly.mesh.share import members
from torch_sla.errors import ArgumentError, MeshError

POINTS = np.array([[0.0, 0, 0.5], [1, 0, 0.5], [1, 1, 0.5], [0, 1, 0.5], [7, 7, 0.5]])


@pytest.fixture
def gmsh_file(tmp_path):
    """Two triangles in the plane z = 1/2 with physical groups, one point too many, one unnamed group."""
    raw = meshio.Mesh(
        POINTS,
        [
            ("line", np.array([[0, 1], [2, 3], [0, 2]])),
            ("triangle", np.array([[0, 1, 2], [0, 2, 3]])),
        ],
        cell_data={
            "gmsh:physical": [np.array([1, 2, 9]), np.array([5, 6])],
            "gmsh:geometrical": [np.array([1, 2, 9]), np.array([5, 6])],
        },
        field_data={
            "floor": np.array([1, 1]),
            "lid": np.array([2, 1]),
            "steel": np.array([5, 2]),
            "copper": np.array([6, 2]),
        },
    )
    path = tmp_path / "plate.msh"
    meshio.write(path, raw, file_format="gmsh22", binary=False)
    return path


def test_physical_groups_become_tags(gmsh_file):
    mesh = fem.read_mesh(gmsh_file)
    assert (mesh.dim, mesh.n_points, mesh.n_cells) == (2, 4, 2)
    assert {k: v.tolist() for k, v in mesh.cell_tags.items()} == {"steel": [0], "copper": [1]}
    assert set(mesh.facet_tags) == {"floor", "lid", "9"}
    assert mesh.points[mesh.facets[mesh.facet_tags["lid"]]][..., 1].tolist() == [[1.0, 1.0]]
    assert mesh.facet_neighbours[mesh.facet_tags["9"]].tolist() == [1]


def test_files_without_the_needed_cells_say_what_they_hold(gmsh_file, tmp_path):
    with pytest.raises(MeshError, match="has no tetra cells; it holds 3 line, 2 triangle"):
        fem.read_mesh(gmsh_file, cell="tetra")
    with pytest.raises(MeshError, match="got 'tet'; cell types are line"):
        fem.read_mesh(gmsh_file, cell="tet")
    dots = tmp_path / "dots.vtu"
    meshio.write(dots, meshio.Mesh(POINTS, [("vertex", np.array([[0], [1]]))]))
    with pytest.raises(MeshError, match="it holds 2 vertex"):
        fem.read_mesh(dots)
    mixed = tmp_path / "mixed.vtu"
    blocks = [("triangle", np.array([[0, 1, 2]])), ("quad", np.array([[0, 1, 2, 3]]))]
    meshio.write(mixed, meshio.Mesh(POINTS, blocks))
    with pytest.raises(MeshError, match=r"mixes cell types of dimension 2 \(triangle, quad\)"):
        fem.read_mesh(mixed)
    wedge = tmp_path / "wedge.vtu"
    meshio.write(wedge, meshio.Mesh(np.eye(6, 3), [("wedge", np.arange(6)[None])]))
    with pytest.raises(MeshError, match="made of wedge cells, which are not supported"):
        fem.read_mesh(wedge)


def test_a_tilted_surface_is_refused(tmp_path):
    path = tmp_path / "shell.vtu"
    tilted = POINTS[:4].copy()
    tilted[2, 2] = 0.9
    meshio.write(path, meshio.Mesh(tilted, [("triangle", np.array([[0, 1, 2], [0, 2, 3]]))]))
    with pytest.raises(MeshError, match=r"curved or tilted.*coordinate z varies by 0.4"):
        fem.read_mesh(path)


def test_missing_and_unreadable_files(gmsh_file, capfd):
    with pytest.raises(MeshError, match=r"no file .*plat\.msh; did you mean plate\.msh\?"):
        fem.read_mesh(gmsh_file.with_name("plat.msh"))
    with pytest.raises(MeshError, match="is a folder"):
        fem.read_mesh(gmsh_file.parent)
    with pytest.raises(MeshError, match=r"the folder .* does not exist"):
        fem.read_mesh(gmsh_file.parent / "nowhere" / "a.msh")
    bad = gmsh_file.with_name("bad.msh")
    bad.write_text("no mesh at all")
    with pytest.raises(MeshError, match="meshio cannot read"):
        fem.read_mesh(bad)
    assert capfd.readouterr() == ("", "")


def test_an_unsound_file_is_named(tmp_path):
    path = tmp_path / "flat.vtu"
    meshio.write(path, meshio.Mesh(POINTS * [1, 0, 1], [("triangle", np.array([[0, 1, 4]]))]))
    with pytest.raises(MeshError, match=r"flat\.vtu.*curved or tilted|flat\.vtu: cells: cell 0"):
        fem.read_mesh(path)


@pytest.mark.parametrize("name", ["m.ply", "M.VTU", "M.Msh", "m.Vtk"])
def test_fields_are_written_where_the_format_has_a_place_for_them(tmp_path, name):
    """Of .ply that is at points only; suffixes are what they are in capitals, too."""
    mesh = fem.rectangle_mesh((2, 2))
    given = mesh.points @ torch.tensor([1.0, 10.0]).double()
    fem.write_mesh(tmp_path / name, mesh, {"u & v": given} if name != "m.ply" else {"u": given})
    form = {".msh": "gmsh"}.get((tmp_path / name).suffix.lower())
    found = meshio.read(tmp_path / name, file_format=form).point_data
    (found,) = (x for key, x in found.items() if key.startswith("u"))
    np.testing.assert_array_equal(found, given)


@pytest.mark.parametrize("suffix", [".inp", ".bdf", ".mesh"])
def test_groups_of_other_formats_become_tags(tmp_path, suffix):
    mesh = fem.box_mesh((2, 1, 1))
    inlet = mesh.facets[mesh.facet_tags["left"]].numpy()
    none = np.zeros(0, dtype=int)
    half = np.arange(mesh.n_cells // 2)
    sets = {"solid": [half, none], "inlet": [none, np.arange(len(inlet))]}
    reference = [1 + (np.arange(mesh.n_cells) >= len(half)), np.full(len(inlet), 7)]
    key = {".bdf": "nastran:ref", ".mesh": "medit:ref"}.get(suffix)
    raw = meshio.Mesh(
        mesh.points.numpy(),
        [("tetra", mesh.cells.numpy()), ("triangle", inlet)],
        cell_sets=None if key else sets,
        cell_data={key: reference} if key else None,
    )
    meshio.write(tmp_path / f"box{suffix}", raw)
    again = fem.read_mesh(tmp_path / f"box{suffix}")
    cells, facets = ("1", "7") if key else ("solid", "inlet")
    assert torch.equal(again.cell_tags[cells], torch.from_numpy(half))
    at = again.points[again.facets[again.facet_tags[facets]]]
    assert float(at[..., 0].abs().max()) < 1e-12
    assert len(at) == len(inlet)


@pytest.mark.parametrize("first", [0, 1])
def test_facets_of_two_orders_keep_their_groups(tmp_path, first):
    """Curved cells whose sides are listed as curved lines in one group and as straight ones in another."""
    mesh = fem.curved(fem.rectangle_mesh((2, 2)))
    floor, lid = (mesh.facets[mesh.facet_tags[name]].numpy() for name in ("bottom", "top"))
    middle = [int((mesh.points - mesh.points[pair].mean(0)).norm(dim=1).argmin()) for pair in floor]
    sides = [("line3", np.c_[floor, middle], 3), ("line", lid, 4)]
    blocks = [*(sides if first == 0 else sides[::-1]), ("triangle6", mesh.cells.numpy(), 0)]
    groups = {"gmsh:physical": [np.full(len(rows), group) for _, rows, group in blocks]}
    raw = meshio.Mesh(
        np.pad(mesh.points.numpy(), ((0, 0), (0, 1))),
        [block[:2] for block in blocks],
        cell_data=groups,
    )
    path = tmp_path / "curved.vtu"
    meshio.vtu.write(path, raw)
    again = fem.read_mesh(path)
    for name, tag, height in (("3", "bottom", 0.0), ("4", "top", 1.0)):
        at = again.points[again.facets[again.facet_tags[name]]]
        assert len(at) == len(mesh.facet_tags[tag])
        assert torch.equal(at[..., 1], torch.full_like(at[..., 1], height))
    index = mesh_index(path)
    assert index is not None
    share = index.read(0, 1, 1)
    for i, name in enumerate(index.facet_groups):
        rows = share.facets[members(share.facet_groups, i)]
        wanted = again.facets[again.facet_tags[name]].numpy()
        assert sorted(np.sort(rows, 1).tolist()) == sorted(np.sort(wanted, 1).tolist())


@pytest.mark.parametrize("bad", [-1, 4])
@pytest.mark.parametrize("kind", ["triangle", "line"])
def test_points_that_are_not_there_are_refused(tmp_path, bad, kind):
    """Of which the last one but none would be the last point."""
    blocks = {"triangle": [[0, 1, 2], [0, 2, 3]], "line": [[0, 1]]}
    blocks[kind][-1][-1] = bad
    path = tmp_path / "plate.vtu"
    raw = meshio.Mesh(POINTS[:4], [(name, np.array(rows)) for name, rows in blocks.items()])
    meshio.write(path, raw)
    with pytest.raises(MeshError, match=rf"has a {kind} of points .*{bad}\]; there are 4 points"):
        fem.read_mesh(path)


@pytest.mark.parametrize(
    "groups", [[1.0, np.nan], [1.5, 2.0], [1.0, np.inf], [[1, 2], [3, 4]]], ids=str
)
def test_groups_are_whole_numbers(tmp_path, groups):
    path = tmp_path / "plate.vtu"
    cells = [("triangle", np.array([[0, 1, 2], [0, 2, 3]]))]
    raw = meshio.Mesh(POINTS[:4], cells, cell_data={"gmsh:physical": [np.array(groups)]})
    meshio.write(path, raw)
    for read in (fem.read_mesh, mesh_index):
        with pytest.raises(MeshError, match="no whole number for each cell in 'gmsh:physical'"):
            read(path)


def test_groups_of_one_component(tmp_path):
    """meshio gives them a second dimension where the file says that they have one component."""
    (tmp_path / "plate.vtk").write_text(
        "# vtk DataFile Version 4.2\nplate\nASCII\nDATASET UNSTRUCTURED_GRID\nPOINTS 4 double\n"
        "0 0 0 1 0 0 1 1 0 0 1 0\nCELLS 2 8\n3 0 1 2\n3 0 2 3\nCELL_TYPES 2\n5\n5\n"
        "CELL_DATA 2\nSCALARS cell_tags int 1\nLOOKUP_TABLE default\n7 9\n"
    )
    tags = fem.read_mesh(tmp_path / "plate.vtk").cell_tags
    assert {name: index.tolist() for name, index in tags.items()} == {"7": [0], "9": [1]}


@pytest.mark.parametrize("suffix", [".msh", ".npz", ".vtu"])
def test_coordinates_are_multiplied_with_the_scale(tmp_path, suffix):
    mesh = fem.box_mesh((2, 1, 1), (80.0, 20.0, 5.0))
    fem.write_mesh(tmp_path / f"mm{suffix}", mesh)
    for scale in (1e-3, 25.4, 1e-9):
        found = fem.read_mesh(tmp_path / f"mm{suffix}", scale=scale)
        assert torch.equal(found.points, mesh.points * scale)
        assert torch.equal(found.cells, mesh.cells)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
def test_a_scale_is_positive(gmsh_file, scale):
    with pytest.raises(ArgumentError, match=f"scale: got {scale}"):
        fem.read_mesh(gmsh_file, "triangle", scale=scale)


def test_a_missing_reader_is_named(tmp_path, monkeypatch):
    (tmp_path / "m.vtu").write_text("")

    def lacking(path):
        raise ModuleNotFoundError("No module named 'h5py'", name="h5py")

    monkeypatch.setattr(meshio, "read", lacking)
    with pytest.raises(MeshError, match=r"meshio needs h5py to read \.vtu files; install it"):
        fem.read_mesh(tmp_path / "m.vtu")


@pytest.mark.parametrize(
    ("suffix", "cell", "message"),
    [
        (".stl", "tetra", "can only write triangle cells"),
        (".stl", "quad", "can only write triangle cells"),
        (".ugrid", "tetra", "files that nothing reads; use .vtu, .msh or .npz"),
        (".ugrid", "triangle", "files that nothing reads; use .vtu, .msh or .npz"),
    ],
)
def test_files_that_could_not_be_read_are_not_written(tmp_path, suffix, cell, message):
    solid = cell == "tetra"
    mesh = fem.box_mesh((1, 1, 1)) if solid else fem.rectangle_mesh((2, 2), cell=cell)
    if suffix == ".ugrid":
        meshio.write(tmp_path / "probe.ugrid", meshio.Mesh(POINTS, [("triangle", [[0, 1, 2]])]))
        if b"np.float64(" not in (tmp_path / "probe.ugrid").read_bytes():
            pytest.skip("this meshio writes numbers as they are")
        (tmp_path / "probe.ugrid").unlink()
    with pytest.raises(MeshError, match=message):
        fem.write_mesh(tmp_path / f"m{suffix}", mesh)
    assert not list(tmp_path.iterdir())


def test_a_file_on_which_the_reader_fails_is_named(tmp_path) -> None:
    triangle = [("triangle", np.array([[0, 1, 2]]))]
    points = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    whole, half = tmp_path / "whole.vtk", tmp_path / "half.vtk"
    meshio.write(whole, meshio.Mesh(points, triangle), binary=True)
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(MeshError, match=r"meshio cannot read .*half.vtk"):
        fem.read_mesh(half)
