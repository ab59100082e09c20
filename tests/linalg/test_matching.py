"""Matching rows to columns by size, where equilibration alone leaves a matrix looking singular."""

from __future__ import annotations

import pytest
import torch

from torch_sla.errors import Result, SolveError
from torch_sla.linalg import SparseTensor
from torch_sla.linalg.matching import match

F64 = torch.float64


def hidden(
    n: int, span: float, dtype: torch.dtype = F64, symmetric: bool = False
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A well-conditioned matrix, and rows and columns on scales over 2 `span` decades."""
    g = torch.Generator().manual_seed(int(span) + n)
    wide = torch.complex128 if dtype.is_complex else F64
    mask = torch.rand(n, n, generator=g) < 3 / n
    B = (torch.rand(n, n, generator=g, dtype=F64) - 0.5).to(wide) * 0.5 * mask
    rows, columns = (10.0 ** (span * (2 * torch.rand(n, generator=g).double() - 1)) for _ in "rc")
    if symmetric:
        B = (B + B.mT) / 2 + torch.kron(torch.eye(n // 2), torch.tensor([[0.0, 1], [1, 0]]))
        rows = columns
    else:
        B = B + torch.eye(n)[torch.randperm(n, generator=g)]
    return B, rows, columns


@pytest.mark.parametrize("span", [10.0, 40.0, 120.0])
@pytest.mark.parametrize("dtype", [F64, torch.complex128])
@pytest.mark.parametrize("way", [{}, {"method": "superlu"}, {"method": "lu", "backend": "eigen"}])
def test_hidden_scales(span: float, dtype: torch.dtype, way: dict[str, str]) -> None:
    B, rows, columns = hidden(40, span, dtype)
    y = torch.linspace(1, 2, 40, dtype=F64).to(B.dtype)
    A = SparseTensor.from_dense(rows[:, None] * B * columns)
    A.values.requires_grad_()
    b = (rows * (B @ y)).requires_grad_()
    x, info = A.solve(b, info=True, **way)
    torch.testing.assert_close(columns * x.detach(), y, rtol=1e-11, atol=0)
    if span > 10:
        assert "matched by size" in " ".join(info.notes)
        assert info.rcond > 1e-4
    # The adjoint solves with the same scales: the gradient in b is A⁻ᴴ g.
    (g,) = torch.autograd.grad(x, b, grad_outputs=columns.to(x.dtype))
    torch.testing.assert_close(
        rows * g, torch.linalg.solve(B.mH, torch.ones_like(y)), rtol=1e-11, atol=0
    )


def test_symmetric_matrices_keep_their_symmetry() -> None:
    B, rows, _ = hidden(40, 40.0, symmetric=True)
    y = torch.linspace(1, 2, 40, dtype=F64)
    A = SparseTensor.from_dense(rows[:, None] * B * rows)
    x, info = A.solve(rows * (B @ y), method="ldlt", backend="native", info=True)
    assert info.method == "ldlt"
    torch.testing.assert_close(rows * x, y, rtol=1e-10, atol=0)


def test_the_scales_make_assigned_entries_one_and_no_entry_larger() -> None:
    B, rows, columns = hidden(60, 30.0)
    A = SparseTensor.from_dense(rows[:, None] * B * columns)
    found = match(A.pattern, A.csr_values)
    scaled = ((found.R[:, None] * A.to_dense()) * found.C)[found.order].abs()
    assert float(scaled.max()) <= 2.01  # powers of two
    assert float(scaled.diagonal().min()) >= 0.49
    assert sorted(found.order.tolist()) == list(range(60))


def test_structurally_singular_says_so() -> None:
    D = torch.ones(4, 4, dtype=F64)
    D[:3, 1:] = 0  # three rows share one column
    D[3] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    for method in ("lu", "superlu"):
        with pytest.raises(SolveError, match="structurally singular") as caught:
            SparseTensor.from_dense(D).solve(torch.ones(4, dtype=F64), method=method)
        assert caught.value.result is Result.SINGULAR


def test_a_matrix_that_needs_no_matching_gets_none() -> None:
    A = SparseTensor.from_dense(torch.eye(5, dtype=F64) * torch.logspace(0, 8, 5).double())
    _, info = A.solve(torch.ones(5, dtype=F64), method="lu", info=True)
    assert not any("matched" in note for note in info.notes)


@pytest.mark.parametrize("seed", range(4))
def test_ties_in_rounding_do_not_turn_in_circles(seed: int) -> None:
    # A grid with five equal entries a row, under scales: costs that tie but for rounding.
    n = 20
    g = torch.Generator().manual_seed(seed)
    off = torch.tensor(-1.0, dtype=F64)
    T = SparseTensor.tridiagonal(off, torch.full((n,), 2.0, dtype=F64), off).to_dense()
    eye = torch.eye(n, dtype=F64)
    D = torch.kron(T, eye) + torch.kron(eye, T)
    rows, columns = (10.0 ** (16 * torch.rand(n * n, generator=g).double() - 8) for _ in "rc")
    A = SparseTensor.from_dense(rows[:, None] * D * columns)
    found = match(A.pattern, A.csr_values)
    scaled = ((found.R[:, None] * A.to_dense()) * found.C)[found.order].abs()
    assert 0.49 <= float(scaled.diagonal().min()) <= float(scaled.max()) <= 2.05
