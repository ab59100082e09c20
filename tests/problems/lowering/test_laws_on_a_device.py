"""Laws without names, which no tensor brings to a device, are numbers there as on the host."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.devices import NEEDS_CUDA
from torch_sla import (
    Dirichlet,
    ElasticityProblem,
    Flux,
    Integral,
    Neumann,
    Parameter,
    PoissonProblem,
    RectangleMesh,
    Robin,
    Solver,
)

pytestmark = NEEDS_CUDA

MESH = RectangleMesh(cells=(4, 4))


def heat(solver: Solver) -> PoissonProblem:
    return PoissonProblem(
        mesh=MESH,
        diffusivity=(("2.0*1", "0.1*5"), ("0.1*5", "2.0 - 1")),
        reaction="0.5*2",
        advection=("1.0*2", "0.1*1"),
        source=Parameter("q", default=1.0),
        boundary=[
            Dirichlet("left", "2.0*1"),
            Robin("right", coefficient="2.0*2", ambient="1.0 + 1"),
            Neumann("top", flux="2.0*3"),
        ],
        outputs=[Integral("i", "2.0*3"), Integral("twice", "u*(1 + 1)"), Flux("f", on="left")],
        solver=solver,
    )


def body(solver: Solver) -> ElasticityProblem:
    return ElasticityProblem(
        mesh=MESH,
        model="plane_stress",
        young_modulus="2.0*100",
        poisson_ratio="0.1*3",
        thickness="0.5*2",
        temperature="2.0*3",
        thermal_expansion="0.01*1",
        body_force=(Parameter("q", default=1.0), "-1.0*2"),
        boundary=[Dirichlet("left", 0.0)],
        outputs=[Integral("i", "u[0]*(1 + 1)")],
        solver=solver,
    )


@pytest.mark.parametrize("make", [heat, body])
def test_laws_without_names(make) -> None:
    found = []
    for device in ("cpu", "cuda"):
        q = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
        solution = make(Solver(device=device)).solve(q=q)
        outputs = torch.stack([solution[name] for name in solution.outputs])
        outputs.square().sum().backward()
        found.append((outputs.detach(), q.grad))
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-12)
