"""Refinement, extrusion, curving, parts: volumes, tags and conformity are kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import torch_sla.assembly as fem
from torch_sla.errors import MeshError

CELLS = ["line", "triangle", "quad", "tetra", "hexahedron"]


def sound(mesh):
    """Build it again with every check; return its volume."""
    again = fem.make_mesh(mesh.points, mesh.cells, mesh.cell, orientation="refuse")
    assert again.n_facets == len(mesh.boundary)
    return float(fem.CellBasis(mesh, mesh.geometry, 4).dx.sum())


def measure(mesh, tag):
    return float(fem.FacetBasis(mesh, mesh.geometry, mesh.facet_tags[tag], 4).dx.sum())


def same_tags(coarse, fine):
    for tag in coarse.facet_tags:
        assert measure(fine, tag) == pytest.approx(measure(coarse, tag), rel=1e-12)
    volume = fem.CellBasis(fine, fine.geometry, 4).dx.sum(1)
    before = fem.CellBasis(coarse, coarse.geometry, 4).dx.sum(1)
    for tag, index in coarse.cell_tags.items():
        assert float(volume[fine.cell_tags[tag]].sum()) == pytest.approx(float(before[index].sum()))


def tagged(mesh):
    mesh = mesh.tag_cells("some", lambda x: x[..., 0] < 0.6)
    if mesh.dim == 1:
        return mesh
    inner = mesh.facets[: mesh.dim]
    tags = {name: mesh.facets[i] for name, i in mesh.facet_tags.items()}
    cells = mesh.vertices[mesh.n_cells // 2]
    inside = cells[list(mesh.reference.facets[0])]
    return fem.make_mesh(
        mesh.points,
        mesh.cells,
        mesh.cell,
        cell_tags=dict(mesh.cell_tags),
        facet_tags={**tags, "corner": inner, "one": inside[None]},
    )


@pytest.mark.parametrize("cell", CELLS)
def test_uniform_refinement(tools, cell):
    mesh = tagged(tools.distorted(cell, 2))
    fine = fem.refine(mesh)
    assert fine.n_cells == mesh.n_cells * 2**mesh.dim
    if cell != "hexahedron":  # faces of distorted hexahedra are not flat
        assert sound(fine) == pytest.approx(1.0, rel=1e-12)
    same_tags(mesh, fine)


@pytest.mark.parametrize("cell", ["line", "triangle", "tetra"])
def test_marked_refinement_is_local_and_conforming(tools, cell, generator):
    mesh = tagged(tools.distorted(cell, 2))
    fine = mesh
    for _ in range(6):
        centre = fine.centroids
        nearest = (centre - 0.3).norm(dim=1).argsort()[:3]
        fine = fem.refine(fine, nearest)
        assert sound(fine) == pytest.approx(1.0, rel=1e-12)
    same_tags(mesh, fine)
    volume = fem.CellBasis(fine, fine.geometry, 2).dx.sum(1)
    assert volume.min() < 0.2 * volume.max()
    everything = fem.refine(mesh, torch.ones(mesh.n_cells, dtype=torch.bool))
    assert everything.n_cells >= 2 * mesh.n_cells


@pytest.mark.parametrize("cell", ["triangle", "tetra"])
def test_shapes_stay_good(tools, cell):
    """The smallest ratio of volume to cubed diameter does not go on falling."""
    mesh = tools.structured(cell, 1)

    def worst(mesh):
        x = mesh.points[mesh.cells]
        size = torch.cdist(x, x).amax((1, 2)) ** mesh.dim
        return float((fem.CellBasis(mesh, mesh.geometry, 1).dx.sum(1) / size).min())

    start = worst(mesh)
    local, uniform = mesh, mesh
    for i in range(12 if cell == "triangle" else 8):
        near = local.points[local.cells].norm(dim=-1).amin(1) < 1e-9
        local = fem.refine(local, near)
        if i < 3:
            uniform = fem.refine(uniform)
    assert worst(local) > 0.2 * start
    assert worst(uniform) > 0.2 * start


@pytest.mark.parametrize("cell", ["triangle", "quad"])
def test_curved_cells_stay_on_their_curves(cell):
    mesh = fem.disk_mesh(2, cell=cell, curve=True)
    fine = fem.refine(mesh)
    assert sound(fine) == pytest.approx(sound(mesh), rel=1e-12)
    assert measure(fine, "rim") == pytest.approx(measure(mesh, "rim"), rel=1e-4)
    with pytest.raises(MeshError, match="straight simplices"):
        fem.refine(mesh, torch.tensor([0]))


def test_curved_solids(tools):
    """A box bent into a shell of a quarter cylinder, with faces on the cylinders."""
    for cell in ("hexahedron", "tetra"):
        box = fem.box_mesh((1, 3, 1), (0.5, np.pi / 2, 1.0), (0.5, 0.0, 0.0), cell)
        r, a, z = box.points.unbind(1)
        points = torch.stack([r * torch.cos(a), r * torch.sin(a), z], 1)
        tags = {name: box.facets[i] for name, i in box.facet_tags.items()}
        bent = fem.make_mesh(points, box.cells, cell, facet_tags=tags)

        shell = fem.curved(bent, {"left": tools.onto(0.5), "right": tools.onto(1.0)})
        assert sound(shell) == pytest.approx(np.pi / 4 * 0.75, rel=2e-3)
        assert sound(fem.refine(shell)) == pytest.approx(sound(shell), rel=1e-12)
    with pytest.raises(MeshError, match="folds over itself"):
        fem.curved(bent, {"left": lambda x: x + 5.0})


@pytest.mark.parametrize(
    ("cell", "into"), [("triangle", None), ("quad", None), ("line", None), ("line", "triangle")]
)
def test_extrusion(tools, cell, into):
    mesh = tagged(tools.distorted(cell, 2))
    solid = fem.extrude(mesh, [0.0, 0.5, 2.0], below="floor", above="lid", cell=into)
    assert sound(solid) == pytest.approx(2.0, rel=1e-12)
    assert measure(solid, "lid") == pytest.approx(1.0, rel=1e-12)
    for tag in mesh.facet_tags:
        assert measure(solid, tag) == pytest.approx(2 * measure(mesh, tag), rel=1e-12)
    some = fem.CellBasis(solid, solid.geometry).dx.sum(1)[solid.cell_tags["some"]].sum()
    before = fem.CellBasis(mesh, mesh.geometry).dx.sum(1)[mesh.cell_tags["some"]].sum()
    assert float(some) == pytest.approx(2 * float(before), rel=1e-12)
    with pytest.raises(MeshError, match="ascending"):
        fem.extrude(mesh, [0.0, 0.0])
    with pytest.raises(MeshError, match="taken"):
        fem.extrude(mesh, [0.0, 1.0], above="left")
    with pytest.raises(MeshError, match="cannot be extruded"):
        fem.extrude(fem.box_mesh(), [0.0, 1.0])


@pytest.mark.parametrize("cell", ["triangle", "quad"])
def test_round_shapes(cell):
    for curve, tolerance in ((False, 2e-2), (True, 1e-4)):
        disk = fem.disk_mesh(6, 2.0, (1.0, -1.0), cell, curve=curve)
        assert sound(disk) == pytest.approx(4 * np.pi, rel=tolerance)
        assert measure(disk, "rim") == pytest.approx(4 * np.pi, rel=tolerance)
        ring = fem.annulus_mesh((2, 24), 1.0, 3.0, (1.0, 0.0), cell, curve=curve)
        assert sound(ring) == pytest.approx(8 * np.pi, rel=tolerance)
        assert measure(ring, "inner") == pytest.approx(2 * np.pi, rel=tolerance)
        assert measure(ring, "outer") == pytest.approx(6 * np.pi, rel=tolerance)
    corner = fem.lshape_mesh(3, 2.0, (1.0, 1.0), cell)
    assert sound(corner) == pytest.approx(12.0)
    assert measure(corner, "notch") == pytest.approx(4.0)
    assert measure(corner, "right") == pytest.approx(2.0)
    assert sum(measure(corner, tag) for tag in corner.facet_tags) == pytest.approx(16.0)
    with pytest.raises(MeshError, match="at least 3 divisions"):
        fem.annulus_mesh((1, 2))
    with pytest.raises(MeshError, match="inner radius lies between"):
        fem.annulus_mesh((1, 8), 1.0, 1.0)


@pytest.mark.parametrize("cell", CELLS)
def test_grading(cell):
    make = {1: fem.interval_mesh, 2: fem.rectangle_mesh, 3: fem.box_mesh}
    dim = {"line": 1, "triangle": 2, "quad": 2}.get(cell, 3)
    if dim == 1:
        mesh = fem.interval_mesh(4, 2.0, 1.0, grading=8.0)
    else:
        mesh = make[dim]((4,) * dim, (2.0,) * dim, (1.0,) * dim, cell, (8.0,) * dim)
    x = mesh.points[:, 0].unique()
    assert float((x[-1] - x[-2]) / (x[1] - x[0])) == pytest.approx(8.0)
    assert sound(mesh) == pytest.approx(2.0**dim)


def test_parts_keep_tags():
    mesh = fem.rectangle_mesh((4, 2)).tag_cells("low", lambda x: x[..., 1] < 0.5)
    part = fem.submesh(mesh, mesh.centroids[:, 0] < 0.5, cut="cut")
    assert sound(part.mesh) == pytest.approx(0.5)
    assert torch.equal(mesh.points[part.points], part.mesh.points)
    torch.testing.assert_close(mesh.centroids[part.cells], part.mesh.centroids)
    assert sorted(part.mesh.facet_tags) == ["bottom", "cut", "left", "top"]
    assert measure(part.mesh, "cut") == pytest.approx(1.0)
    assert len(part.mesh.cell_tags["low"]) == 4
    with pytest.raises(MeshError, match="numbered from 0 to 15"):
        fem.submesh(mesh, torch.tensor([16]))
    with pytest.raises(MeshError, match="mask has shape"):
        fem.submesh(mesh, torch.ones(3, dtype=torch.bool))
    with pytest.raises(MeshError, match="none is chosen"):
        fem.submesh(mesh, torch.zeros(mesh.n_cells, dtype=torch.bool))
