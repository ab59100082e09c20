"""Every body of a mesh must be held; what holds one does not hold another."""

from __future__ import annotations

import pytest

from torch_sla import (
    Dirichlet,
    ElasticityProblem,
    MeshArrays,
    Neumann,
    PoissonProblem,
    Robin,
    SpecError,
    Spring,
)

# Two unit squares with a gap between them.
SQUARES = MeshArrays(
    points=[
        *([0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]),
        *([2.0, 0.0], [3.0, 0.0], [3.0, 1.0], [2.0, 1.0]),
    ],
    cells=[[0, 1, 2, 3], [4, 5, 6, 7]],
    cell="quad",
)
LEFT, RIGHT = "x < 1e-9", "x > 3 - 1e-9"


def heat(*boundary: object) -> PoissonProblem:
    return PoissonProblem(mesh=SQUARES, source=1.0, boundary=boundary)


def body(*boundary: object) -> ElasticityProblem:
    return ElasticityProblem(
        mesh=SQUARES,
        model="plane_strain",
        young_modulus=1.0,
        poisson_ratio=0.3,
        body_force=(1.0, 0.0),
        boundary=boundary,
    )


@pytest.mark.parametrize(
    "boundary",
    [
        [Robin(on=LEFT, coefficient=2.0)],
        [Robin(on=LEFT, coefficient=2.0), Neumann(on=RIGHT, flux=1.0)],
        [Dirichlet(on=LEFT, value=0.0)],
    ],
)
def test_an_exchange_or_a_value_on_one_of_two_bodies(boundary: list[object]) -> None:
    for verb in ("solve", "check"):
        with pytest.raises(SpecError, match="nothing fixes the level"):
            getattr(heat(*boundary), verb)()


def test_an_exchange_on_each_holds_both() -> None:
    # ∫f = 1 leaves each square through its exchange: mean of u there is 1/h.
    solution = heat(Robin(on=LEFT, coefficient=2.0), Robin(on=RIGHT, coefficient=4.0)).solve()
    assert solution.u.reshape(-1)[[0, 3]].tolist() == pytest.approx([0.5, 0.5], rel=1e-12)
    assert solution.u.reshape(-1)[[5, 6]].tolist() == pytest.approx([0.25, 0.25], rel=1e-12)
    assert heat(Robin(on=f"{LEFT} or {RIGHT}", coefficient=2.0)).solve().info.converged
    held = heat(Robin(on=LEFT, coefficient=2.0), Dirichlet(on=RIGHT, value=0.0)).solve()
    assert held.info.converged


@pytest.mark.parametrize(
    "spring",
    [
        Spring(on=LEFT, stiffness=(1.0, 1.0)),
        Spring(at=[(0.0, 0.0), (0.0, 1.0)], stiffness=(1.0, 1.0)),
    ],
    ids=["foundation", "at points"],
)
def test_a_spring_holds_the_body_it_is_fixed_to(spring: Spring) -> None:
    with pytest.raises(SpecError, match="can move as a rigid one"):
        body(spring).solve()
    held = body(spring, Dirichlet(on=RIGHT, value=(0.0, 0.0))).solve()
    assert held.info.converged


def test_a_spring_beside_all_bodies_says_where() -> None:
    with pytest.raises(SpecError, match=r"boundary\.0\.at.*outside"):
        body(Spring(at=[(1.5, 0.5)], stiffness=1.0)).solve()
