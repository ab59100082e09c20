from __future__ import annotations

import numpy as np
import pytest
import torch

import torch_sla.assembly as fem
from torch_sla.errors import ArgumentError, MeshError

SQUARE = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
HALVES = np.array([[0, 1, 2], [0, 2, 3]])


def test_shapes_have_their_tags_and_outward_facets(tools):
    tags = {
        "line": "left right",
        "triangle": "left right bottom top",
        "quad": "left right bottom top",
        "tetra": "left right front back bottom top",
        "hexahedron": "left right front back bottom top",
    }
    for cell in tools.cells:
        mesh = tools.structured(cell, 3)
        assert " ".join(mesh.facet_tags) == tags[cell]
        for d, (low, high) in enumerate(zip(*[iter(mesh.facet_tags)] * 2, strict=True)):
            for name, side in ((low, 0.0), (high, 1.0)):
                index = mesh.facet_tags[name]
                assert (mesh.points[mesh.facets[index]][..., d] == side).all()
                basis = fem.FacetBasis(mesh, mesh.geometry, index)
                expected = torch.zeros(mesh.dim, dtype=torch.float64)
                expected[d] = 2 * side - 1
                torch.testing.assert_close(basis.normal, expected.expand_as(basis.normal))
                assert float(basis.dx.sum()) == pytest.approx(1.0, rel=1e-14)
        assert sorted(torch.cat(list(mesh.facet_tags.values())).tolist()) == mesh.boundary.tolist()


def test_facets_belong_to_their_owner(tools):
    for cell in tools.cells:
        mesh = tools.distorted(cell, 2)
        local = torch.tensor(mesh.reference.facets)[mesh.facet_sides]
        assert torch.equal(mesh.vertices[mesh.facet_cells].gather(1, local), mesh.facets)


def test_origin_and_size():
    mesh = fem.box_mesh((2, 3, 4), (1.0, 2.0, 3.0), (5.0, 6.0, 7.0), cell="hexahedron")
    assert mesh.points.amin(0).tolist() == [5.0, 6.0, 7.0]
    assert mesh.points.amax(0).tolist() == [6.0, 8.0, 10.0]
    assert mesh.n_cells == 24


@pytest.mark.parametrize("cell", ["line", "triangle", "quad", "tetra", "hexahedron"])
def test_negative_cells_are_mirrored_or_refused(tools, cell):
    mesh = tools.distorted(cell, 2)
    flipped = mesh.cells.clone()
    mirror = {
        "line": [1, 0],
        "triangle": [0, 2, 1],
        "quad": [0, 3, 2, 1],
        "tetra": [0, 2, 1, 3],
        "hexahedron": [0, 3, 2, 1, 4, 7, 6, 5],
    }[cell]
    flipped[1] = flipped[1, mirror]
    fixed = fem.make_mesh(mesh.points, flipped, cell)
    volume = fem.CellBasis(fixed, fixed.geometry).dx.sum()
    assert float(volume) == pytest.approx(1.0, rel=1e-13)
    with pytest.raises(MeshError, match=r"cell 1 .* is oriented negatively.*orientation='fix'"):
        fem.make_mesh(mesh.points, flipped, cell, orientation="refuse")


@pytest.mark.parametrize(
    ("points", "cells", "message"),
    [
        (np.array([[0.0, 0], [np.nan, 0], [0, 1]]), [[0, 1, 2]], "point 1 is .*nan.*finite"),
        (np.array([[0.0, 0], [1, 0], [2, 0]]), [[0, 1, 2]], "cell 0 .* has zero volume"),
        (SQUARE, [[0, 1, 2], [0, 2, 4]], "cell 1 refers to points .*there are 4 points"),
        (SQUARE, [[0, 1, 2], [0, -1, 3]], "cell 1 refers to points"),
        (SQUARE, [[0, 1, 2]], "no cell uses point 3; remove isolated points"),
        (SQUARE, [[0, 1, 2], [0, 2, 2], [0, 2, 3]], "cell 1 uses a point twice"),
        (
            np.vstack([SQUARE, SQUARE[1]]),
            [[0, 1, 2], [0, 2, 3], [0, 4, 2]],
            "points 1 and 4 are both",
        ),
        (SQUARE, [[0, 1, 2], [0, 2, 3], [2, 1, 0]], r"cells \[0, 1, 2\] share the facet"),
        (SQUARE[:, :1], [[0, 1, 2]], "triangle cells live in 2D, the points have 1"),
        (SQUARE, np.zeros((0, 3), int), "there are none"),
        (SQUARE, [[0, 1]], r"need \[n_cells, 3\]"),
        (SQUARE, [[0.0, 1.0, 2.0]], "indices are integers"),
        (np.zeros((3, 4)), [[0, 1, 2]], "expected .n_points, dim."),
    ],
)
def test_unsound_triangles_are_refused(points, cells, message):
    with pytest.raises(MeshError, match=message):
        fem.make_mesh(points, np.array(cells), "triangle")


