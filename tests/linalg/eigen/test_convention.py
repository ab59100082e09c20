"""What all spectra share."""

from __future__ import annotations

import pytest
import torch

from torch_sla.errors import SolveError
from torch_sla.linalg.eigen.convention import check_residuals


@pytest.mark.parametrize("bad", [2e-6, float("nan")])
def test_one_bad_pair_is_enough(bad: float) -> None:
    residual = torch.zeros(4, 3, dtype=torch.float64)
    scale = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    residual[1, 1] = 0.9e-6 * 2.0
    check_residuals(residual, scale, 1e-6, "the pairs")
    residual[2, 1] = bad
    with pytest.raises(SolveError, match="the residual of the pairs") as caught:
        check_residuals(residual, scale, 1e-6, "the pairs")
    if bad == bad:
        assert caught.value.residual == pytest.approx((0.9e-6**2 + 1e-6**2) ** 0.5)
