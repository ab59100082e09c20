"""What supports bear, and accelerations, to the order of the scheme."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from torch_sla import Dirichlet, Flux, IntervalMesh, PoissonProblem, TransientProblem

if TYPE_CHECKING:
    import torch


def swung(scheme: str, steps: int) -> tuple[torch.Tensor, ...]:
    """Return the flux through a moved end, and the acceleration of the other one where there is one."""
    damping = {} if scheme in ("crank_nicolson", "bdf2") else {"mass_damping": 2.0}
    march = TransientProblem(
        of=PoissonProblem(
            mesh=IntervalMesh(cells=3),
            source="x*cos(2*t)",
            capacity="1 + x",
            boundary=[Dirichlet("left", "sin(t)**4")],
            outputs=[Flux("q", "left")],
        ),
        end=2.0,
        steps=steps,
        scheme=scheme,
        **damping,
    )
    solution = march.solve()
    return (solution["q"][-1], *(() if not damping else (solution.acceleration[-1],)))


@pytest.mark.parametrize("scheme", ["crank_nicolson", "bdf2", "newmark", "generalized_alpha"])
def test_reactions_and_accelerations_are_of_second_order(scheme: str) -> None:
    exact = swung(scheme, 640)
    errors = [
        [abs(float(a - b)) for a, b in zip(swung(scheme, n), exact, strict=True)] for n in (80, 160)
    ]
    for coarse, fine in zip(*errors, strict=True):
        assert math.log2(coarse / fine) > 1.8
