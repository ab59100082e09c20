"""Windows of structured meshes, the boxes that parts are, and meshes that travel."""

from __future__ import annotations

import pickle

import pytest
import torch

from torch_sla.assembly.interpolation import locate
from torch_sla.assembly.mesh import (
    box_mesh,
    interval_mesh,
    partition_boxes,
    rectangle_mesh,
    structured_window,
)
from torch_sla.errors import ArgumentError

WHOLE = {
    "line": (interval_mesh(5, 2.0, 0.5, 3.0), ((5,), (2.0,), (0.5,), "line", (3.0,))),
    "triangle": (
        rectangle_mesh((4, 3), (2.0, 1.0), (0.0, 1.0), "triangle", (2.0, 1.0)),
        ((4, 3), (2.0, 1.0), (0.0, 1.0), "triangle", (2.0, 1.0)),
    ),
    "tetra": (box_mesh((3, 2, 4)), ((3, 2, 4), (1.0,) * 3, (0.0,) * 3, "tetra", (1.0,) * 3)),
}


@pytest.mark.parametrize("cell", WHOLE)
def test_a_window_is_a_piece_of_the_whole(cell: str) -> None:
    whole, shape = WHOLE[cell]
    window = [(1, count) for count in shape[0]]
    piece = structured_window(*shape, window)
    assert torch.equal(piece.mesh.points, whole.points[piece.points])
    assert torch.equal(piece.points[piece.mesh.cells], whole.cells[piece.cells])
    facets = {tuple(sorted(row)) for row in piece.points[piece.mesh.facets].tolist()}
    assert facets < {tuple(sorted(row)) for row in whole.facets.tolist()}
    for name, index in piece.mesh.facet_tags.items():
        tagged = {tuple(sorted(row)) for row in whole.facets[whole.facet_tags[name]].tolist()}
        own = piece.points[piece.mesh.facets[index]].tolist()
        assert {tuple(sorted(row)) for row in own} <= tagged
    assert not len(piece.mesh.facet_tags["left"])


def test_windows_lie_in_the_whole() -> None:
    with pytest.raises(ArgumentError, match="window"):
        structured_window((4,), (1.0,), (0.0,), "line", (1.0,), [(2, 5)])


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 40])
def test_boxes_fill_the_whole(parts: int) -> None:
    cells = (5, 4)
    count = torch.zeros(cells)
    sizes = []
    for (a, b), (c, d) in partition_boxes(cells, parts):
        count[a:b, c:d] += 1
        sizes.append((b - a) * (d - c))
    assert bool((count == 1).all())
    assert len(sizes) == parts
    assert max(sizes) <= 2 * 20 / parts + 2


def test_meshes_travel() -> None:
    mesh = rectangle_mesh((3, 2)).tag_cells("some", torch.tensor([1, 2]))
    other = pickle.loads(pickle.dumps(mesh))
    assert other.key == mesh.key
    assert other.cell_tags["some"].tolist() == [1, 2]


def test_points_outside_may_be_marked() -> None:
    mesh = rectangle_mesh((2, 2), cell="quad")
    at = torch.tensor([[0.2, 0.2], [3.0, 0.1], [0.9, 0.8]], dtype=torch.float64)
    cells, X = locate(mesh, at, strict=False)
    assert cells.tolist() == [0, -1, 3]
    assert X.shape == (3, 2)
