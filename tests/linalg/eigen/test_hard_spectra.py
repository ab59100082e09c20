"""Spectra that are hard for Krylov methods: shifts that hit an eigenvalue."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from torch_sla.linalg import SparseTensor

# Beside 1 these are nearer to 0 than the shift is moved where it hits the eigenvalue 0.
NEAR = torch.tensor([0.0, 3e-9, 5e-9, -2e-8, -2.5e-8, -3e-8, -3.5e-8], dtype=torch.float64)


def spread(n: int) -> Tensor:
    return torch.cat([NEAR, torch.linspace(0.5, 1.0, n - len(NEAR), dtype=torch.float64)])


@pytest.mark.parametrize("request_", [{"which": "SM"}, {"sigma": 0.0}])
@pytest.mark.parametrize("k", [2, 3])
def test_what_is_near_to_a_shift_that_hits_an_eigenvalue(
    request_: dict[str, object], k: int
) -> None:
    A = SparseTensor.diag(spread(40))
    w = A.eigsh(k=k, method="arpack", return_eigenvectors=False, **request_)
    torch.testing.assert_close(w, NEAR[:k], rtol=0, atol=1e-13)


@pytest.mark.parametrize("request_", [{"which": "SM"}, {"sigma": 0.0}])
def test_the_same_without_symmetry(request_: dict[str, object]) -> None:
    d = spread(220)
    off = torch.zeros(219, dtype=torch.float64)
    off[20::7] = 0.01  # triangular: the eigenvalues are the diagonal
    A = SparseTensor.tridiagonal(0.0, d, off)
    w, _ = A.eigs(k=3, **request_)
    torch.testing.assert_close(w.real, NEAR[:3], rtol=0, atol=1e-13)
