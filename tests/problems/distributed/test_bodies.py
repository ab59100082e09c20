"""Several bodies in one mesh, in parts: each must be held, and each is solved, as in one process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import torch_sla as sla
from torch_sla import Dirichlet, Spring, distribute
from torch_sla.errors import SpecError

if TYPE_CHECKING:
    from tests.helpers.ranks import Ranks


def square(n: int, x: float) -> tuple[np.ndarray, np.ndarray]:
    axis = np.linspace(0.0, 1.0, n + 1)
    points = np.stack([a.ravel() for a in np.meshgrid(axis + x, axis, indexing="ij")], 1)
    a = (np.arange(n)[:, None] * (n + 1) + np.arange(n)).ravel()
    cells = np.concatenate(
        [np.stack([a, a + n + 1, a + n + 2], 1), np.stack([a, a + n + 2, a + 1], 1)]
    )
    return points, cells


def two_squares() -> sla.MeshArrays:
    """From 0 to 1 and, with larger triangles, from 2 to 3."""
    (p, c), (q, d) = square(5, 0.0), square(3, 2.0)
    cells = np.concatenate([c, d + len(p)])
    return sla.MeshArrays(points=np.concatenate([p, q]), cells=cells, cell="triangle")


LEFT, RIGHT = "x < 1e-9", "x > 3 - 1e-9"
HOLDING: dict[str, tuple[Any, ...]] = {
    "both": (Dirichlet(LEFT, 0.0), Dirichlet(RIGHT, 0.0)),
    "second by a spring": (Dirichlet(LEFT, 0.0), Spring(RIGHT, 2.0)),
    "second by a side and a point": (
        Dirichlet(LEFT, 0.0),
        Dirichlet(RIGHT, 0.0, component=0),
        Dirichlet(at=[(2.0, 0.0)], value=0.0, component=1),
    ),
}
LOOSE: dict[str, tuple[Any, ...]] = {
    "first alone": (Dirichlet(LEFT, 0.0),),
    "second alone": (Dirichlet(RIGHT, 0.0),),
    "second slides": (Dirichlet(LEFT, 0.0), Dirichlet(RIGHT, 0.0, component=0)),
    "spring on the second alone": (Spring(RIGHT, 2.0),),
}


def elastic(conditions: tuple[Any, ...]) -> sla.ElasticityProblem:
    return sla.ElasticityProblem(
        mesh=two_squares(),
        model="plane_stress",
        young_modulus=sla.Parameter("E", default=1.0),
        poisson_ratio=0.3,
        body_force=[0.0, -1.0],
        boundary=list(conditions),
        outputs=[sla.Integral("sunk", "u[1]*(1 + x)")],
    )


def repeating() -> sla.ElasticityProblem:
    """A cell whose sides repeat each other, which stops its rotation, held at a corner."""
    return sla.ElasticityProblem(
        mesh=sla.RectangleMesh(cells=(9, 6)),
        model="plane_strain",
        young_modulus="1 + 0.3*sin(2*pi*x)",
        poisson_ratio=0.3,
        body_force=["sin(2*pi*x)", 0.0],
        boundary=[sla.Periodic("right", to="left"), Dirichlet(at=[(0.0, 0.0)], value=0.0)],
        outputs=[sla.Energy("energy")],
    )


def stored(group: Any) -> float:
    return float(distribute(repeating(), group=group).solve()["energy"])


def warm(boundary: list[Any]) -> sla.PoissonProblem:
    return sla.PoissonProblem(
        mesh=two_squares(),
        diffusivity=1.0,
        # Nothing flows into the second one: its matrix is singular, yet there are solutions.
        source="1.0*(x < 1.5)",
        boundary=boundary,
        outputs=[sla.Integral("heat", "u")],
    )


def sunk(group: Any, name: str) -> tuple[float, float]:
    E = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    shared = distribute(elastic(HOLDING[name]), group=group)
    value = shared.solve(E=E)["sunk"]
    value.backward()
    assert E.grad is not None
    return float(value.detach()), float(E.grad)


def refused(group: Any, name: str) -> str:
    with pytest.raises(SpecError) as caught:
        distribute(elastic(LOOSE[name]), group=group).solve(E=torch.tensor(3.0))
    return str(caught.value)


def agrees(name: str, found: tuple[float, float]) -> None:
    E = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    value = elastic(HOLDING[name]).solve(E=E)["sunk"]
    value.backward()
    assert found == pytest.approx((float(value.detach()), float(E.grad)), rel=1e-9)


@pytest.mark.parametrize("name", HOLDING)
def test_each_body_is_solved(name: str) -> None:
    for parts in (1, 5):
        E = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
        value = distribute(elastic(HOLDING[name]), parts).solve(E=E)["sunk"]
        value.backward()
        agrees(name, (float(value.detach()), float(E.grad)))


@pytest.mark.parametrize("name", LOOSE)
def test_a_body_that_nothing_holds_is_refused(name: str) -> None:
    problem = elastic(LOOSE[name])
    with pytest.raises(SpecError) as alone:
        problem.solve(E=3.0)
    for parts in (1, 4):
        with pytest.raises(SpecError) as shared:
            distribute(problem, parts).solve(E=3.0)
        assert str(shared.value) == str(alone.value)


def test_a_level_that_nothing_fixes_is_no_number() -> None:
    for boundary in ([Dirichlet(LEFT, 0.0)], [sla.Robin(LEFT, 1.0, 0.0)]):
        with pytest.raises(SpecError, match="nothing fixes the level"):
            distribute(warm(boundary), 3).solve()
    held = [Dirichlet(LEFT, 0.0), sla.Robin(RIGHT, 1.0, 0.5)]
    heat = distribute(warm(held), 3).solve()["heat"]
    assert float(heat) == pytest.approx(float(warm(held).solve()["heat"]), rel=1e-9)


def test_sides_that_repeat_each_other_stop_a_rotation() -> None:
    alone = float(repeating().solve()["energy"])
    for parts in (1, 4):
        found = float(distribute(repeating(), parts).solve()["energy"])
        assert found == pytest.approx(alone, rel=1e-9)


@pytest.mark.distributed
def test_processes_that_see_one_body_each_know_of_both(ranks: Ranks) -> None:
    name = "second by a side and a point"
    for found in ranks.run(3, sunk, name):
        agrees(name, found)
    for loose in ("first alone", "second slides"):
        assert all("can move as a rigid one" in text for text in ranks.run(3, refused, loose))
    alone = float(repeating().solve()["energy"])
    assert ranks.run(3, stored) == pytest.approx([alone] * 3, rel=1e-9)
