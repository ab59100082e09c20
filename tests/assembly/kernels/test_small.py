"""Small products agree however they are computed."""

from __future__ import annotations

import pytest
import torch

from torch_sla.assembly.kernels.small import small_product, unrolled_product


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_unrolled_is_the_batched_product(dim: int) -> None:
    A = torch.randn(4, 5, 1, 6, dim, dtype=torch.float64)
    B = torch.randn(5, 2, dim, 3, dtype=torch.float64)
    expected = A @ B
    assert small_product(A, B).shape == expected.shape
    torch.testing.assert_close(unrolled_product(A, B), expected, rtol=1e-14, atol=1e-14)


def test_unrolled_differentiates() -> None:
    A = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    B = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(unrolled_product, (A, B))
    assert torch.autograd.gradgradcheck(unrolled_product, (A, B))
