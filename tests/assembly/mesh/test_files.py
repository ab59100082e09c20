from __future__ import annotations

import errno
import math
import struct
import sys
from urllib.parse import unquote

import meshio
import numpy as np
import pytest
import torch

import torch_sla.assembly as fem
from torch_sla.assembly.mesh import raised
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


@pytest.mark.parametrize("binary", [False, True])
def test_a_surface_of_gmsh_is_in_all_of_its_groups(tmp_path, binary):
    """Also in those without a name, and those that turn it around: format 4.1 lists an element once, however
    many groups it is in."""
    path = tmp_path / "strip.msh"
    text: list[bytes] = [f"$MeshFormat\n4.1 {int(binary)} 8\n".encode()]

    def put(kind, *values):
        made = struct.pack(f"<{len(values)}{kind}", *values)
        text.append(made if binary else (" ".join(map(str, values)) + " ").encode())

    def section(name):
        text.append(f"\n$End{sections[-1]}\n${name}\n".encode())
        sections.append(name)

    sections = ["MeshFormat"]
    if binary:
        put("i", 1)
    section("PhysicalNames")
    text.append(b'1\n2 6 "steel"')
    section("Entities")
    surfaces, curve = {1: (5, 6), 2: (-6, -7), 3: (7,)}, (8, -9)
    put("Q", 1, 1, len(surfaces), 0)
    put("i", 11), put("d", 0.0, 0.0, 0.0), put("Q", 0)
    entities = [(1, curve), *surfaces.items()]
    for entity, groups in entities:
        put("i", entity), put("d", *[0.0] * 6), put("Q", len(groups)), put("i", *groups)
        put("Q", 2), put("i", 1, -2)
    section("Nodes")
    put("Q", 1, 8, 1, 8), put("i", 2, 1, 0), put("Q", 8), put("Q", *range(1, 9))
    for y in (0.0, 1.0):
        for x in range(4):
            put("d", float(x), y, 0.0)
    section("Elements")
    put("Q", 4, 4, 1, 4)
    put("i", 1, 1, 1), put("Q", 1), put("Q", 1, 1, 2)
    for k in surfaces:
        put("i", 2, k, 3), put("Q", 1), put("Q", 1 + k, k, k + 1, k + 5, k + 4)
    text.append(b"\n$EndElements\n")
    path.write_bytes(b"".join(text))
    mesh = fem.read_mesh(path)
    found = {name: index.tolist() for name, index in mesh.cell_tags.items()}
    assert found == {"5": [0], "steel": [0, 1], "7": [1, 2]}
    assert {n: mesh.facets[i].tolist() for n, i in mesh.facet_tags.items()} == {
        "8": [[0, 1]],
        "9": [[0, 1]],
    }


@pytest.mark.parametrize("suffix", [".msh", ".vtu"])
def test_what_a_group_turns_around_is_in_it(tmp_path, suffix):
    """As of ``Physical Curve("side") = {1, -2}``: the tag of the group has both curves."""
    path = tmp_path / f"plate{suffix}"
    groups = [np.array([1, -1, -9]), np.array([5, -5])]
    raw = meshio.Mesh(
        POINTS[:4],
        [
            ("line", np.array([[0, 1], [2, 3], [1, 2]])),
            ("triangle", np.array([[0, 1, 2], [0, 2, 3]])),
        ],
        cell_data={"gmsh:physical": groups, "gmsh:geometrical": groups},
        field_data={"side": np.array([1, 1]), "steel": np.array([5, 2])},
    )
    meshio.write(path, raw, **({"file_format": "gmsh22"} if suffix == ".msh" else {}))
    mesh = fem.read_mesh(path)
    # .vtu has no names of groups.
    side, steel = ("side", "steel") if suffix == ".msh" else ("1", "5")
    assert {k: v.tolist() for k, v in mesh.cell_tags.items()} == {steel: [0, 1]}
    assert {k: len(v) for k, v in mesh.facet_tags.items()} == {side: 2, "9": 1}
    if suffix == ".vtu":
        assert mesh_index(path).cell_groups == (steel,)


