"""Right-hand sides that are zero nearly everywhere, as those of sensors: fronts without anything are passed over."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.grids import poisson
from torch_sla.linalg import SparseTensor
from torch_sla.linalg.kernels import cholesky, detection, symbolic
from torch_sla.linalg.sparse.pattern import Pattern

METHODS = ["cholesky", "ldlt", "static_lu"]


def matrix(method: str, dtype: torch.dtype) -> SparseTensor:
    A = SparseTensor.from_scipy(poisson(13, 11).tocoo())
    values = A.values.to(dtype)
    above = torch.sign(A.row_indices - A.col_indices)
    if method == "static_lu":
        values = values * (1 + 0.2 * above)
    elif dtype.is_complex:
        values = values * torch.exp(0.3j * above)
    return SparseTensor(values, A.row_indices, A.col_indices, A.shape)


@pytest.mark.parametrize("columns", [1, 2, 9])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("method", METHODS)
def test_few_entries_of_a_right_hand_side(method: str, dtype: torch.dtype, columns: int) -> None:
    A, eps = matrix(method, dtype), torch.finfo(dtype).eps
    n, dense = A.shape[0], A.to_dense()
    b = torch.zeros(n, columns, dtype=dtype)
    for k in range(columns):
        b[(17 * k + torch.tensor([3, 77])) % n, k] = 1.0 + k
    b.requires_grad_()
    x = A.solve(b, backend="native", method=method)
    torch.testing.assert_close(x, torch.linalg.solve(dense, b), rtol=1e3 * eps, atol=1e3 * eps)
    g = torch.zeros_like(b)
    g[n // 2, columns // 2] = 2.0
    (grad,) = torch.autograd.grad(x, b, g)
    torch.testing.assert_close(
        grad, torch.linalg.solve(dense.mH, g), rtol=1e3 * eps, atol=1e3 * eps
    )


def test_what_is_not_a_number_is_carried_on() -> None:
    A = matrix("cholesky", torch.float64)
    made = cholesky.factorize(symbolic.analyze(A.pattern.crow, A.pattern.ccol), A.csr_values)
    assert isinstance(made, cholesky.Factor)
    b = torch.zeros(A.shape[0], 1, dtype=torch.float64)
    b[5] = float("nan")
    assert not torch.isfinite(made.solve(b)).all()


@pytest.mark.parametrize("method", METHODS)
def test_the_check_of_an_adjoint_reads_values_as_they_lie(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    turned: list[int] = []
    looked: list[int] = []
    turn, look = Pattern.transpose_values, detection.largest_entry
    monkeypatch.setattr(
        Pattern, "transpose_values", lambda p, v: (turned.append(v.numel()), turn(p, v))[1]
    )
    monkeypatch.setattr(
        "torch_sla.linalg.attempts.largest_entry", lambda v: (looked.append(v.numel()), look(v))[1]
    )
    A = matrix(method, torch.float64)
    values = A.values.clone().requires_grad_()
    M = SparseTensor.from_pattern(A.pattern, values)
    x = M.solve(torch.ones(A.shape[0], dtype=torch.float64), backend="native", method=method)
    turned.clear()
    x[::7].sum().backward()
    assert not turned
    assert len(looked) == 1
