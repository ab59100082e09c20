from __future__ import annotations

import pytest
import torch

from torch_sla.assembly.mesh import annulus_mesh, box_mesh, interval_mesh, rectangle_mesh
from torch_sla.errors import ArgumentError
from torch_sla.linalg import cache_counters
from torch_sla.problems.design.transforms import BoundaryMotion, Chain, Place

RING = annulus_mesh((4, 24), 1.0, 2.0, cell="quad")


def place(mesh):
    return Place("nodes", mesh, (mesh.dim,))


def test_a_ring_grows_by_what_its_inner_edge_moves():
    stage = BoundaryMotion("inner").prepare(place(RING))
    r = RING.points.norm(dim=1)
    moved = stage(torch.full((24,), 0.2, dtype=torch.float64)).norm(dim=1)
    # Outward of the body is towards the centre.
    assert torch.allclose(moved[(r - 1).abs() < 1e-9], torch.tensor(0.8).double())
    assert torch.allclose(moved[(r - 2).abs() < 1e-9], torch.tensor(2.0).double())
    rings = moved.reshape(-1)[r.argsort()].reshape(5, 24)
    assert rings.std(1).max() < 1e-6
    assert (rings.mean(1).diff() > 0.1).all()


@pytest.mark.parametrize(
    ("mesh", "on"),
    [
        (RING, "inner"),
        (annulus_mesh((2, 12), 1.0, 2.0, curve=True), "inner"),
        (rectangle_mesh((4, 3)), "top"),
        (box_mesh((2, 2, 3)), "top"),
    ],
    ids=["quads", "curved", "triangles", "tetrahedra"],
)
@pytest.mark.parametrize("radius", [0.0, 0.9])
def test_points_are_linear_in_the_motion_and_begin_where_they_are(mesh, on, radius):
    chain = Chain([BoundaryMotion(on, radius=radius)], place(mesh))
    x = chain.start(mesh.points)
    assert torch.allclose(chain(x), mesh.points, atol=1e-14)
    generator = torch.Generator().manual_seed(2)
    d = 0.1 * torch.randn(x.shape, generator=generator, dtype=torch.float64)
    moved = chain(d)
    assert torch.allclose(chain(2 * d) - moved, moved - mesh.points, atol=1e-13)
    still = mesh.boundary[~torch.isin(mesh.boundary, mesh.select_facets(on))]
    only = torch.tensor(sorted(set(mesh.facets[still].flatten().tolist())))
    on_it = mesh.facets[mesh.select_facets(on)].unique()
    held = only[~torch.isin(only, on_it)]
    assert torch.equal(moved[held], mesh.points[held])
    w = torch.randn(mesh.points.shape, generator=generator, dtype=torch.float64)
    x.requires_grad_()
    (g,) = torch.autograd.grad((w * chain(x)).sum(), x)
    assert torch.allclose((g * d).sum(), (w * (moved - mesh.points)).sum())


def test_a_flat_edge_moves_along_its_normal():
    mesh = rectangle_mesh((4, 3))
    top = (mesh.points[:, 1] - 1).abs() < 1e-9
    moved = BoundaryMotion("top").prepare(place(mesh))(torch.full((5,), 0.1, dtype=torch.float64))
    inside = top & (mesh.points[:, 0] > 0.1) & (mesh.points[:, 0] < 0.9)
    expected = torch.tensor([0.0, 0.1], dtype=torch.float64)
    assert torch.allclose(moved[inside] - mesh.points[inside], expected)


def test_small_cells_are_stiffer():
    """On a line, weights 1/h over h: each cell takes a share h² of the motion."""
    mesh = interval_mesh(5, grading=8.0)
    x, order = mesh.points[:, 0].sort()
    share = torch.cumsum(x.diff() ** 2, 0)
    moved = BoundaryMotion("right").prepare(place(mesh))(torch.tensor([0.3], dtype=torch.float64))
    shift = (moved - mesh.points)[order, 0]
    torch.testing.assert_close(shift[1:], 0.3 * share / share[-1], rtol=1e-9, atol=0)
    assert shift[0] == 0


def test_bounds_are_those_of_the_displacements():
    chain = Chain([BoundaryMotion("inner")], place(RING))
    lower, upper = chain.bounds(-0.2, None)
    assert lower.tolist() == [-0.2] * 24
    assert upper is None


def test_one_factor_serves_all_shapes():
    stage = BoundaryMotion("inner").prepare(place(annulus_mesh((3, 16), 1.0, 2.5)))
    before = cache_counters()["factorize"]
    for size in (0.1, 0.2, 0.3):
        x = torch.full((16,), size, dtype=torch.float64, requires_grad=True)
        stage(x).square().sum().backward()
    assert cache_counters()["factorize"] - before == 1


def test_what_has_no_meaning_is_refused():
    with pytest.raises(ArgumentError, match="points of a mesh"):
        BoundaryMotion("inner").prepare(Place("nodes", RING))
    with pytest.raises(ArgumentError, match="radius"):
        BoundaryMotion("inner", radius=-1.0)
    stage = BoundaryMotion("inner").prepare(place(RING))
    with pytest.raises(ArgumentError, match="24 nodes move"):
        stage(torch.zeros(3))
    with pytest.raises(ArgumentError, match="starts where"):
        stage.start(2 * RING.points)
