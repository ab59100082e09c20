"""Every body of a mesh must be held; what holds one does not hold another."""

from __future__ import annotations

import pytest

from torch_sla import (
    BoxMesh,
    Dirichlet,
    EigenProblem,
    ElasticityProblem,
    MeshArrays,
    Neumann,
    Parameter,
    Periodic,
    PointLoad,
    PoissonProblem,
    RectangleMesh,
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
    ("springs", "enough"),
    [
        # One point leaves the rotation about it free.
        ([Spring(at=[(0.0, 0.0)], stiffness=2.0)], False),
        ([Spring(at=[(0.3, 0.4)], stiffness=2.0), Spring(at=[(0.3, 0.4)], stiffness=1.0)], False),
        ([Spring(at=[(0.0, 0.0)], stiffness=2.0), Spring(at=[(1.0, 0.5)], stiffness=[0, 1])], True),
        # Along the line between them the second says nothing new.
        (
            [Spring(at=[(0.0, 0.5)], stiffness=2.0), Spring(at=[(1.0, 0.5)], stiffness=[1, 0])],
            False,
        ),
        ([Spring(on="left", stiffness=[3.0, 0.0])], False),
        ([Spring(on="left", stiffness=[0.0, 3.0])], False),
        ([Spring(on="left", stiffness=[3.0, 0.0]), Spring(on="top", stiffness=[0.0, 1.0])], True),
        ([Spring(on="left", stiffness=0.0)], False),
        ([Spring(on="left", stiffness=Parameter("k", default=1.0))], True),
        ([Spring(at=[(0.3, 0.4)], stiffness=1.0), Dirichlet("left", 0.0, component=0)], True),
    ],
)
def test_springs_hold_where_and_in_the_directions_in_which_they_are(
    springs: list[object], enough: bool
) -> None:
    problem = ElasticityProblem(
        mesh=RectangleMesh(cells=(3, 2)),
        model="plane_stress",
        young_modulus=1.0,
        poisson_ratio=0.3,
        body_force=(1.0, 0.2),
        boundary=springs,
    )
    if not enough:
        with pytest.raises(SpecError, match="can move as a rigid one"):
            problem.solve()
        return
    solution = problem.solve()
    assert solution.info.converged
    assert float(solution.u.abs().max()) < 100.0


@pytest.mark.parametrize(
    ("sides", "dim", "enough"),
    [
        ([("right", "left")], 2, True),
        ([("right", "left"), ("top", "bottom")], 2, True),
        ([], 2, False),
        # What repeats along one axis may still turn about it.
        ([("right", "left")], 3, False),
        ([("right", "left"), ("top", "bottom")], 3, True),
    ],
)
def test_sides_that_repeat_each_other_stop_rotations(
    sides: list[tuple[str, str]], dim: int, enough: bool
) -> None:
    grid = RectangleMesh(cells=(4, 3)) if dim == 2 else BoxMesh(cells=(3, 2, 2))
    problem = ElasticityProblem(
        mesh=grid,
        model="plane_strain" if dim == 2 else None,
        young_modulus="1 + 0.5*sin(2*pi*x)",
        poisson_ratio=0.3,
        body_force=["sin(2*pi*x)", *["0*x"] * (dim - 1)],
        boundary=[
            *(Periodic(on, to=to) for on, to in sides),
            Dirichlet(at=[(0.0,) * dim], value=0.0),
        ],
    )
    if not enough:
        with pytest.raises(SpecError, match="can move as a rigid one"):
            problem.solve()
        return
    assert problem.solve().info.converged
    free = problem.updated(boundary=problem.boundary[:-1])
    with pytest.raises(SpecError, match="can move as a rigid one"):
        free.solve()


def test_a_body_on_one_spring_turns_freely_in_its_modes() -> None:
    of = ElasticityProblem(
        mesh=RectangleMesh(cells=(4, 2), size=(2.0, 1.0)),
        model="plane_stress",
        young_modulus=1.0,
        poisson_ratio=0.3,
        density=1.0,
        boundary=[Spring(at=[(1.0, 0.5)], stiffness=0.1)],
    )
    found = EigenProblem(of=of, k=4).solve()
    assert float(found.frequencies[0]) == 0.0
    assert float(found.frequencies[1]) > 1e-2


def test_an_exchange_of_nothing_fixes_no_level() -> None:
    with pytest.raises(SpecError, match="nothing fixes the level"):
        heat(Robin(on=f"{LEFT} or {RIGHT}", coefficient=0.0)).solve()


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


@pytest.mark.parametrize(
    "condition",
    [PointLoad(at=[(1.0, 1.0)], value=(0.0, -1.0)), Spring(at=[(1.0, 1.0)], stiffness=1.0)],
)
def test_positions_that_moved_points_leave_outside_are_named(condition: object) -> None:
    problem = ElasticityProblem(
        mesh=RectangleMesh(cells=(2, 2)),
        model="plane_stress",
        young_modulus=1.0,
        poisson_ratio=0.3,
        boundary=[Dirichlet("left", 0.0), condition],
    )
    points = problem.compile().mesh.points
    assert problem.solve(points=points.clone()).info.converged
    with pytest.raises(SpecError, match=r"boundary\.1\.at.*outside.*do not move with the mesh"):
        problem.solve(points=0.9 * points)
