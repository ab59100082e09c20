"""Singular values and condition numbers against dense LAPACK, with derivatives."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from torch_sla.errors import ArgumentError
from torch_sla.linalg import SparseTensor


def sample(rows: int, columns: int, dtype: torch.dtype = torch.float64) -> SparseTensor:
    g = torch.Generator().manual_seed(4)
    D = torch.randn(rows, columns, dtype=dtype, generator=g)
    return SparseTensor.from_dense(D * (torch.rand(rows, columns, generator=g) < 0.5))


pytestmark = pytest.mark.usefixtures("path")


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("shape", [(9, 9), (12, 7), (7, 12)])
def test_triplets(shape: tuple[int, int], dtype: torch.dtype) -> None:
    A = sample(*shape, dtype)
    D = A.to_dense()
    U, S, W = A.svd(3)
    torch.testing.assert_close(S, torch.linalg.svdvals(D)[:3])
    torch.testing.assert_close(D @ W.mH, U * S)
    torch.testing.assert_close(D.mH @ U, W.mH * S)
    torch.testing.assert_close(U.mH @ U, torch.eye(3, dtype=dtype))
    if shape[0] == shape[1]:
        torch.testing.assert_close(A.svd(2, "SM")[1], torch.linalg.svdvals(D)[-2:])


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("shape", [(6, 6), (7, 5)])
def test_derivatives(shape: tuple[int, int], dtype: torch.dtype) -> None:
    A = sample(*shape, dtype)

    def triplets(values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        U, S, W = SparseTensor.from_pattern(A.pattern, values).svd(2)
        return S, U[:2, :1] @ W[:1, :2], U[:2].abs() ** 2

    values = A.values.clone().requires_grad_()
    assert gradcheck(triplets, (values,))
    assert gradgradcheck(lambda v: triplets(v)[0], (values,))


def test_condition_number(path: str) -> None:
    A = sample(8, 8)
    torch.testing.assert_close(A.condition_number(), torch.linalg.cond(A.to_dense()))
    assert gradcheck(
        lambda v: SparseTensor.from_pattern(A.pattern, v).condition_number(),
        (A.values.clone().requires_grad_(),),
    )
    batch = SparseTensor.from_pattern(A.pattern, torch.stack([A.values, 2 * A.values]))
    assert batch.condition_number().shape == (2,)
    d = torch.linspace(1, 4, 8, dtype=torch.float64)
    d[3] = 0
    singular_one = SparseTensor.diag(d)
    assert float(singular_one.condition_number()) > 1e15
    if path == "dense":
        torch.testing.assert_close(
            sample(9, 4).condition_number(), torch.linalg.cond(sample(9, 4).to_dense())
        )
    else:
        with pytest.raises(ArgumentError, match="square"):
            sample(9, 4).condition_number()


def test_refusals() -> None:
    for options in ({"k": 0}, {"k": 9}, {"which": "LA"}):
        with pytest.raises(ArgumentError):
            sample(8, 8).svd(**options)
    with pytest.raises(ArgumentError, match="ord"):
        sample(8, 8).condition_number(1)


@pytest.mark.parametrize("shape", [(1, 2100), (2100, 1), (2, 2100), (2100, 3)])
def test_long_and_thin(shape: tuple[int, int]) -> None:
    A = sample(*shape)
    S = torch.linalg.svdvals(A.to_dense())
    for k in range(1, min(shape) + 1):
        U, found, W = A.svd(k)
        torch.testing.assert_close(found, S[:k])
        torch.testing.assert_close(U.T @ A.to_dense(), found.unsqueeze(1) * W)
    torch.testing.assert_close(A.norm(2), S[0])


@pytest.mark.parametrize("entries", [[], [2.0], [2.0, -5.0], [3.0, 3.0, 3.0, 1e-9]])
def test_more_triplets_than_the_rank(entries: list[float]) -> None:
    d = torch.zeros(240, dtype=torch.float64)
    d[7 : 7 + len(entries)] = torch.tensor(entries, dtype=torch.float64)
    A, k = SparseTensor.diag(d), 5
    U, S, W = A.svd(k)
    torch.testing.assert_close(S, d.abs().sort(descending=True).values[:k], atol=1e-14, rtol=1e-12)
    for Q in (U, W.T):
        torch.testing.assert_close(Q.T @ Q, torch.eye(k, dtype=torch.float64))
    torch.testing.assert_close(A @ W.T, U * S, atol=1e-14, rtol=0)
    assert float(A.norm(2)) == pytest.approx(max(map(abs, entries), default=0.0))
    assert A.condition_number() == float("inf")


def test_the_smallest_values_of_singular_matrices_of_moderate_size(path: str) -> None:
    if path == "iterative":
        return  # where none is of moderate size
    n = 210
    off, d = torch.full((n - 1,), -1.0).double(), torch.full((n,), 2.0).double()
    d[0] = d[-1] = 1
    A = SparseTensor.tridiagonal(off, d, off)  # a free chain, which has 2 - 2 cos(π j / n)
    exact = 2 - 2 * torch.cos(torch.pi * torch.arange(3).double() / n)
    U, S, W = A.svd(3, "SM")
    torch.testing.assert_close(S, exact.flip(0), rtol=0, atol=1e-13)
    torch.testing.assert_close(A @ W.mH, U * S, rtol=0, atol=1e-13)
    d[n // 2] = off[n // 2] = off[n // 2 - 1] = 0  # a row and column of zeros
    B = SparseTensor.tridiagonal(off, d, off)
    assert float(B.svd(1, "SM")[1]) < 1e-13
    assert B.condition_number().item() == float("inf")