GMSH_41 = """$MeshFormat
4.1 0 8
$EndMeshFormat
$PhysicalNames
2
2 {wall} "a steel"
3 5 "a steel"
$EndPhysicalNames
$Entities
0 0 1 2
1 0 0 0 1 1 1 1 {sign}{wall} 0
1 0 0 0 1 1 1 1 5 0
2 0 0 0 1 1 1 {second} 0
$EndEntities
$Nodes
1 5 1 5
3 1 0 5
1 2 3 4 5
0 0 0 1 0 0 0 1 0 0 0 1 1 1 1
$EndNodes
$Elements
3 4 1 4
2 1 2 2
1 1 2 3
2 1 2 4
3 1 4 1
3 1 2 3 4
3 2 4 1
4 2 3 4 5
$EndElements
"""


@pytest.mark.parametrize("wall", [5, 6])
@pytest.mark.parametrize("second", ["0", "1 9"])
@pytest.mark.parametrize("sign", ["", "-"])
def test_groups_of_gmsh_in_two_dimensions_and_cells_in_none(tmp_path, wall, second, sign):
    """A body and its wall share a name; the other body is in no group, or in one without a name."""
    path = tmp_path / "bodies.msh"
    path.write_text(GMSH_41.format(wall=wall, second=second, sign=sign))
    mesh = fem.read_mesh(path)
    found = {name: index.tolist() for name, index in mesh.cell_tags.items()}
    assert found == {"a steel": [0], **({"9": [1]} if second != "0" else {})}
    assert list(mesh.facet_tags) == ["a steel"]
    sides = mesh.facets[mesh.facet_tags["a steel"]].sort(1).values.tolist()
    assert sorted(sides) == [[0, 1, 2], [0, 1, 3]]
    fem.write_mesh(tmp_path / "bodies.npz", mesh)
    assert fem.read_mesh(tmp_path / "bodies.npz").key == mesh.key


def entities(parts: bool, binary: bool) -> bytes:
    """Write a surface and a curve with their groups, or three pieces that they are cut into and one ghost."""
    found = b""

    def put(kind: str, *numbers: float) -> None:
        nonlocal found
        found += (
            struct.pack(f"<{len(numbers)}{kind}", *numbers)
            if binary
            else b"%s\n" % " ".join(map(str, numbers)).encode()
        )

    if parts:
        put("Q", 2)
        put("Q", 1)
        put("i", 40, 2)
    put("Q", 0, 1, 2 if parts else 1, 0)
    for dim, tag, part, group in (
        ((1, 3, 1, 8), (2, 5, 1, 7), (2, 6, 2, 7))
        if parts
        else (
            (1, 1, 0, 8),
            (2, 1, 0, 7),
        )
    ):
        put("i", tag)
        if parts:
            put("i", dim, 1)
            put("Q", 1)
            put("i", part)
        put("d", 0.0, 0.0, 0.0, 1.0, 1.0, 0.0)
        put("Q", 1)
        put("i", group)
        put("Q", 0)
    return found


@pytest.mark.parametrize("binary", [False, True])
def test_pieces_of_a_partitioned_gmsh_mesh_are_in_the_groups_of_the_whole(tmp_path, binary):
    def pack(kinds: str, *numbers: float) -> bytes:
        return (
            struct.pack(f"<{kinds}", *numbers)
            if binary
            else b" ".join(b"%r" % n for n in numbers) + b"\n"
        )

    tags = pack("QQQQ", 1, 2, 3, 4) if binary else b"1\n2\n3\n4\n"
    nodes = pack("4Q", 1, 4, 1, 4) + pack("iiiQ", 2, 5, 0, 4) + tags
    nodes += b"".join(pack("ddd", *x) for x in POINTS[:4].tolist())
    cells = pack("4Q", 3, 3, 1, 3) + pack("iiiQ", 1, 3, 1, 1) + pack("3Q", 1, 1, 2)
    cells += pack("iiiQ", 2, 5, 2, 1) + pack("4Q", 2, 1, 2, 3)
    cells += pack("iiiQ", 2, 6, 2, 1) + pack("4Q", 3, 1, 3, 4)
    names = b'$PhysicalNames\n2\n1 8 "wall"\n2 7 "all of it"\n$EndPhysicalNames\n'
    sections = {"Entities": entities(False, binary), "PartitionedEntities": entities(True, binary)}
    one = struct.pack("<i", 1) + b"\n" if binary else b""
    data = b"$MeshFormat\n4.1 %d 8\n%s$EndMeshFormat\n%s" % (binary, one, names)
    for name, body in {**sections, "Nodes": nodes, "Elements": cells}.items():
        data += b"$%s\n%s\n$End%s\n" % (name.encode(), body, name.encode())
    path = tmp_path / "parts.msh"
    path.write_bytes(data)
    mesh = fem.read_mesh(path)
    assert {name: index.tolist() for name, index in mesh.cell_tags.items()} == {"all of it": [0, 1]}
    (wall,) = mesh.facets[mesh.facet_tags["wall"]].tolist()
    assert sorted(wall) == [0, 1]


