"""Capacities and densities are nowhere negative, and options that mean nothing are refused."""

from __future__ import annotations

import pytest

from torch_sla import (
    Dirichlet,
    EigenProblem,
    ElasticityProblem,
    IntervalMesh,
    MeshArrays,
    Parameter,
    PoissonProblem,
    RectangleMesh,
    TransientProblem,
    distribute,
)
from torch_sla.errors import ArgumentError, SpecError


def rod(capacity: object) -> PoissonProblem:
    return PoissonProblem(
        mesh=IntervalMesh(cells=4), capacity=capacity, boundary=[Dirichlet("left", 0.0)]
    )


@pytest.mark.parametrize("scheme", ["bdf2", "explicit"])
@pytest.mark.parametrize("capacity", ["-1.0 + 0*x", "x - 0.5"])
def test_a_negative_capacity_is_refused(scheme: str, capacity: object) -> None:
    march = TransientProblem(of=rod(capacity), initial=1.0, end=0.1, steps=4, scheme=scheme)
    with pytest.raises(ArgumentError, match="capacity must not be negative; its least value is"):
        march.solve()


def test_a_negative_density_is_refused() -> None:
    body = ElasticityProblem(
        mesh=RectangleMesh(cells=(2, 2)),
        model="plane_strain",
        young_modulus=1.0,
        poisson_ratio=0.3,
        density=Parameter("rho", default=-1.0),
        boundary=[Dirichlet("left", 0.0)],
    )
    with pytest.raises(ArgumentError, match="density must not be negative"):
        EigenProblem(of=body, k=2).solve()


@pytest.mark.parametrize(("capacity", "count"), [("0*x", 4), ({"left": 1.0, "right": 0.0}, 2)])
def test_modes_need_mass_everywhere(capacity: object, count: int) -> None:
    mesh = MeshArrays(
        points=[[0.0], [0.25], [0.5], [0.75], [1.0]],
        cells=[[0, 1], [1, 2], [2, 3], [3, 4]],
        cell="line",
        cell_tags={"left": [0, 1], "right": [2, 3]},
    )
    body = PoissonProblem(mesh=mesh, capacity=capacity, boundary=[Dirichlet("x < 0.1", 0.0)])
    modes = EigenProblem(of=body, k=1)
    for solve in (modes.solve, distribute(modes, 2).solve):
        with pytest.raises(ArgumentError, match=f"capacity: {count} of the 4 free unknowns have"):
            solve()


def test_options_without_meaning_are_refused() -> None:
    with pytest.raises(SpecError, match="generalized_alpha has") as caught:
        TransientProblem(
            of=rod(1.0), initial=1.0, end=0.1, steps=4, scheme="bdf2", spectral_radius=0.5
        )
    assert caught.value.path == "spectral_radius"
    with pytest.raises(SpecError, match="leave which out") as caught:
        EigenProblem(matrix=[[2.0, -1.0], [-1.0, 2.0]], k=1, which="LM", sigma=0.5)
    assert caught.value.path == "which"


def test_explicit_needs_mass_at_every_node() -> None:
    rod = PoissonProblem(
        mesh=IntervalMesh(cells=8),
        source=1.0,
        capacity="where(x > 0.5, 1, 0)",
        boundary=[Dirichlet("left", 0.0)],
    )
    with pytest.raises(ArgumentError, match="capacity: the explicit scheme divides by the mass"):
        TransientProblem(of=rod, end=0.01, steps=100, scheme="explicit").solve()
