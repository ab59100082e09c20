"""What is claimed of a tangent decides which half of it the adjoint reads."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from torch_sla import Dirichlet, Integral, Neumann, Parameter, PoissonProblem, RectangleMesh

MESH = RectangleMesh(cells=(5, 5))
SLOPED = {"boundary": [Dirichlet("left", 0.0), Neumann("top", flux="c*grad(u)[0]")]}
SKEW = {
    "boundary": [Dirichlet("left", 0.0)],
    "diffusivity": [[1.0, 0.7], [-0.7, 1.0]],
    "source": "1.0 + y - c*u**2",
}
SKEW_FLUX = {
    "boundary": [Dirichlet("left", 0.0), Neumann("right", flux="y - c*u**2")],
    "diffusivity": Parameter("K", shape=(2, 2)),
}


@pytest.mark.parametrize("laws", [SLOPED, SKEW, SKEW_FLUX])
def test_gradients_through_a_tangent_without_symmetry(laws: dict[str, Any]) -> None:
    problem = PoissonProblem(
        **{"mesh": MESH, "source": 1.0, **laws},
        parameters=[Parameter("c", default=0.5)],
        outputs=[Integral("m", "x*y*u")],
    )
    matrix = torch.tensor([[1.0, 0.7], [-0.7, 1.0]], dtype=torch.float64)
    given = {"K": matrix} if "K" in problem.declared else {}
    c = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    problem.solve(given, c=c)["m"].backward()
    h = 1e-4
    there, back = (float(problem.solve(given, c=0.5 + s * h)["m"]) for s in (1, -1))
    assert float(c.grad) == pytest.approx((there - back) / (2 * h), rel=1e-6)
