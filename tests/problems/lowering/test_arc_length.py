"""Bodies past their limit points: a law with a limit load in closed form, an arch against displacement control."""

from __future__ import annotations

import re

import pytest
import torch

from torch_sla import (
    Dirichlet,
    HyperelasticityProblem,
    Neumann,
    Newton,
    Parameter,
    Probe,
    Reaction,
    RectangleMesh,
    Solution,
    Solver,
)
from torch_sla.errors import ArgumentError, SolveError
from torch_sla.problems.lowering import newton


def block(control: str, mu: float = 1.0) -> HyperelasticityProblem:
    """Uniaxial strain of a Saint Venant-Kirchhoff block, λ = 0: the nominal stress is mu (a³ - a)."""
    return HyperelasticityProblem(
        mesh=RectangleMesh(cells=(1, 1), cell="quad"),
        law="saint_venant_kirchhoff",
        constants={"mu": Parameter("mu", default=mu), "lam": 0.0},
        boundary=[
            Dirichlet("left", 0.0),
            Dirichlet(["right", "bottom", "top"], 0.0, component=1),
            Neumann("right", traction=[Parameter("load", default=-1.0), 0.0]),
        ],
        load_steps=20,
        control=control,
        outputs=[Probe("a", at=[(1.0, 0.5)], quantity="1 + u[0]")],
    )


def limits(solution: Solution) -> list[float]:
    (note,) = [n for n in solution.info.notes if n.startswith("arc length")]
    return [float(x) for x in re.findall(r"-?\d+\.\d+(?:e-?\d+)?", note.split("factors:")[1])]


def test_a_limit_load_in_closed_form() -> None:
    # The stress is least, -2 mu/(3 √3), at a = 1/√3: the well-known failure of this law in compression.
    solution = block("arc_length").solve()
    limit = 2 / 27**0.5
    assert limits(solution) == pytest.approx([limit, -limit], rel=1e-2)
    a = float(solution["a"])
    assert a < -1
    assert a**3 - a == pytest.approx(-1.0, rel=1e-9)
    # It is inside out there, and the report says so.
    assert any("inside out" in note for note in solution.info.notes)
    carried = block("arc_length").solve(load=-0.3).info.notes
    assert not any("inside out" in note for note in carried)


def test_the_gradient_is_that_of_the_state_beyond() -> None:
    mu = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    a = block("arc_length").solve(mu=mu)["a"].sum()
    (slope,) = torch.autograd.grad(a, mu, create_graph=True)
    # mu (a³ - a) = -1, differentiated.
    at = float(a.detach())
    assert float(slope.detach()) == pytest.approx(-(at**3 - at) / (3 * at**2 - 1), rel=1e-8)


def test_steps_along_the_path_are_told() -> None:
    told = []
    solution = block("arc_length").solve(progress=told.append)
    (note,) = [n for n in solution.info.notes if n.startswith("arc length")]
    assert f"{len(told)} steps" in note
    assert [p.done for p in told] == list(range(1, len(told) + 1))
    assert min(p.figures["load"] for p in told) < 0
    assert told[-1].figures["load"] == 1.0

    def stop(progress: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        block("arc_length").solve(progress=stop)


def test_load_control_stops_there() -> None:
    with pytest.raises(SolveError, match="load factor"):
        block("load").solve()


def test_what_cannot_be_followed_is_refused() -> None:
    problem = block("arc_length")
    with pytest.raises(ArgumentError, match="one path"):
        problem.solve(load=torch.tensor([-1.0, -0.5], dtype=torch.float64))
    with pytest.raises(ArgumentError, match="undeformed"):
        problem.solve(start=torch.ones(8, dtype=torch.float64))


def half_arch(pushed: bool) -> HyperelasticityProblem:
    """The left half of a shallow clamped arch, once it is moved there by `points`."""
    crown = (
        Neumann("right", traction=[0.0, -0.02])
        if pushed
        else Dirichlet("right", Parameter("w", default=-0.1), component=1)
    )
    return HyperelasticityProblem(
        mesh=RectangleMesh(cells=(8, 1), size=(1.0, 0.04), cell="quad"),
        order=2,
        law="saint_venant_kirchhoff",
        constants={"mu": 1.0, "lam": 0.0},
        boundary=[Dirichlet("left", 0.0), Dirichlet("right", 0.0, component=0), crown],
        load_steps=10 if pushed else 2,
        control="arc_length" if pushed else "load",
        outputs=[Reaction("force", "right"), Probe("w", at=[(1.0, 0.13)], quantity="u[1]")],
    )


def test_an_arch_snaps_through_at_the_load_of_displacement_control() -> None:
    flat = half_arch(pushed=True)
    points = flat.mesh_data().points
    points[:, 1] += 0.05 * (1 - torch.cos(torch.pi * points[:, 0]))
    solution = flat.solve(points=points)
    limit = limits(solution)[0] * 0.02 * 0.04
    # The same arch, its crown moved down: the greatest force on the way.
    held = half_arch(pushed=False)
    forces = [
        -float(held.solve(points=points, w=-w)["force"][1])
        for w in torch.linspace(0.02, 0.08, 7).tolist()
    ]
    assert 0 < forces.index(max(forces)) < 6
    assert limit == pytest.approx(max(forces), rel=2e-2)
    assert float(solution["w"]) < -0.1


def test_bodies_that_cannot_carry_their_load_leave_the_others_to_theirs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(newton, "_CUTS", 1)
    problem = block("load").updated(load_steps=2, solver=Solver(nonlinear=Newton(maxiter=8)))
    load = torch.tensor([-0.3, -1.0, -0.2], dtype=torch.float64)
    found = problem.solve(load=load, throw=False)
    assert not found.info.converged
    assert found.info.solved is not None
    assert found.info.solved.tolist() == [True, False, True]
    a = found["a"][[0, 2], 0]
    assert (a**3 - a).tolist() == pytest.approx([-0.3, -0.2], rel=1e-9)
    with pytest.raises(SolveError, match="from 0: 1"):
        problem.solve(load=load)
