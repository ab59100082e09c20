from __future__ import annotations

import struct

import meshio
import numpy as np
import pytest

import torch_sla.assembly as fem
from torch_sla.assembly.mesh.files import mesh_index
from torch_sla.errors import MeshError

POINTS = np.array([[0.0, 0, 0.5], [1, 0, 0.5], [1, 1, 0.5], [0, 1, 0.5]])
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
        POINTS,
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
    nodes += b"".join(pack("ddd", *x) for x in POINTS.tolist())
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
    raw = meshio.Mesh(POINTS, cells, cell_data=groups)
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
    meshio.write(path, meshio.Mesh(POINTS, cells), file_format="gmsh22")
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
