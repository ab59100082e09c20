"""What all spectra share."""

from __future__ import annotations

import pytest
import torch

from torch_sla.errors import SolveError
from torch_sla.linalg import SparseTensor
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
@pytest.mark.parametrize("n", [60, 230])
def test_pairs_in_single_precision_are_as_good_as_those_of_a_decomposition(
    n: int, dtype: torch.dtype
) -> None:
    g = torch.Generator().manual_seed(0)
    D = torch.randn(n, n, dtype=dtype, generator=g) * (torch.rand(n, n, generator=g) < 4 / n)
    A = SparseTensor.from_dense(D + torch.diag(torch.arange(n) * 1.7 - 3.3))
    wide = A.to_dense().to(torch.complex128)
    size = torch.linalg.matrix_norm(wide, 2)
    w, _ = A.eigs(k=3)
    every = torch.linalg.eigvals(wide)
    largest = every[every.abs().argsort(descending=True)[:3]]
    assert (w[:, None] - largest).abs().amin(0).max() < 1e-4 * size
    for which, exact in (("LM", slice(0, 2)), ("SM", slice(n - 2, n))):
        U, S, W = A.svd(k=2, which=which)
        assert (S - torch.linalg.svdvals(wide)[exact]).abs().max() < 1e-5 * size
        assert (A.to_dense() @ W.mH - U * S).abs().max() < 1e-5 * size


def test_rounding_decides_no_order() -> None:
    exact = torch.tensor([1.0 + 2.0j, 1.0 - 2.0j, -1.0 + 2.0j, -1.0 - 2.0j, 1e-9 + 0j, -2e-9 + 0j])
    g = torch.Generator().manual_seed(3)
    for _ in range(10):
        noise = torch.randn(6, dtype=torch.complex128, generator=g)
        mixed = torch.randperm(6, generator=g)
        w = (exact.to(torch.complex128) * (1 + 1e-15 * noise))[mixed]
        assert mixed[in_order(w, -w.abs())].tolist() == [2, 3, 0, 1, 5, 4]
        assert mixed[in_order(w, w.abs())].tolist() == [4, 5, 2, 3, 0, 1]
