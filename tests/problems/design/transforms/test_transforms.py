from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from torch_sla import clear_cache
from torch_sla.assembly.mesh import Mesh, box_mesh, make_mesh, rectangle_mesh
from torch_sla.errors import ArgumentError
from torch_sla.linalg import cache_counters
from torch_sla.problems.design.transforms import (
    RAMP,
    SIMP,
    Chain,
    ConeFilter,
    Fixed,
    HelmholtzFilter,
    Log,
    Logit,
    NeuralField,
    Place,
    Projection,
    SensitivityFilter,
    Softplus,
    Symmetry,
)

CELLS = Place("cells", rectangle_mesh((7, 5), (2.0, 1.0)))
NODES = Place("nodes", rectangle_mesh((6, 5), (2.0, 1.0), cell="quad"))
BOX = Place("cells", box_mesh((3, 3, 2), cell="hexahedron"))
TAGGED = Place("cells", CELLS.on_mesh.tag_cells("flange", lambda x: x[:, 0] < 0.5))
EVERY = [
    *[(t, CELLS) for t in (Log(), Softplus(0.2, 3.0), Logit(-1.0, 2.0), Projection(6.0, 0.4))],
    *[(t, CELLS) for t in (SIMP(3.0, 0.1, 2.0), RAMP(5.0, 0.1, 2.0))],
    *[(t, p) for t in (ConeFilter(0.6), HelmholtzFilter(0.6)) for p in (CELLS, NODES, BOX)],
    (Symmetry("x", 1.0), NODES),
    (Fixed("flange", 1.0), TAGGED),
    (NeuralField(width=5, depth=2, features=3), CELLS),
    (NeuralField(width=4, depth=1, features=0), NODES),
]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def label(case: object) -> str:
    return getattr(case, "type", None) or getattr(case, "on", "")


@pytest.mark.parametrize(("transform", "place"), EVERY, ids=label)
def test_the_taylor_remainder_falls_like_the_square_of_the_step(transform, place):
    chain = Chain([transform], place)
    x, d = 0.2 + 0.6 * random(*chain.shape), random(*chain.shape, seed=1) - 0.5
    w = random(place.n, seed=2)

    def value(x: Tensor) -> Tensor:
        return (w * chain(x) ** 3).sum()

    x.requires_grad_()
    (slope,) = torch.autograd.grad(value(x), x)
    with torch.no_grad():
        first, second = (
            float(value(x + h * d) - value(x) - h * (slope * d).sum()) for h in (0.02, 0.01)
        )
    assert torch.tensor(first / second).log2() > 1.9


@pytest.mark.parametrize(("transform", "place"), EVERY, ids=label)
def test_second_derivatives_and_batches_pass(transform, place):
    chain = Chain([transform], place)
    x = 0.3 + 0.4 * random(2, *chain.shape)
    assert torch.allclose(chain(x)[1], chain(x[1]), rtol=1e-13, atol=1e-14)
    x, v = x[0].requires_grad_(), random(*chain.shape, seed=3)

    def gradient(x: Tensor) -> Tensor:
        return torch.autograd.grad((chain(x) ** 3).sum(), x, create_graph=True)[0]

    (h,) = torch.autograd.grad((gradient(x) * v).sum(), x)
    near = (gradient(x + 1e-5 * v) - gradient(x - 1e-5 * v)) / 2e-5
    assert torch.allclose(h, near, rtol=1e-6, atol=1e-7 * float(h.abs().max()))


@pytest.mark.parametrize("place", [CELLS, NODES, BOX], ids=label)
@pytest.mark.parametrize("transform", [ConeFilter(0.7), HelmholtzFilter(0.7)], ids=label)
def test_filters_keep_constants_and_range(transform, place):
    stage = transform.prepare(place)
    same = stage(torch.full((place.n,), 0.37, dtype=torch.float64))
    assert (same - 0.37).abs().max() < 1e-12
    smooth = stage((random(place.n) > 0.5).double())
    assert smooth.min() > 0
    assert smooth.max() < 1
    assert smooth.std() < 0.3


