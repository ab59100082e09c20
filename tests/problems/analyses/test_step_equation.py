"""Steps of nonlinear problems: where laws are evaluated."""

from __future__ import annotations

import torch

from torch_sla import (
    Dirichlet,
    IntervalMesh,
    Parameter,
    PoissonProblem,
    Probe,
    TransientProblem,
)


def test_a_law_without_a_meaning_at_zero_serves_where_the_field_is() -> None:
    # At zero the diffusivity would be -29. Held at both ends, u = 300 + w with w + 0.05 w² a parabola in the end.
    rod = PoissonProblem(
        mesh=IntervalMesh(cells=8),
        order=2,
        diffusivity="1 + 0.1*(u - 300)",
        source=1.0,
        boundary=[Dirichlet(["left", "right"], 300.0)],
        outputs=[Probe("middle", at=[(0.5,)], quantity="u - 300")],
    )
    begun = torch.tensor([300.0, 310.0], dtype=torch.float64)
    warm = TransientProblem(
        of=rod, initial=Parameter("begun"), end=5.0, steps=20, scheme="backward_euler"
    )
    w = warm.solve(begun=begun)["middle"]
    last = w[:, -1, 0]
    torch.testing.assert_close(last + 0.05 * last**2, w.new_full((2,), 0.125), rtol=1e-5, atol=0)
