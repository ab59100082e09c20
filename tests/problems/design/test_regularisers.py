from __future__ import annotations

import math

import pytest
import torch

from torch_sla.assembly.mesh import box_mesh, interval_mesh, rectangle_mesh
from torch_sla.errors import ArgumentError
from torch_sla.problems.design.aggregates import AGGREGATES, ks, ks_mean, p_mean, p_norm
from torch_sla.problems.design.regularisers import (
    REGULARISERS,
    RESIDUALS,
    smoothness,
    tikhonov,
    total_variation,
)
from torch_sla.problems.design.transforms import Place

MESHES = {
    "line": interval_mesh(8),
    "triangle": rectangle_mesh((5, 4), (2.0, 1.0)),
    "quad": rectangle_mesh((8, 3), (1.0, 0.5), cell="quad"),
    "tetra": box_mesh((3, 2, 2)),
    "hexahedron": box_mesh((4, 3, 2), (1.0, 0.5, 0.3), cell="hexahedron"),
}
PLACES = [Place(on, mesh) for mesh in MESHES.values() for on in ("cells", "nodes")]


def random(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def label(case: object) -> str:
    return f"{case.on}-{case.mesh.cell}" if isinstance(case, Place) else str(case)


@pytest.mark.parametrize("place", PLACES, ids=label)
@pytest.mark.parametrize("name", REGULARISERS)
def test_gradients_converge_like_gradients(name, place):
    field, d = random(place.n), random(place.n).flip(0) - 0.5

    def value(k: torch.Tensor) -> torch.Tensor:
        return REGULARISERS[name](place, k**2)

    field.requires_grad_()
    (slope,) = torch.autograd.grad(value(field), field)
    with torch.no_grad():
        first, second = (
            float(value(field + h * d) - value(field) - h * slope @ d) for h in (1e-4, 5e-5)
        )
    assert math.log2(abs(first / second)) > 1.9


@pytest.mark.parametrize("on", ["cells", "nodes"])
@pytest.mark.parametrize("name", REGULARISERS)
def test_derivatives_of_every_kind(name, on):
    place = Place(on, rectangle_mesh((2, 2)), (2,))
    field = random(3, place.n, 2).requires_grad_()

    def value(k):
        return REGULARISERS[name](place, k)

    assert torch.autograd.gradcheck(value, field, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(value, field, check_fwd_over_rev=True)
    torch.testing.assert_close(torch.func.vmap(value)(field), value(field))
    each = torch.func.vmap(torch.func.hessian(value))(field.detach())
    torch.testing.assert_close(each[1], torch.autograd.functional.hessian(value, field[1]))
    assert value(field.detach().float()).dtype is torch.float32


@pytest.mark.parametrize("place", PLACES, ids=label)
@pytest.mark.parametrize("name", RESIDUALS)
def test_residuals_are_their_square_root(name, place):
    field = random(2, place.n)
    half = 0.5 * RESIDUALS[name](place, field).square().sum(-1)
    assert torch.allclose(half, REGULARISERS[name](place, field), rtol=1e-13)
    assert half.shape == (2,)


@pytest.mark.parametrize("place", PLACES, ids=label)
def test_constants_cost_nothing_but_their_size(place):
    field, volume = torch.full((place.n,), 1.7, dtype=torch.float64), place.measure.sum()
    assert abs(smoothness(place, field)) < 1e-13
    assert abs(total_variation(place, field)) < 1e-13
    assert torch.allclose(tikhonov(place, field, 0.7), 0.5 * volume)


@pytest.mark.parametrize("cell", MESHES)
def test_a_linear_nodal_field_costs_its_slope(cell):
    mesh = MESHES[cell]
    place, volume = Place("nodes", mesh), Place("cells", mesh).measure.sum()
    field = 3.0 * mesh.points[:, 0]
    assert torch.allclose(smoothness(place, field), 0.5 * 9.0 * volume)
    assert torch.allclose(total_variation(place, field, 1e-8), 3.0 * volume)


@pytest.mark.parametrize(("cell", "area"), [("line", 1.0), ("quad", 0.5), ("hexahedron", 0.15)])
def test_a_step_on_cells_costs_the_area_of_its_front(cell, area):
    """A jump of 2 over a plane of known area."""
    place = Place("cells", MESHES[cell])
    field = 2.0 * (place.x[:, 0] > 0.5).double()
    assert abs(total_variation(place, field, 1e-9) - 2 * area) < 1e-7


def test_smoothness_on_cells_tends_to_the_integral():
    errors = []
    for n in (8, 16):
        place = Place("cells", rectangle_mesh((n, n), cell="quad"))
        field = (torch.pi * place.x[:, 0]).sin() * place.x[:, 1]
        exact = 0.5 * (torch.pi**2 / 2 / 3 + 0.5)
        errors.append(abs(smoothness(place, field).item() - exact))
    assert errors[1] < 0.6 * errors[0]


def test_components_add_up_and_constants_have_a_size():
    place = Place("nodes", MESHES["quad"], shape=(2,))
    alone = Place("nodes", MESHES["quad"])
    field = random(3, place.n, 2)
    for f in (smoothness, tikhonov):
        parts = f(alone, field[..., 0]) + f(alone, field[..., 1])
        assert torch.allclose(f(place, field), parts)
    same = torch.stack([field[..., 0], torch.zeros_like(field[..., 0])], -1)
    assert torch.allclose(total_variation(place, same), total_variation(alone, field[..., 0]))
    assert tikhonov(Place("constant"), torch.tensor(3.0), 1.0) == 2.0
    assert tikhonov(Place("constant", shape=(2,)), torch.tensor([3.0, 1.0])) == 5.0


def test_places_without_a_measure_are_refused():
    with pytest.raises(ArgumentError, match="facets"):
        smoothness(Place("facets", MESHES["quad"], sites=random(6, 2)), random(6))
    with pytest.raises(ArgumentError, match="smoothing"):
        total_variation(PLACES[0], random(8), 0.0)


@pytest.mark.parametrize("name", AGGREGATES)
def test_aggregates_bound_the_largest_and_tend_to_it(name):
    values, f = random(4, 5), AGGREGATES[name]
    top = values.max()
    sharp, blunt = f(values, 400.0), f(values, 10.0)
    assert abs(sharp - top) < 0.02 * top
    assert (blunt > top) == (name in ("p_norm", "ks"))
    values.requires_grad_()
    assert torch.autograd.gradcheck(lambda v: f(v, 10.0), values)
    (g,) = torch.autograd.grad(f(values, 400.0), values)
    assert g.argmax() == values.argmax()


def test_aggregates_do_not_overflow_and_scale():
    values = torch.tensor([1e200, 2e200], dtype=torch.float64)
    assert torch.isfinite(p_norm(values, 50.0))
    assert torch.allclose(p_norm(values, 50.0), 1e200 * p_norm(values / 1e200, 50.0))
    small = random(7)
    assert torch.allclose(ks(3e6 * small, 20.0, scale=3e6), 3e6 * ks(small, 20.0))
    assert torch.allclose(ks_mean(small.expand(3, 7), 9.0), ks_mean(small, 9.0))
    assert torch.allclose(p_mean(small.expand(3, 7), 9.0), p_mean(small, 9.0))
    assert p_norm(torch.zeros(3)) == 0


@pytest.mark.parametrize("shape", [(0,), (3, 0)])
@pytest.mark.parametrize("name", AGGREGATES)
def test_of_no_numbers_there_is_no_maximum(name, shape):
    with pytest.raises(ArgumentError, match="no number"):
        AGGREGATES[name](torch.empty(shape, dtype=torch.float64))