def test_folded_quad_is_refused():
    with pytest.raises(MeshError, match=r"cell 0 .* folds over itself"):
        fem.make_mesh(SQUARE, np.array([[0, 1, 3, 2]]), "quad")
    with pytest.raises(MeshError, match="got 'prism'; cell types are line"):
        fem.make_mesh(SQUARE, np.array([[0, 1, 2, 3]]), "prism")


def test_a_crack_is_allowed_on_request():
    points = np.vstack([SQUARE, SQUARE[[0, 2]]])
    cells = np.array([[0, 1, 2], [4, 5, 3]])
    mesh = fem.make_mesh(points, cells, "triangle", duplicate_nodes="allow")
    assert len(mesh.boundary) == 6
    with pytest.raises(ArgumentError, match="duplicate_nodes: got 'merge'"):
        fem.make_mesh(points, cells, "triangle", duplicate_nodes="merge")


def test_interior_facets_can_be_tagged():
    mesh = fem.make_mesh(
        SQUARE,
        HALVES,
        "triangle",
        facet_tags={"diagonal": np.array([[2, 0]]), "bottom": np.array([[1, 0]])},
        cell_tags={"lower": np.array([True, False])},
    )
    (diagonal,) = mesh.facet_tags["diagonal"].tolist()
    assert mesh.n_facets == 5
    assert mesh.facet_neighbours[diagonal] == 1
    assert diagonal not in mesh.boundary.tolist()
    assert mesh.cell_tags["lower"].tolist() == [0]
    with pytest.raises(MeshError, match=r"'cut' names the facet \[1, 3\], which no cell has"):
        fem.make_mesh(SQUARE, HALVES, "triangle", facet_tags={"cut": np.array([[1, 3]])})
    with pytest.raises(MeshError, match="'cut' is empty"):
        fem.make_mesh(SQUARE, HALVES, "triangle", facet_tags={"cut": np.zeros((0, 2), int)})
    with pytest.raises(MeshError, match="have 2 vertices"):
        fem.make_mesh(SQUARE, HALVES, "triangle", facet_tags={"cut": np.array([[0, 1, 2]])})


def test_tagging_by_predicate_mask_and_index():
    mesh = fem.rectangle_mesh((4, 4))
    mesh = mesh.tag_cells("west", lambda x: x[..., 0] < 0.5).tag_cells("first", torch.tensor([0]))
    assert len(mesh.cell_tags["west"]) == 16
    assert mesh.select_cells(["west", "first"]).tolist() == mesh.cell_tags["west"].tolist()
    with pytest.raises(MeshError, match="nothing is selected for tag 'none'"):
        mesh.tag_facets("none", lambda x: x[..., 0] > 2)
    with pytest.raises(MeshError, match="there are 16 facets"):
        mesh.tag_facets("far", torch.tensor([99]))
    with pytest.raises(
        MeshError, match="no facet tag 'inlet'; facet tags: left, right, bottom, top"
    ):
        mesh.select_facets("inlet")
    with pytest.raises(MeshError, match="shape"):
        mesh.tag_cells("bad", torch.ones(3, dtype=torch.bool))


def test_keys_follow_content():
    mesh, same = fem.rectangle_mesh((3, 2)), fem.rectangle_mesh((3, 2))
    moved = fem.rectangle_mesh((3, 2), size=(2.0, 1.0))
    assert mesh.topology_key == same.topology_key == moved.topology_key
    assert mesh.key == same.key != moved.key
    assert mesh.topology_key != mesh.tag_cells("a", torch.tensor([0])).topology_key


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cells": (0, 1)}, "divisions are whole numbers"),
        ({"cells": (2,)}, "needs 2 numbers"),
        ({"size": (1.0, -1.0)}, "lengths are positive"),
        ({"origin": (0.0, float("nan"))}, "coordinates are finite"),
        ({"cell": "tetra"}, "got 'tetra'"),
    ],
)
def test_bad_shapes_are_refused(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        fem.rectangle_mesh(**arguments)


@pytest.mark.parametrize("where", [[0.0, 1.0], [0.5], [1, 1], [0, 1, 1]])
def test_tags_are_whole_different_indices_or_masks(where: list[float]) -> None:
    points = np.array([[0.0, 0], [1, 0], [0, 1], [1, 1]])
    cells = np.array([[0, 1, 2], [1, 3, 2]])
    with pytest.raises(MeshError, match="mask of true and false"):
        fem.make_mesh(points, cells, "triangle", cell_tags={"a": np.array(where)})


def test_facets_are_named_by_whole_numbers() -> None:
    points = np.array([[0.0, 0], [1, 0], [0, 1]])
    with pytest.raises(MeshError, match="integers"):
        fem.make_mesh(
            points, np.array([[0, 1, 2]]), "triangle", facet_tags={"a": np.array([[0.3, 1.7]])}
        )
