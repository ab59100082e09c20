"""Files that meshio reads as another mesh than they describe, or a part of it."""

from __future__ import annotations

import pytest

import torch_sla.assembly as fem
from torch_sla.errors import MeshError

NODES = ((1, "0 0 0"), (2, "1 0 0"), (3, "1 1 0"), (14, "0 1 0"))
CELLS = ((1, 2, 3), (1, 3, 14))


def format_2(nodes, cells, n_nodes, n_cells) -> str:
    points = "".join(f"{tag} {x}\n" for tag, x in nodes)
    rows = "".join(f"{i} 2 2 0 0 {' '.join(map(str, c))}\n" for i, c in enumerate(cells, 1))
    return (
        "$MeshFormat\n2.2 0 8\n$EndMeshFormat\n"
        f"$Nodes\n{n_nodes}\n{points}$EndNodes\n$Elements\n{n_cells}\n{rows}$EndElements\n"
    )


def format_4(nodes, cells, n_nodes, n_cells) -> str:
    """Each node and element in a block of its own, so that sections end where their blocks do."""
    points = "".join(f"2 {i} 0 1\n{tag}\n{x}\n" for i, (tag, x) in enumerate(nodes, 1))
    rows = "".join(f"2 {i} 2 1\n{i} {' '.join(map(str, c))}\n" for i, c in enumerate(cells, 1))
    return (
        "$MeshFormat\n4.1 0 8\n$EndMeshFormat\n"
        f"$Nodes\n{len(nodes)} {n_nodes} 1 14\n{points}$EndNodes\n"
        f"$Elements\n{len(cells)} {n_cells} 1 {len(cells)}\n{rows}$EndElements\n"
    )


def written(path, form, nodes=NODES, cells=CELLS, n_nodes=None, n_cells=None):
    counts = len(nodes) if n_nodes is None else n_nodes, len(cells) if n_cells is None else n_cells
    path.write_text(form(nodes, cells, *counts))
    return path


@pytest.mark.parametrize("form", [format_2, format_4])
def test_a_sound_file_is_read(tmp_path, form) -> None:
    mesh = fem.read_mesh(written(tmp_path / "m.msh", form))
    assert mesh.points.tolist() == [[0, 0], [1, 0], [1, 1], [0, 1]]
    assert mesh.cells.tolist() == [[0, 1, 2], [0, 2, 3]]


@pytest.mark.parametrize("form", [format_2, format_4])
@pytest.mark.parametrize("bad", [0, -1])
def test_elements_of_nodes_that_nothing_can_have(tmp_path, form, bad) -> None:
    """Node 0 would be the last one, and -1 the one before it, were numbers without gaps."""
    nodes = (*NODES[:3], (4, NODES[3][1]))
    path = written(tmp_path / "m.msh", form, nodes, cells=((1, 2, 3), (1, 3, bad)))
    with pytest.raises(
        MeshError, match=rf"m\.msh is no sound gmsh file: an element has node {bad}"
    ):
        fem.read_mesh(path)


@pytest.mark.parametrize("form", [format_2, format_4])
@pytest.mark.parametrize(
    ("tag", "message"), [(3, "has node 3 more than once"), (0, "has node 0; nodes are counted")]
)
def test_nodes_of_numbers_that_they_cannot_have(tmp_path, form, tag, message) -> None:
    path = written(tmp_path / "m.msh", form, nodes=(*NODES, (tag, "5 5 0")))
    with pytest.raises(MeshError, match=rf"no sound gmsh file: \$Nodes {message}"):
        fem.read_mesh(path)


@pytest.mark.parametrize(
    ("form", "counts", "message"),
    [
        (format_2, {"n_cells": 1}, r"\$Elements lists 2 elements and says that it has 1"),
        (format_4, {"n_cells": 1}, r"\$Elements lists 2 elements and says that it has 1"),
        (format_2, {"n_nodes": 4}, r"\$Nodes lists 5 nodes and says that it has 4"),
    ],
)
def test_counts_that_are_too_small(tmp_path, form, counts, message) -> None:
    path = written(tmp_path / "m.msh", form, (*NODES, (20, "5 5 0")), **counts)
    with pytest.raises(MeshError, match=f"no sound gmsh file: {message}"):
        fem.read_mesh(path)


def test_blocks_that_a_section_does_not_count(tmp_path) -> None:
    """Elements behind those that are counted would be none of the mesh."""
    path = written(tmp_path / "m.msh", format_4)
    whole = path.read_text()
    for section, blocks in (("$Nodes\n", 4), ("$Elements\n", 2)):
        text = whole.replace(f"{section}{blocks} ", f"{section}{blocks - 1} ")
        assert text != whole
        path.write_text(text.replace("1 3 14", "1 3 2"))
        with pytest.raises(MeshError, match=r"m\.msh"):
            fem.read_mesh(path)
    path.write_text(whole.replace("$EndElements", "2 3 2 1\n3 2 3 14\n$EndElements"))
    with pytest.raises(MeshError, match=r"\$Elements lists more than the 2 blocks"):
        fem.read_mesh(path)