def test_a_gmsh_file_of_format_2_names_groups_of_each_dimension(tmp_path):
    path = tmp_path / "plate.msh"
    head = '$PhysicalNames\n2\n1 1 "steel"\n2 1 "steel"\n$EndPhysicalNames\n'
    cells = [("line", np.array([[0, 1]])), ("triangle", np.array([[0, 1, 2], [0, 2, 3]]))]
    groups = {"gmsh:physical": [np.array([1]), np.array([1, 0])]}
    groups["gmsh:geometrical"] = groups["gmsh:physical"]
    raw = meshio.Mesh(POINTS[:4], cells, cell_data=groups)
    meshio.write(path, raw, file_format="gmsh22", binary=False)
    path.write_text(path.read_text().replace("$Nodes", head + "$Nodes"))
    mesh = fem.read_mesh(path)
    assert {name: index.tolist() for name, index in mesh.cell_tags.items()} == {"steel": [0]}
    assert mesh.facets[mesh.facet_tags["steel"]].tolist() == [[0, 1]]


def test_a_gmsh_file_that_is_damaged_is_told_as_it_is(tmp_path):
    path = tmp_path / "bodies.msh"
    whole = GMSH_41.format(wall=6, second="0", sign="")
    path.write_text(whole.replace("0 0 1 2\n", "0 0 1 3\n"))
    with pytest.raises(
        MeshError, match=r"section \$Entities or .* of .* is not as format 4.1 has it"
    ):
        fem.read_mesh(path)
    path.write_text(whole[: whole.index("$Elements")])
    with pytest.raises(MeshError, match="meshio cannot read"):
        fem.read_mesh(path)


def test_a_binary_gmsh_file_whose_nodes_have_other_numbers_is_told_of(tmp_path):
    path = tmp_path / "m.msh"
    cells = [("triangle", np.array([[0, 1, 2], [0, 2, 3]]))]
    meshio.write(path, meshio.Mesh(POINTS[:4], cells), file_format="gmsh22")
    assert fem.read_mesh(path).n_cells == 2
    data, node = path.read_bytes(), struct.pack("<i3d", 4, *POINTS[3])
    assert data.count(node) == 1
    path.write_bytes(data.replace(node, struct.pack("<i3d", 7, *POINTS[3])))
    with pytest.raises(
        MeshError, match=r"nodes 1, 2, 3 \.\.\. in this order; write it in format 4\.1"
    ):
        fem.read_mesh(path)


def test_a_gmsh_file_that_ends_too_early_is_told_of(tmp_path):
    """Of rows that end too early meshio makes shorter ones."""
    mesh, path = fem.rectangle_mesh((2, 1)), tmp_path / "m.msh"
    fem.write_mesh(path, mesh)
    data = path.read_bytes()
    data = data[: data.index(b"$Elements")] + b"$Elements\n" + struct.pack("<4Q", 2, 4, 1, 4)
    for surface, rows in enumerate(mesh.cells.view(2, 2, 3) + 1):
        data += struct.pack("<iiiQ", 2, 1 + surface, 2, len(rows))
        data += b"".join(
            struct.pack("<4Q", 1 + 2 * surface + i, *row) for i, row in enumerate(rows.tolist())
        )
    path.write_bytes(data + b"\n$EndElements\n")
    assert fem.read_mesh(path).n_cells == 4
    for short in range(1, 8 * 8):
        path.write_bytes(data[:-short])
        with pytest.raises(MeshError, match=r"path: .*m\.msh"):
            fem.read_mesh(path)


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


def test_a_missing_writer_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MeshError, match=r"meshio needs h5py to write \.xdmf files; install it"):
        fem.write_mesh(tmp_path / "m.xdmf", fem.rectangle_mesh((1, 1)))


def test_a_file_on_which_the_reader_fails_is_named(tmp_path) -> None:
    triangle = [("triangle", np.array([[0, 1, 2]]))]
    points = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    whole, half = tmp_path / "whole.vtk", tmp_path / "half.vtk"
    meshio.write(whole, meshio.Mesh(points, triangle), binary=True)
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(MeshError, match=r"meshio cannot read .*half.vtk"):
        fem.read_mesh(half)


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
