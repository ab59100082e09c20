"""The time scale of stabilisation against its two limits on cells whose length is known."""

from __future__ import annotations

import math

import pytest
import torch

from torch_sla.assembly.weak.convection import streamline_time

ROOT = math.sqrt(0.75)
REGULAR = {
    1: [[1.0]],
    2: [[1.0, 0.5], [0.0, ROOT]],
    3: [[1.0, 0.5, 0.5], [0.0, ROOT, ROOT / 3], [0.0, 0.0, math.sqrt(2 / 3)]],
}


@pytest.mark.parametrize("simplex", [True, False])
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_limits_of_the_time_scale(dim: int, simplex: bool) -> None:
    """Half the length over the speed, and a twelfth of its square over the diffusivity (of one direction)."""
    length = 0.02
    edges = torch.tensor(REGULAR[dim], dtype=torch.float64) if simplex else torch.eye(dim).double()
    inverse = torch.linalg.inv(length * edges)[None, None]
    speed, kappa = 3.0, 0.7
    velocity = torch.full((1, 1, dim), speed / math.sqrt(dim), dtype=torch.float64)
    one = torch.ones(1, 1, dtype=torch.float64)
    carried = streamline_time(velocity, 0.0 * one, inverse, simplex)
    spread = streamline_time(0.0 * velocity, kappa * one, inverse, simplex)
    assert float(carried) == pytest.approx(length / (2 * speed))
    assert float(spread) == pytest.approx(length**2 / (12 * kappa * math.sqrt(dim)))
    both = streamline_time(velocity, kappa * one, inverse, simplex)
    assert float(both**-2) == pytest.approx(float(carried**-2 + spread**-2))
