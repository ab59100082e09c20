"""`eigsh` with masses far lighter than others: pairs against inverted pencils, gradients against differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from torch_sla.linalg import SparseTensor

LIGHT = [1e-6, 1e-9, 1e-12]


def chain(n: int, light: float) -> tuple[Tensor, Tensor]:
    """Return the diagonal of springs that are held at both ends, and masses of which every third is light."""
    g = torch.Generator().manual_seed(2)
    mass = 0.5 + torch.rand(n, generator=g, dtype=torch.float64)
    mass[::3] *= light
    return 2.0 + torch.rand(n, generator=g, dtype=torch.float64), mass


def springs(d: Tensor) -> SparseTensor:
    off = torch.tensor(-1.0, dtype=d.dtype)
    return SparseTensor.tridiagonal(off, d, off)


@pytest.mark.parametrize("request_", [{"which": "SM"}, {"sigma": 0.4}])
@pytest.mark.parametrize("light", LIGHT)
@pytest.mark.parametrize(("n", "k"), [(60, 4), (60, 25), (240, 4)])
def test_pairs(n: int, k: int, light: float, request_: dict[str, object]) -> None:
    d, mass = chain(n, light)
    A, M = springs(d), SparseTensor.diag(mass)
    root = mass.sqrt().numpy()
    # Of the inverse, which is small for what is large: the heavy part is not lost beside the light one.
    theta = np.linalg.eigvalsh(root[:, None] * np.linalg.inv(A.to_dense().numpy()) * root)
    exact = np.sort(1 / theta[theta > 1e-14 * theta.max()])
    exact = np.sort(exact[np.abs(exact - request_.get("sigma", 0.0)).argsort()[:k]])
    w, V = A.eigsh(k=k, M=M, **request_)
    np.testing.assert_allclose(w.numpy(), exact, rtol=1e-10)
    left = A.to_dense() @ V - mass.unsqueeze(1) * V * w
    assert float(torch.linalg.vector_norm(left, dim=0).max()) < 1e-10
    gram = V.mT @ (mass.unsqueeze(1) * V)
    torch.testing.assert_close(gram, torch.eye(k).double(), rtol=0, atol=1e-10)


@pytest.mark.parametrize("light", LIGHT)
@pytest.mark.parametrize("n", [60, 210])
def test_gradients_of_vectors(n: int, light: float) -> None:
    d, mass = (x.requires_grad_() for x in chain(n, light))
    g = torch.Generator().manual_seed(4)
    c, moved, heavier = (torch.randn(n, generator=g, dtype=torch.float64) for _ in range(3))
    heavier = heavier * mass.detach()

    def loss(d: Tensor, mass: Tensor) -> Tensor:
        w, V = springs(d).eigsh(k=2, which="SM", M=SparseTensor.diag(mass))
        return (V @ w) @ c

    of_d, of_mass = torch.autograd.grad(loss(d, mass), (d, mass))
    with torch.no_grad():
        h = 1e-5
        by_d = (loss(d + h * moved, mass) - loss(d - h * moved, mass)) / (2 * h)
        by_mass = (loss(d, mass + h * heavier) - loss(d, mass - h * heavier)) / (2 * h)
    torch.testing.assert_close(of_d @ moved, by_d, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(of_mass @ heavier, by_mass, rtol=1e-6, atol=1e-8)
