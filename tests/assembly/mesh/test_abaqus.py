"""Files of Abaqus against what their format says of nodes, elements and sets."""

from __future__ import annotations

import pytest

import torch_sla.assembly as fem
from torch_sla.errors import MeshError

NODES = """*Node
1, 0., 0., 0.
2, 1., 0., 0.
3, 0., 1., 0.
4, 0., 0., 1.
"""
MORE = """*NODE, NSET=far
15, 1., 1., 1.
16, 2., 2., 2.
"""
SKIN = "*Element, type=S3\n50, 1, 3, 2\n"
FIRST = "*ELEMENT, TYPE=C3D4, ELSET=Solid\n11, 1, 2, 3, 4\n"
SECOND = "*Element,\n type=C3D4, elset=SOLID\n7, 2, 3, 4,\n 15\n** between\n9, 2, 3, 15, 16\n"


def read(tmp_path, text: str):
    path = tmp_path / "part.inp"
    path.write_text(text)
    return fem.read_mesh(path)


def tags(mesh) -> dict[str, list[int]]:
    return {name: index.tolist() for name, index in mesh.cell_tags.items()}


def test_nodes_of_several_sections(tmp_path):
    """Also after the elements of the first; each keeps its number."""
    mesh = read(tmp_path, NODES + FIRST + MORE + SECOND)
    assert mesh.points.tolist() == [
        [0, 0, 0],
        [1, 0, 0],
        [0, 1, 0],
        [0, 0, 1],
        [1, 1, 1],
        [2, 2, 2],
    ]
    volumes = fem.CellBasis(mesh, mesh.geometry).dx.sum(1).tolist()
    # Determinants of the edges, by hand.
    assert volumes == pytest.approx([1 / 6, 1 / 3, 1 / 6])


def test_a_set_that_several_sections_name(tmp_path):
    """Beside a section that names none."""
    mesh = read(tmp_path, NODES + MORE + SKIN + FIRST + SECOND)
    assert tags(mesh) == {"Solid": [0, 1, 2]}
    assert not mesh.facet_tags


def test_sets_of_numbers_ranges_and_sets(tmp_path):
    sets = (
        "*Elset, elset=late\n 9, 11\n*ELSET, ELSET=odd, GENERATE\n7, 11, 4\n50, 50\n"
        "*ELSET, ELSET=both\nodd, late\n9\n*Elset, elset=skin\n50\n"
    )
    # A set may stand before its elements.
    mesh = read(tmp_path, NODES + MORE + sets + SKIN + FIRST + SECOND)
    assert tags(mesh) == {"Solid": [0, 1, 2], "late": [0, 2], "odd": [0, 1], "both": [0, 1, 2]}
    for name in ("skin", "odd", "both"):
        found = mesh.facets[mesh.facet_tags[name]].sort(1).values.tolist()
        assert found == [[0, 1, 2]]


def test_a_comma_too_many(tmp_path):
    text = NODES.replace("*Node", "*Node,") + FIRST.replace("Solid", "Solid,")
    mesh = read(tmp_path, text + "*ELSET, ELSET=a,\n11\n*ELSET, ELSET=none,\n")
    assert tags(mesh) == {"a": [0], "Solid": [0]}


def test_an_included_file(tmp_path):
    (tmp_path / "nodes.inp").write_text(NODES)
    mesh = read(tmp_path, "*INCLUDE, INPUT=nodes.inp\n" + FIRST + "*ELSET, ELSET=a\n11\n")
    assert tags(mesh) == {"a": [0], "Solid": [0]}
    # Lines of data alone belong to the section that includes them, which goes on behind it.
    first, *others = NODES.splitlines(keepends=True)
    (tmp_path / "data.inp").write_text("".join(others[1:]))
    text = f"{first}{others[0]}*INCLUDE, INPUT=data.inp\n15, 1., 1., 1.\n16, 2., 2., 2.\n"
    assert read(tmp_path, text + FIRST + SECOND).n_points == 6
    (tmp_path / "data.inp").write_text("7\n")
    text = NODES + MORE + FIRST + SECOND + "*ELSET, ELSET=a\n11\n*INCLUDE, INPUT=data.inp\n9\n"
    assert tags(read(tmp_path, text))["a"] == [0, 1, 2]
    with pytest.raises(MeshError, match=r"includes 'gone.inp', and there is no file"):
        read(tmp_path, "*INCLUDE, INPUT=gone.inp\n")
    with pytest.raises(MeshError, match="may include itself"):
        read(tmp_path, "*INCLUDE, INPUT=part.inp\n")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (NODES + FIRST + NODES, "has two nodes 1; parts count their nodes anew"),
        (NODES + FIRST + FIRST, "has two elements 11"),
        (NODES.replace("Node", "Node, system=C"), "coordinates SYSTEM=C"),
        ("*SYSTEM\n1., 0., 0.\n" + NODES, r"moves what it lists \(\*SYSTEM"),
        (NODES + FIRST + "*Instance, name=a, part=p\n1., 0., 0.\n", r"moves what .*\*INSTANCE"),
        (
            "*Instance, part=p\n*End instance\n*Instance, part=P\n",
            "several instances of the part P",
        ),
        (NODES + "*NGEN\n1, 4, 1\n", r"by \*NGEN"),
        ("*NODE, INPUT=far.txt\n", r"has \*NODE in another file \(far.txt\)"),
        (NODES + FIRST + "*ELSET, ELSET=a\n12\n", "the set a of .* names element 12, which"),
        (NODES + FIRST + "*ELSET, ELSET=a\nb\n", "the set a of .* names the set B, which"),
        (NODES + FIRST + "*ELSET, ELSET=a, GENERATE\n1\n", "names the range '1'"),
        (NODES + "*ELEMENT\n1, 1, 2, 3, 4\n", "without TYPE="),
        (NODES + "*ELEMENT, TYPE=C3D8Q\n1, 1\n", "Element type not available: C3D8Q"),
        (NODES + "*ELEMENT, TYPE=C3D4\n1, 1, 2, 3, 99\n", "meshio cannot read"),
    ],
)
def test_what_is_not_read_is_refused(tmp_path, text, says):
    with pytest.raises(MeshError, match=says):
        read(tmp_path, text)