@pytest.mark.parametrize("place", [CELLS, NODES, BOX], ids=label)
def test_the_helmholtz_filter_keeps_the_volume_and_is_symmetric_in_it(place):
    stage, m = HelmholtzFilter(0.8).prepare(place), place.measure
    x, y = random(place.n), random(place.n, seed=1)
    assert abs(m @ stage(x) - m @ x) < 1e-12
    assert abs((m * y) @ stage(x) - (m * x) @ stage(y)) < 1e-12


def test_the_helmholtz_filter_solves_its_equation():
    errors = []
    for n in (16, 32):
        place = Place("nodes", rectangle_mesh((n, n)))
        x = (torch.pi * place.x[:, 0]).cos()
        r = 0.9 / (2 * 3**0.5)
        exact = x / (1 + (r * torch.pi) ** 2)
        errors.append((HelmholtzFilter(0.9).prepare(place)(x) - exact).abs().max())
    assert errors[1] < 0.3 * errors[0]
    assert errors[1] < 2e-3


def test_one_factor_serves_all_values_and_gradients():
    stage = HelmholtzFilter(0.5).prepare(CELLS)
    clear_cache()
    before = cache_counters()
    for seed in range(4):
        x = random(CELLS.n, seed=seed).requires_grad_()
        (stage(x) ** 2).sum().backward()
    after = cache_counters()
    assert after["factorize"] - before["factorize"] == 1
    assert after["solve"] - before["solve"] == 8


@pytest.mark.parametrize("place", [CELLS, NODES, BOX], ids=label)
def test_the_cone_filter_is_the_weighted_mean(place):
    x, field, m = place.x, random(place.n), place.measure
    weight = (0.55 - torch.cdist(x, x)).clamp_min(0) * m
    expected = (weight @ field) / weight.sum(1)
    assert torch.allclose(ConeFilter(0.55).prepare(place)(field), expected, rtol=1e-13)


@pytest.mark.parametrize("transform", [ConeFilter(0.5), HelmholtzFilter(0.5)], ids=label)
def test_a_filter_gives_the_same_field_on_finer_meshes(transform):
    """The same function of place, filtered on 8, 16 and 32 cells per side: differences fall."""
    means = []
    for n in (8, 16, 32):
        place = Place("cells", rectangle_mesh((n, n), cell="quad"))
        x, y = place.x.T
        smooth = transform.prepare(place)((6 * ((x - 0.3) ** 2 + y**2)).sin())
        k = n // 4
        means.append(smooth.reshape(4, k, 4, k).mean((1, 3)))
    coarse, fine = (means[0] - means[2]).abs().max(), (means[1] - means[2]).abs().max()
    assert fine < 0.4 * coarse
    assert fine < 0.01


def test_cells_of_different_size_count_by_their_size():
    """A linear field stays what it is inside, where cells of two sizes meet, up to the mesh width."""
    mesh = rectangle_mesh((24, 8), cell="quad")
    x = mesh.points[:, 0]
    moved = torch.where(x < 0.5, 0.5 * x, 1.5 * x - 0.5)
    place = Place("cells", replace(mesh, points=torch.stack([moved, mesh.points[:, 1]], 1)))
    inside = (place.x[:, 0] - 0.25).abs() < 0.03
    found = ConeFilter(0.2).prepare(place)(place.x[:, 0])
    assert (found - place.x[:, 0])[inside].abs().max() < 0.006
    assert place.volumes.max() > 2.9 * place.volumes.min()


def test_reparametrisations_and_their_inverses():
    y = 0.05 + 0.9 * random(50)
    for t in (Log(), Softplus(0.01, 2.0), Logit()):
        assert torch.allclose(t(t.inverse(y)), y, rtol=1e-12), t


def test_values_that_a_reparametrisation_cannot_give_are_refused():
    for t, bad in ((Log(), -1.0), (Softplus(1.0), 0.5), (Logit(0.0, 2.0), 2.0)):
        with pytest.raises(ArgumentError, match=t.type):
            t.inverse(torch.tensor([bad]))


