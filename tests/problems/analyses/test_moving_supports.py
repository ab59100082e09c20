"""Rates of values that are given in time: a wave that comes in through one end and leaves through the other."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from torch_sla import (
    Adaptive,
    Dirichlet,
    ElasticityProblem,
    Energy,
    Flux,
    IntervalMesh,
    Neumann,
    Parameter,
    PoissonProblem,
    Reaction,
    RectangleMesh,
    TransientProblem,
)


def wave(scheme: str, steps: int, **more: Any) -> TransientProblem:
    """``u = sin(3 (x - t))``, which both ends give."""
    rod = PoissonProblem(
        mesh=IntervalMesh(cells=10 if scheme != "explicit" else 40),
        order=2 if scheme != "explicit" else 1,
        diffusivity=1.0,
        capacity=1.0,
        boundary=[Dirichlet("left", "sin(-3*t)"), Dirichlet("right", "sin(3 - 3*t)")],
        outputs=[Flux("flux", "left")],
    )
    return TransientProblem(
        of=rod,
        initial="sin(3*x)",
        initial_velocity="-3*cos(3*x)",
        end=1.0,
        steps=steps,
        scheme=scheme,
        **more,
    )


def errors(problem: TransientProblem) -> list[float]:
    """Of the flux at all times, and of velocity and acceleration at the end."""
    found = problem.solve()
    x = problem.of.dof_points()[:, 0]
    exact = [3 * torch.cos(-3 * found.times), -3 * torch.cos(3 * x - 3), -9 * torch.sin(3 * x - 3)]
    pairs = zip((found["flux"], found.velocity, found.acceleration), exact, strict=True)
    return [float((a - b).abs().max()) for a, b in pairs]


@pytest.mark.parametrize("scheme", ["newmark", "generalized_alpha"])
def test_rates_converge(scheme: str) -> None:
    coarse, fine = errors(wave(scheme, 10)), errors(wave(scheme, 40))
    least = [12.0, 12.0, 4.0]  # the accelerations of generalised alpha are of first order
    assert all(a > r * b for a, b, r in zip(coarse, fine, least, strict=True)), (coarse, fine)
    assert errors(wave(scheme, 20, adaptive=Adaptive(rtol=1e-4)))[0] < 0.01


@pytest.mark.parametrize("radius", [0.0, 0.5, 0.8, 1.0])
def test_what_supports_push_is_of_the_time_of_forces(radius: float) -> None:
    """A motion that elements hold exactly, in which the mass couples the supports to what is free."""
    rod = PoissonProblem(
        mesh=IntervalMesh(cells=2),
        source="-9*sin(3*t)*(1 + x)",
        boundary=[Dirichlet("left", "sin(3*t)"), Neumann("right", flux="sin(3*t)")],
        outputs=[Reaction("support", "left")],
    )

    def error(steps: int) -> Tensor:
        march = TransientProblem(
            of=rod,
            initial_velocity="3*(1 + x)",
            end=1.0,
            steps=steps,
            scheme="generalized_alpha",
            spectral_radius=radius,
        )
        found = march.solve()
        x = rod.dof_points()[:, 0]
        pull = (found["support"][-1] + math.sin(3.0)).abs()
        moved = (found.u - math.sin(3.0) * (1 + x)).abs().max()
        return torch.stack([pull, moved])

    coarse, fine = error(100), error(400)
    assert bool((coarse > 12 * fine).all()), (coarse, fine)


def test_supports_of_explicit_steps_move() -> None:
    flux, velocity, acceleration = errors(wave("explicit", 200))
    assert flux < 0.01
    assert velocity < 0.02
    assert acceleration < 0.05


def test_supports_of_explicit_steps_bear_the_lumped_mass() -> None:
    """The momentum of the scheme itself is in balance to rounding."""
    body = ElasticityProblem(
        mesh=RectangleMesh(cells=(4, 2), size=(2.0, 1.0)),
        model="plane_strain",
        density="1 + x",
        boundary=[
            Dirichlet("left", ["0.1*sin(3*t)", 0.0]),
            Neumann("right", traction=["t", 0.3]),
        ],
        outputs=[Reaction("support", "left"), Energy("motion", part="kinetic")],
    )
    march = TransientProblem(
        of=body,
        end=1.0,
        steps=40,
        scheme="explicit",
        mass_damping=0.5,
        save=["velocity", "acceleration"],
    )
    found = march.solve()
    M = body.updated(boundary=[]).assemble().mass
    sums = (M @ torch.ones(M.shape[-1], dtype=torch.float64)).unflatten(-1, (-1, 2))
    speed, push = found.history["velocity"], found.history["acceleration"]
    moved = (sums * (push + 0.5 * speed)).sum(-2)
    loads = torch.stack([found.times, torch.full_like(found.times, 0.3)], -1)
    torch.testing.assert_close(found["support"], moved - loads, rtol=0, atol=1e-12)
    torch.testing.assert_close(found["motion"], 0.5 * (sums * speed**2).sum((-2, -1)))


def shaken(base: str, scheme: str = "newmark", steps: int = 6) -> TransientProblem:
    rod = PoissonProblem(
        mesh=IntervalMesh(cells=4),
        diffusivity=Parameter("k", default=1.0),
        capacity=1.0,
        parameters=[Parameter("w", default=2.0), Parameter("g", default=0.0, time="steps")],
        boundary=[Dirichlet("left", base)],
        outputs=[Flux("flux", "left")],
    )
    return TransientProblem(of=rod, end=1.0, steps=steps, scheme=scheme)


@pytest.mark.parametrize("scheme", ["newmark", "generalized_alpha", "explicit"])
def test_gradients(scheme: str) -> None:
    problem = shaken("sin(w*t)*(1 + 0.3*cos(w*t))", scheme=scheme)
    assert problem.check_gradients(output=lambda s: (s["flux"] ** 3).sum(), w=2.0, k=0.3).passed


@pytest.mark.parametrize("steps", [2, 3, 6])
def test_values_known_at_times(steps: int) -> None:
    """A parabola, of which differences are exact, as numbers and as a law."""
    t = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    law, numbers = (shaken(base, steps=steps) for base in ("t**2", "g"))
    one, two = law.solve(), numbers.solve(g=t**2)
    torch.testing.assert_close(one["flux"], two["flux"])
    assert float(one.acceleration[0]) == pytest.approx(2.0)
    assert float(two.velocity[0]) == pytest.approx(2.0)


def test_what_does_not_move_is_left_alone() -> None:
    still: Tensor = shaken("1.0").solve().acceleration
    assert float(still[0]) == 0.0
    assert math.isfinite(float(still.abs().max()))
