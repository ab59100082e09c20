"""What nobody can ask of a solve is refused by name, by every kind of solve alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from torch_sla.errors import ArgumentError, DTypeError
from torch_sla.linalg import SparseTensor, SparseTensorList, nonlinear_solve

if TYPE_CHECKING:
    from collections.abc import Callable

D = torch.float64
OFF = torch.tensor(-1.0, dtype=D)
A = SparseTensor.tridiagonal(OFF, torch.full((8,), 2.5, dtype=D), OFF)
B = torch.linspace(1, 2, 8, dtype=D)


def _parts(**asked: Any) -> Any:
    return A.partition(2).solve(B, **asked)


def _newton(**asked: Any) -> Any:
    return nonlinear_solve(lambda u: u**3 + u - B, B, **asked)


@pytest.mark.parametrize("solve", [lambda **asked: A.solve(B, **asked), _parts, _newton])
@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"rtol": 1.0}, "`rtol` must lie in"),
        ({"rtol": float("nan")}, "`rtol` must lie in"),
        ({"rtol": "small"}, "`rtol` must be a number, got 'small'"),
        ({"rtol": "1e-8"}, "`rtol` must be a number, got '1e-8'; give it without quotes"),
        ({"atol": "1e-8"}, "`atol` must be a number, got '1e-8'; give it without quotes"),
        ({"rtol": torch.ones(2)}, "`rtol` must be a number"),
        ({"atol": -1.0}, "`atol` must be >= 0"),
        ({"atol": None}, "`atol` must be a number"),
        ({"maxiter": 0}, "`maxiter` must be an integer of at least 1, got 0"),
        ({"maxiter": 1.5}, "`maxiter` must be an integer of at least 1, got 1.5"),
    ],
)
def test_limits(solve: Callable[..., Any], asked: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        solve(**asked)


@pytest.mark.parametrize("solve", [lambda **asked: A.solve(B, **asked), _parts])
def test_limits_of_adjoints(solve: Callable[..., Any]) -> None:
    with pytest.raises(ArgumentError, match="`rtol` must lie in"):
        solve(adjoint_rtol=1.0)


@pytest.mark.parametrize("backend", ["pytorch", "scipy", "eigen"])
def test_a_limit_beyond_what_is_counted(backend: str) -> None:
    x = A.solve(B, backend=backend, method="bicgstab", maxiter=10**30)
    torch.testing.assert_close(x, torch.linalg.solve(A.to_dense(), B), rtol=1e-8, atol=0)


@pytest.mark.parametrize("solve", [lambda **asked: A.solve(B, method="cg", **asked), _parts])
def test_a_start_of_another_kind(solve: Callable[..., Any]) -> None:
    with pytest.raises(ArgumentError, match="`x0` is complex"):
        solve(x0=B + 1j)
    with pytest.raises(ArgumentError, match="must be a tensor, got list"):
        solve(x0=B.tolist())


@pytest.mark.parametrize("matrix", [A, A.partition(2)])
def test_right_hand_sides_of_another_kind(matrix: Any) -> None:
    for dtype in (torch.int64, torch.bool):
        with pytest.raises(DTypeError, match=f"`b` must be floating point or complex, got {dtype}"):
            matrix.solve(torch.ones(8, dtype=dtype))
    with pytest.raises(ArgumentError, match="`b` must be a dense tensor, got one that is torch"):
        matrix.solve(B.to_sparse())
    with pytest.raises(ArgumentError, match="`x` must be a dense tensor, got one that is torch"):
        matrix @ B.to_sparse()
    # What torch promotes them to.
    assert matrix.solve(B.float()).dtype is D
    assert matrix.solve(B + 1j).dtype is torch.complex128


@pytest.mark.parametrize("matrix", [A, A.partition(2)])
@pytest.mark.parametrize("name", ["eigsh", "eigs", "svd"])
def test_tolerances_of_spectra_are_numbers(matrix: Any, name: str) -> None:
    with pytest.raises(ArgumentError, match="`tol` must be a number, got '1e-8'"):
        getattr(matrix, name)(2, tol="1e-8")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.complex128, torch.int64])
def test_unknowns_of_dtypes_that_no_solver_works_in(dtype: torch.dtype) -> None:
    with pytest.raises(DTypeError, match="`u0` must be a tensor of float32 or float64"):
        nonlinear_solve(lambda u: u**3 + u - 1, torch.ones(3, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64])
def test_matrices_of_no_floating_point_numbers(dtype: torch.dtype) -> None:
    with pytest.raises(DTypeError, match="`dense` must be floating point or complex"):
        SparseTensor.from_dense(torch.eye(3, dtype=dtype))


def test_members_of_different_batches_have_no_block_diagonal_matrix() -> None:
    members = [SparseTensor.from_dense(torch.eye(2).expand(k, 2, 2)) for k in (2, 3)]
    with pytest.raises(ArgumentError, match=r"do not broadcast: \(2,\), \(3,\)"):
        SparseTensorList(members).to_block_diagonal()