def test_projection_reaches_its_ends_and_sharpens():
    x = torch.linspace(0, 1, 11, dtype=torch.float64)
    for beta in (1.0, 8.0, 64.0):
        p = Projection(beta, eta=0.35)(x)
        assert abs(p[0]) < 1e-15
        assert abs(p[-1] - 1) < 1e-15
        assert (p.diff() >= 0).all()
    assert ((p - (x > 0.35).double()).abs() < 0.01).all()


def test_bounds_and_starts_are_those_of_the_design():
    chain = Chain([Log(), ConeFilter(0.5)], CELLS)
    lower, upper = chain.bounds(0.1, 10.0)
    assert lower.shape == (CELLS.n,)
    assert (lower.exp() - 0.1).abs().max() < 1e-15
    assert (upper.exp() - 10.0).abs().max() < 1e-13
    start = 0.5 + random(CELLS.n)
    assert torch.allclose(chain.design(chain.start(start)), start)
    assert (chain(chain.start(2.0)) - 2.0).abs().max() < 1e-13
    assert Chain([SIMP()], CELLS).bounds(0.0, 1.0)[1].tolist() == [1.0] * CELLS.n
    assert Chain([], Place("constant")).start(3.0).shape == ()


def test_a_neural_field_begins_around_what_is_asked_and_depends_on_its_seed():
    chain = Chain([NeuralField(scale=0.0), Logit(0.0, 4.0)], CELLS)
    assert (chain(chain.start(1.5)) - 1.5).abs().max() < 1e-14
    a, b, c = (Chain([NeuralField(seed=s), Log()], CELLS) for s in (0, 0, 1))
    assert torch.equal(a(a.start(1.0)), b(b.start(1.0)))
    assert not torch.equal(a(a.start(1.0)), c(c.start(1.0)))
    with pytest.raises(ArgumentError, match="logit"):
        chain.bounds(0.0, 1.0)
    with pytest.raises(ArgumentError, match="first"):
        Chain([Log(), NeuralField()], CELLS)
    with pytest.raises(ArgumentError, match="one value"):
        chain.start(1 + random(CELLS.n))


def test_a_neural_field_is_the_same_function_on_every_mesh():
    coarse = Place("nodes", rectangle_mesh((4, 4)))
    fine = Place("nodes", rectangle_mesh((8, 8)))
    a, b = (Chain([NeuralField(seed=3)], place) for place in (coarse, fine))
    found = b(b.start(0.0))
    partner = torch.cdist(coarse.x, fine.x).argmin(1)
    assert torch.allclose(a(a.start(0.0)), found[partner], rtol=1e-12)


def test_fields_with_components():
    place = Place("nodes", NODES.mesh, shape=(2,))
    field = random(3, place.n, 2)
    for t in (ConeFilter(0.6), HelmholtzFilter(0.6), Symmetry("x", 1.0)):
        vector, scalar = t.prepare(place)(field), t.prepare(NODES)(field[1, :, 1])
        assert torch.allclose(vector[1, :, 1], scalar, rtol=1e-12)
    net = Chain([NeuralField()], place)
    assert net(net.start(torch.tensor([1.0, 2.0]))).shape == (place.n, 2)


def test_symmetry_mirrors_values_and_gradients():
    stage = Symmetry("x", 1.0).prepare(NODES)
    y = stage(random(NODES.n))
    mirrored = torch.stack([2.0 - NODES.x[:, 0], NODES.x[:, 1]], 1)
    partner = torch.cdist(NODES.x, mirrored).argmin(1)
    assert torch.allclose(y, y[partner])
    assert torch.allclose(stage(y), y)
    with pytest.raises(ArgumentError, match="no partner"):
        Symmetry("x", 0.7).prepare(NODES)
    with pytest.raises(ArgumentError, match="dimensions"):
        Symmetry("z").prepare(NODES)


