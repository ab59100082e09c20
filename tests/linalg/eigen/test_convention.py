"""What all spectra share."""

from __future__ import annotations

import pytest
import torch

from torch_sla.errors import SolveError
from torch_sla.linalg.eigen.convention import check_residuals, in_order


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


def test_rounding_decides_no_order() -> None:
    exact = torch.tensor([1.0 + 2.0j, 1.0 - 2.0j, -1.0 + 2.0j, -1.0 - 2.0j, 1e-9 + 0j, -2e-9 + 0j])
    g = torch.Generator().manual_seed(3)
    for _ in range(10):
        noise = torch.randn(6, dtype=torch.complex128, generator=g)
        mixed = torch.randperm(6, generator=g)
        w = (exact.to(torch.complex128) * (1 + 1e-15 * noise))[mixed]
        assert mixed[in_order(w, -w.abs())].tolist() == [2, 3, 0, 1, 5, 4]
        assert mixed[in_order(w, w.abs())].tolist() == [4, 5, 2, 3, 0, 1]
