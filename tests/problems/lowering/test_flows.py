"""Flows and transport whose discrete solutions have closed forms."""

from __future__ import annotations

import pytest
import torch

from torch_sla import Dirichlet, Energy, IntervalMesh, PoissonProblem, RectangleMesh, StokesProblem

AROUND = ["left", "right", "bottom", "top"]


@pytest.mark.parametrize(
    ("velocity", "energy"),
    [
        (["y*(1 - y)", 0.0], 1 / 6),  # ε:ε = (1 - 2y)²/2
        (["x", "-y"], 2.0),
        (["y", "-x"], 0.0),  # turns as a whole
        (["x*y", "-y**2/2"], 5 / 6),  # ε:ε = 2 y² + x²/2
    ],
)
def test_half_of_what_a_flow_dissipates(velocity: list[str | float], energy: float) -> None:
    flow = StokesProblem(
        mesh=RectangleMesh(cells=(2, 3)),
        viscosity=2.5,
        body_force=[0.0, "2.5" if velocity[0] == "x*y" else 0.0],
        boundary=[Dirichlet(AROUND, velocity)],
        outputs=[Energy("energy")],
    )
    assert float(flow.solve()["energy"]) == pytest.approx(2.5 * energy, abs=1e-12)


@pytest.mark.parametrize("speed", [3.0, -20.0])
def test_transport_without_stabilisation_is_galerkins(speed: float) -> None:
    """Central differences: -u'' + a u' = 0 with powers of (1 + P)/(1 - P), P the Péclet number of a cell."""
    rod = PoissonProblem(
        mesh=IntervalMesh(cells=6),
        diffusivity=1.0,
        advection=[speed],
        stabilization="none",
        boundary=[Dirichlet("left", 0.0), Dirichlet("right", 1.0)],
    )
    P = speed / 12.0
    powers = ((1 + P) / (1 - P)) ** torch.arange(7, dtype=torch.float64)
    exact = (powers - 1) / (powers[-1] - 1)
    torch.testing.assert_close(rod.solve().u[rod.dof_points()[:, 0].argsort()], exact)
    assert float((rod.updated(stabilization="auto").solve().u - rod.solve().u).abs().max()) > 1e-3
    second = rod.updated(order=2)  # which is never stabilised
    assert torch.equal(second.updated(stabilization="auto").solve().u, second.solve().u)
