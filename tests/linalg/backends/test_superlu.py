"""SuperLU's settings by structure: our ordering, kept for new values, and a second try where it fails."""

from __future__ import annotations

import pytest
import torch

from torch_sla.errors import Result, SolveError
from torch_sla.linalg import SparseTensor, Structure, cache_counters
from torch_sla.linalg.kernels import unavailable

compiled = pytest.mark.skipif(unavailable() is not None, reason=f"{unavailable()}")


def convection(n: int, dtype: torch.dtype = torch.float64) -> SparseTensor:
    """Upwinded transport on an n x n grid."""
    eye = torch.eye(n, dtype=torch.float64)
    path = 2 * eye - torch.diag(eye.new_ones(n - 1), 1) - torch.diag(eye.new_ones(n - 1), -1)
    wind = path + 3 * (eye - torch.diag(eye.new_ones(n - 1), -1))
    return SparseTensor.from_dense((torch.kron(wind, eye) + torch.kron(eye, path)).to(dtype))


@compiled
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_new_values_are_not_ordered_again(dtype: torch.dtype) -> None:
    A = convection(13, dtype)
    b = torch.randn(169, 2, dtype=dtype)
    A.solve(b, backend="scipy", method="superlu")
    before = cache_counters()["analyze"]
    values = (A.values * 1.7).requires_grad_()
    B = SparseTensor(values, A.row_indices, A.col_indices, A.shape)
    x = B.solve(b, backend="scipy", method="superlu")
    x.abs().sum().backward()
    assert cache_counters()["analyze"] == before
    assert torch.allclose(B.to_dense() @ x, b)
    assert torch.autograd.gradcheck(
        lambda v: SparseTensor(v, A.row_indices, A.col_indices, A.shape).solve(
            b[:, 0], backend="scipy", method="superlu"
        ),
        (values,),
        fast_mode=True,
    )


@compiled
def test_growth_is_noticed_and_the_factors_made_again() -> None:
    # Said to be definite, so that diagonal pivots are kept however small they are.
    A = torch.tensor([[1e-19, 1.0], [1.0, 1e-19]], dtype=torch.float64)
    said = Structure(symmetric=True, hermitian=True, positive_definite=True)
    plain = SparseTensor.from_dense(A)
    S = SparseTensor.from_pattern(plain.pattern, plain.csr_values, said)
    b = torch.ones(2, dtype=torch.float64)
    x, info = S.solve(b, backend="scipy", method="superlu", info=True)
    assert any("again with partial pivoting after growth" in note for note in info.notes)
    assert torch.allclose(A @ x, b)


def test_rows_that_must_move() -> None:
    n = 40
    A = torch.roll(torch.eye(n, dtype=torch.float64), 1, 0) * 2
    A[torch.arange(n), torch.arange(n)] = 1e-12
    S = SparseTensor.from_dense(A)
    b = torch.arange(1.0, n + 1, dtype=torch.float64)
    x = S.solve(b, backend="scipy", method="superlu")
    assert torch.allclose(A @ x, b)


def test_a_structurally_singular_matrix_names_a_row() -> None:
    A = torch.diag(torch.arange(1.0, 9.0, dtype=torch.float64))
    A[3] = 0
    A[3, 5] = 2.0
    A[1, 2] = 1.0
    with pytest.raises(
        SolveError, match=r"structurally singular: the 8 rows .* 7 columns.*row [35]"
    ) as e:
        SparseTensor.from_dense(A).solve(
            torch.ones(8, dtype=torch.float64), backend="scipy", method="superlu"
        )
    assert e.value.result is Result.SINGULAR


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_values_with_strides_where_the_diagonal_is_not_stored(dtype: torch.dtype) -> None:
    A = SparseTensor.from_dense(torch.tensor([[0, 2, 1], [3, 0, 0], [1, 4, 0]], dtype=dtype))
    apart = torch.stack([A.values, 0 * A.values], -1)[:, 0]
    b = torch.ones(3, dtype=dtype)
    x = SparseTensor.from_pattern(A.pattern, apart).solve(b, backend="scipy", method="superlu")
    torch.testing.assert_close(A @ x, b)
