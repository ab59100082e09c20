"""Smallest singular triplets of large square matrices without full rank, judged by dense decompositions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from torch_sla.errors import Result, SolveError
from torch_sla.linalg import SparseTensor
from torch_sla.linalg.eigen import rank_deficient, singular

N = 110


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(singular, "_DENSE", 20)
    monkeypatch.setattr(singular, "_DENSE_LIMIT", 40)


def matrix(kind: str) -> Tensor:
    g = torch.Generator().manual_seed(1)
    entries = torch.randn(N, N, generator=g, dtype=torch.float64)
    A = entries * (torch.rand(N, N, generator=g) < 0.03) + torch.eye(N, dtype=torch.float64)
    if kind == "free chain":
        step = torch.eye(N - 1, N).double() - torch.eye(N - 1, N).double().roll(1, 1)
        return step.mT @ step
    if kind == "zero columns":
        A[:, [3, 50, 77]] = 0
    elif kind == "equal rows":
        A[5], A[20] = A[9], 2 * A[7]
    elif kind == "projector":
        A = torch.eye(N, dtype=torch.float64)
        A[10:60] = 0
    elif kind == "zero":
        A = torch.zeros_like(A)
    return A


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128, torch.float32])
@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("kind", ["free chain", "zero columns", "equal rows", "projector", "zero"])
def test_triplets(kind: str, k: int, dtype: torch.dtype) -> None:
    A = matrix(kind).to(dtype)
    if dtype.is_complex:
        A = A * torch.exp(0.3j * torch.arange(N, dtype=torch.float64))
    U, S, W = SparseTensor.from_dense(A).svd(k=k, which="SM")
    exact = torch.linalg.svdvals(A.to(torch.complex128))[-k:]
    small = (1e3 if dtype == torch.float32 else 1e5) * torch.finfo(dtype).eps
    torch.testing.assert_close(S.double(), exact, rtol=0, atol=small / 100)
    one = torch.eye(k, dtype=dtype)
    torch.testing.assert_close(A @ W.mH, U * S, rtol=0, atol=small)
    torch.testing.assert_close(A.mH @ U, W.mH * S, rtol=0, atol=small)
    torch.testing.assert_close(U.mH @ U, one, rtol=0, atol=small)
    torch.testing.assert_close(W @ W.mH, one, rtol=0, atol=small)


def test_gradient_of_what_is_not_zero() -> None:
    A = matrix("equal rows")
    slots = SparseTensor.from_dense(A)
    pattern, values = slots.flat_slots()
    values = values.clone().requires_grad_()
    S = SparseTensor.from_pattern(pattern, values).svd(k=4, which="SM")[1]
    (grad,) = torch.autograd.grad(S[0] + 2 * S[1], values)
    full = A.clone().requires_grad_()
    exact = torch.linalg.svdvals(full)[-4:]
    (dense,) = torch.autograd.grad(exact[0] + 2 * exact[1], full)
    picked = dense[pattern.csr_row.long(), pattern.ccol.long()]
    torch.testing.assert_close(grad, picked, rtol=0, atol=1e-8)


def test_a_missing_vector_is_told() -> None:
    A = matrix("zero columns")
    none = torch.zeros_like(A)
    w, X = torch.linalg.eigh(torch.cat([torch.cat([none, A], 1), torch.cat([A.mT, none], 1)]))
    near = w.abs().argsort()[:20]
    w, X = w[near], X[:, near]
    U, W = rank_deficient._spaces(w, X, 1e-12)
    assert U.shape == W.shape
    for i in range(6):  # of the null space
        kept = torch.arange(20) != i
        with pytest.raises(SolveError) as caught:
            rank_deficient._spaces(w[kept], X[:, kept], 1e-12)
        assert caught.value.result is Result.BREAKDOWN
