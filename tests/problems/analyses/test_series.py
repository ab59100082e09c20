"""Values along the time: those given at the times, and straight lines between."""

from __future__ import annotations

import pytest
import torch

from torch_sla.problems.analyses.series import Series


@pytest.mark.parametrize("axis", [0, 1])
def test_lines_between_the_times(axis: int) -> None:
    values = torch.tensor([[1.0, 4.0, 2.0, 8.0], [0.0, -3.0, 5.0, 7.0]], dtype=torch.float64)
    series = Series({"f": (values.T.contiguous() if axis == 0 else values, axis)}, end=6.0, steps=3)
    for i in range(4):
        for off in (0.0, -1e-12, 1e-12):
            assert torch.equal(series.at("f", 2.0 * i + off), values[:, i])
    for t in (0.5, 1.9, 2.5, 4.0 + 1e-6, 5.5, 6.0 - 1e-6):
        i = int(t // 2)
        slope = (values[:, i + 1] - values[:, i]) / 2.0
        torch.testing.assert_close(series.at("f", t), values[:, i] + (t - 2.0 * i) * slope)
