"""What is left to gain at a point, and the multipliers behind it."""

from __future__ import annotations

import numpy as np
import torch

from torch_sla.problems.design.optimizers.optimality import gap, multipliers, ranges
from torch_sla.problems.design.optimizers.oracle import Evaluation


def test_nothing_is_left_to_gain_at_a_minimum() -> None:
    # Gradients are made of multipliers of all sizes, so that points are minima of convex problems by construction.
    rng = np.random.default_rng(0)
    for _ in range(60):
        n, m = int(rng.integers(2, 30)), int(rng.integers(2, 12))
        jacobian = rng.normal(size=(m, n)) * 10.0 ** rng.uniform(-3, 3, (m, 1))
        jacobian[1] = jacobian[0]  # the same constraint, with room to spare
        active = rng.random(m) < 0.4
        active[:2] = True, False
        equal = active & (rng.random(m) < 0.2)
        size = 10.0 ** rng.uniform(-3, 3, m) / np.abs(jacobian).max(1)
        given = np.where(active, np.where(equal, -size, size), 0.0)
        room = np.where(active, 0.0, 10.0 ** rng.uniform(-6, 2, m))
        x = torch.from_numpy(rng.uniform(0.1, 0.9, n))
        gradient, rows = torch.from_numpy(-given @ jacobian), torch.from_numpy(jacobian)
        lower, upper, equalities = torch.zeros_like(x), torch.ones_like(x), torch.from_numpy(equal)
        lengths = ranges(x, lower, upper)
        at = Evaluation(0.0, gradient, torch.from_numpy(-room), rows)
        found = multipliers(x, at, lower, upper, lengths, equalities)
        assert bool((found[~equalities] >= 0).all())
        left = gap(x, gradient + found @ rows, lower, upper, lengths)
        idle = float((found * torch.from_numpy(room)).sum())
        assert left + idle <= 1e-8 * float((gradient.abs() * lengths).sum())