@pytest.mark.parametrize("on", ["nodes", "facets"])
def test_symmetry_across_and_along_cracks(on):
    # Up from (0, 0) two faces coincide in the plane of symmetry; on the line y = -1, across it.
    x = [[-1, -2], [0, -2], [1, -2], [-1, -1], [0, -1], [1, -1]]
    x += [[-1, -1], [0, -1], [1, -1], [-1, 0], [0, 0], [1, 0], [-1, 1], [0, 1], [1, 1], [0, 1]]
    cells = [[0, 1, 4, 3], [1, 2, 5, 4], [6, 7, 10, 9], [7, 8, 11, 10], [9, 10, 13, 12]]
    cells.append([10, 11, 14, 15])
    points = torch.tensor(x).double()
    mesh = make_mesh(points, torch.tensor(cells), "quad", duplicate_nodes="allow")
    partner = torch.tensor([2, 1, 0, 5, 4, 3, 8, 7, 6, 11, 10, 9, 14, 15, 12, 13])
    sites = None
    if on == "facets":
        facets = mesh.facets.sort(1).values.tolist()
        partner = torch.tensor([facets.index(sorted(partner[f].tolist())) for f in mesh.facets])
        sites = points[mesh.facets].mean(1)
    place = Place(on, mesh, sites=sites)
    field = random(place.n)
    assert torch.equal(Symmetry("x").prepare(place)(field), 0.5 * (field + field[partner]))


def test_symmetry_of_vectors_and_matrices_reverses_the_axis():
    mesh = rectangle_mesh((6, 5), (2.0, 1.0), cell="quad")
    x, y = mesh.points.T
    left = x - 1
    vector = torch.stack([left, left * y], -1)
    mirror = Chain([Symmetry("x", 1.0)], Place("nodes", mesh, (2,)))
    assert torch.allclose(mirror(vector), torch.stack([left, 0 * x], -1))
    matrix = torch.stack([left, left, left.square(), left.square()], -1).reshape(-1, 2, 2)
    mirror = Chain([Symmetry("x", 1.0)], Place("nodes", mesh, (2, 2)))
    kept = torch.stack([0 * x, left, 0 * x, left.square()], -1).reshape(-1, 2, 2)
    assert torch.allclose(mirror(matrix), kept)


def cracked(along: int, at: float, tips: tuple[float, float]) -> Mesh:
    """Return a square whose nodes between the tips exist twice, on the line where a coordinate is given."""
    mesh = rectangle_mesh((4, 4), cell="quad")
    x, across = mesh.points, 1 - along
    split = (x[:, across] - at).abs() < 1e-9
    split &= (x[:, along] > tips[0]) & (x[:, along] < tips[1])
    second = torch.arange(mesh.n_points)
    second[split] = mesh.n_points + torch.arange(int(split.sum()))
    cells = mesh.cells.clone()
    beyond = mesh.centroids[:, across] > at
    cells[beyond] = second[cells[beyond]]
    return make_mesh(torch.cat([x, x[split]]), cells, "quad", duplicate_nodes="allow")


@pytest.mark.parametrize("on", ["nodes", "facets"])
@pytest.mark.parametrize("along", [0, 1], ids=["across the plane", "on the plane"])
def test_symmetry_keeps_the_faces_of_a_crack_apart(along, on):
    mesh = cracked(along, 0.5, (0.1, 0.9) if along == 0 else (0.4, 2.0))
    sites = mesh.points[mesh.facets].mean(1) if on == "facets" else None
    place = Place(on, mesh, sites=sites)
    # One number for each site: of the cells around it, whose mirror images are those around its partner.
    inside = place.beside
    values = inside[:, 0] + 10.0 * inside[:, 1] + place.x[:, 1]
    y = Symmetry("x", 0.5).prepare(place)(values)
    assert torch.allclose(y, 0.5 + 10.0 * inside[:, 1] + place.x[:, 1], rtol=1e-13)


