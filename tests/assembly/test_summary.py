from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from torch_sla.assembly import (
    box_mesh,
    disk_mesh,
    interval_mesh,
    make_mesh,
    mesh_summary,
    rectangle_mesh,
    shape_quality,
)

REGULAR = {
    "triangle": [[0.0, 0.0], [1.0, 0.0], [0.5, math.sqrt(0.75)]],
    "tetra": [
        [0.0, 0.0, 0.0],
        [1.0, 0.0, 0.0],
        [0.5, math.sqrt(0.75), 0.0],
        [0.5, math.sqrt(1 / 12), math.sqrt(2 / 3)],
    ],
}


@pytest.mark.parametrize("cell", REGULAR)
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_a_regular_simplex_has_quality_one_at_any_size(cell: str, size: float) -> None:
    points = np.array(REGULAR[cell])
    for turn in range(len(points)):
        corners = np.roll(np.arange(len(points)), turn)[None]
        mesh = make_mesh(size * points, corners, cell)
        assert shape_quality(mesh).tolist() == pytest.approx([1.0], abs=1e-12)


@pytest.mark.parametrize("cell", ["quad", "hexahedron"])
@pytest.mark.parametrize("stretch", [1.0, 2.0, 10.0])
def test_stretched_boxes_have_the_mean_ratio_of_their_edges(cell: str, stretch: float) -> None:
    if cell == "quad":
        mesh, expected = (
            rectangle_mesh((1, 1), (stretch, 1.0), cell=cell),
            2 * stretch / (stretch**2 + 1),
        )
    else:
        mesh = box_mesh((1, 1, 1), (stretch, 1.0, 1.0), cell=cell)
        expected = 3 * stretch ** (2 / 3) / (stretch**2 + 2)
    assert shape_quality(mesh).tolist() == pytest.approx([expected], rel=1e-12)


def test_a_flat_triangle_is_found() -> None:
    points = np.array([[0.0, 0], [1, 0], [0, 1], [1.0, 1.0], [2.0, 1e-3]])
    mesh = make_mesh(points, np.array([[0, 1, 2], [1, 3, 2], [1, 4, 3]]), "triangle")
    flat = make_mesh(
        np.array([[0.0, 0], [1, 0], [0.5, 1e-3], [0.5, 1.0]]),
        np.array([[0, 1, 2], [0, 2, 3]]),
        "triangle",
    )
    assert mesh_summary(flat).worst == 0
    # Edges a, b, c: the mean ratio of a triangle is 4 sqrt(3) area / (a^2 + b^2 + c^2).
    for cell, quality in zip(mesh.cells.tolist(), shape_quality(mesh).tolist(), strict=True):
        a, b, c = (mesh.points[k] for k in cell)
        edges = sum(float((p - q).square().sum()) for p, q in ((a, b), (b, c), (c, a)))
        u, v = b - a, c - a
        area = 0.5 * abs(float(u[0] * v[1] - u[1] * v[0]))
        assert quality == pytest.approx(4 * math.sqrt(3) * area / edges, rel=1e-12)


def test_sizes_of_cells_tags_and_bodies() -> None:
    mesh = rectangle_mesh((4, 2), (2.0, 1.0)).tag_cells("left half", lambda x: x[..., 0] < 1.0)
    found = mesh_summary(mesh)
    assert (found.n_cells, found.n_points, found.n_bodies, found.dim) == (16, 15, 1, 2)
    assert (found.low, found.high) == ((0.0, 0.0), (2.0, 1.0))
    assert found.measure == pytest.approx(2.0, rel=1e-14)
    assert found.smallest == found.largest == pytest.approx(0.125, rel=1e-14)
    assert (found.boundary.count, found.boundary.measure) == (12, pytest.approx(6.0))
    half = found.cell_tags["left half"]
    assert (half.count, half.measure) == (8, pytest.approx(1.0))
    assert {n: t.measure for n, t in found.facet_tags.items()} == pytest.approx(
        {"left": 1.0, "right": 1.0, "bottom": 2.0, "top": 2.0}
    )
    two = torch.cat([mesh.points, mesh.points + torch.tensor([3.0, 0.0])])
    apart = make_mesh(two, torch.cat([mesh.cells, mesh.cells + mesh.n_points]), "triangle")
    assert mesh_summary(apart).n_bodies == 2


def test_curved_cells_and_intervals() -> None:
    curved = mesh_summary(disk_mesh(8, radius=1.0, curve=True))
    assert curved.measure == pytest.approx(math.pi, rel=1e-4)
    assert curved.boundary.measure == pytest.approx(2 * math.pi, rel=1e-4)
    assert curved.n_bodies == 1
    line = mesh_summary(interval_mesh(5, 2.0))
    assert (line.measure, line.quality, line.boundary.count) == (pytest.approx(2.0), 1.0, 2)