def test_symmetry_refuses_sites_in_one_place_that_cells_do_not_tell_apart():
    # Quarters of a square that meet in its middle, opposite ones in one node.
    x, y = torch.meshgrid(*2 * [torch.arange(3.0).double()], indexing="ij")
    points = torch.stack([x.flatten(), y.flatten()], 1)
    cells = torch.tensor([[0, 3, 4, 1], [3, 6, 7, 9], [1, 9, 5, 2], [4, 7, 8, 5]])
    mesh = make_mesh(torch.cat([points, points[4:5]]), cells, "quad", duplicate_nodes="allow")
    with pytest.raises(ArgumentError, match="lie in one place"):
        Symmetry("x", 1.0).prepare(Place("nodes", mesh))
    with pytest.raises(ArgumentError, match="lie in one place"):
        Symmetry("x", 0.5).prepare(Place("nodes", cracked(0, 0.5, (0.1, 0.4))))


@pytest.mark.parametrize("transform", [Symmetry("x", 1.0), ConeFilter(0.5), HelmholtzFilter(0.5)])
def test_transforms_of_points_act_on_how_far_they_moved(transform):
    mesh = rectangle_mesh((6, 5), (2.0, 1.0), cell="quad")
    x = mesh.points[:, 0]
    chain = Chain([transform], Place("nodes", mesh, (2,), moves=True))
    assert torch.allclose(chain(mesh.points), mesh.points, rtol=0, atol=1e-14)
    lifted = mesh.points + torch.tensor([0.0, 0.1]).double()
    assert torch.allclose(chain(lifted), lifted, rtol=0, atol=1e-14)
    if isinstance(transform, Symmetry):
        moved = mesh.points + 0.1 * torch.stack([x - 1, x - 1], -1)
        stretched = mesh.points + 0.1 * torch.stack([x - 1, 0 * x], -1)
        assert torch.allclose(chain(moved), stretched, rtol=0, atol=1e-14)


def test_fixed_cells_have_their_value_and_no_gradient():
    stage = Fixed("flange", 1.0).prepare(TAGGED)
    x = random(TAGGED.n).requires_grad_()
    y = stage(x)
    y.sum().backward()
    held = TAGGED.x[:, 0] < 0.5
    assert (y[held] == 1).all()
    assert (x.grad[held] == 0).all()
    assert (x.grad[~held] == 1).all()


def test_the_sensitivity_filter_bends_gradients_alone():
    stage = SensitivityFilter(0.5).prepare(CELLS)
    x, g = random(CELLS.n).requires_grad_(), random(CELLS.n, seed=1)
    assert torch.equal(stage(x), x)
    (stage(x) * g).sum().backward()
    weight = (0.5 - torch.cdist(CELLS.x, CELLS.x)).clamp_min(0) * CELLS.measure
    d = x.detach()
    expected = (weight @ (d * g)) / weight.sum(1) / d.clamp_min(1e-3)
    assert torch.allclose(x.grad, expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ConeFilter(0.0), "radius"),
        (lambda: HelmholtzFilter(float("nan")), "radius"),
        (lambda: Logit(1.0, 1.0), "lower"),
        (lambda: Projection(eta=1.5), "eta"),
        (lambda: NeuralField(depth=0), "depth"),
        (lambda: Symmetry("w"), "axis"),
        (lambda: ConeFilter(0.1).prepare(Place("constant")), "no mesh"),
        (lambda: HelmholtzFilter(0.1).prepare(Place("facets", CELLS.mesh)), "facets"),
        (lambda: NeuralField().prepare(Place("constant")), "constant"),
        (lambda: ConeFilter(0.1).prepare(CELLS)(random(3)), r"got shape \(3,\)"),
    ],
)
def test_what_has_no_meaning_is_refused_by_name(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


def test_goals_see_a_variable_whose_gradient_is_its_own():
    bent = Chain([SensitivityFilter(0.5)], CELLS)
    x = random(CELLS.n).requires_grad_()
    assert bent.bends
    assert torch.equal(bent(x), bent.plain(x))
    (plain,) = torch.autograd.grad(bent.plain(x).sum(), x)
    (through,) = torch.autograd.grad(bent(x).sum(), x)
    assert torch.equal(plain, torch.ones_like(x))
    assert not torch.allclose(through, plain)
    assert not Chain([ConeFilter(0.5)], CELLS).bends
