"""Small problems: dense decompositions from LAPACK."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from torch_sla.errors import Result, SolveError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch_sla.linalg.sparse.pattern import Pattern

__all__ = ["dense_pencil", "found", "to_dense"]

T = TypeVar("T")

# What an iteration may end with where a decomposition does not.
_FAILURES = (Result.MAXITER, Result.BREAKDOWN, Result.RESIDUAL, Result.SINGULAR)


def found(iterate: Callable[[], T], decompose: Callable[[], T] | None) -> T:
    """Return what an iteration finds, or, where it fails, what a decomposition does.

    Parameters
    ----------
    iterate
        Raises `SolveError` where it fails.
    decompose
        Finds the same; None where the matrix is too large for that, or it was not left open how to find it.
    """
    try:
        return iterate()
    except SolveError as error:
        if decompose is None or error.result not in _FAILURES:
            raise
    return decompose()


def to_dense(pattern: Pattern, values: Tensor) -> Tensor:
    """Write slot values ``[nnz_csr]`` out, ``[M, N]``."""
    out = values.new_zeros(pattern.shape)
    out[pattern.csr_row.long(), pattern.ccol.long()] = values
    return out


def dense_pencil(
    pattern: Pattern, values: Tensor, mass: tuple[Pattern, Tensor] | None
) -> tuple[Tensor, Tensor]:
    """All eigenvalues, ascending, and M-orthonormal vectors of ``A v = λ M v``.

    Raises
    ------
    SolveError
        ``NOT_POSITIVE_DEFINITE`` when ``M`` is not, by more than rounding tells.
    """
    A = to_dense(pattern, values)
    A = (A + A.mH) / 2
    if mass is None:
        w, U = torch.linalg.eigh(A)
        return w, U
    M = to_dense(*mass)
    L, failed = torch.linalg.cholesky_ex((M + M.mH) / 2)
    # What elimination leaves of a pivot that is null in exact arithmetic is rounding of the diagonal.
    left = L.diagonal().real ** 2 / M.diagonal().real
    if int(failed) or bool((left <= 10 * len(M) * torch.finfo(left.dtype).eps).any()):
        raise SolveError(Result.NOT_POSITIVE_DEFINITE, "`M` has a non-positive pivot")
    half = torch.linalg.solve_triangular(L, A, upper=False)
    standard = torch.linalg.solve_triangular(L, half.mH, upper=False)
    w, X = torch.linalg.eigh((standard + standard.mH) / 2)
    return w, torch.linalg.solve_triangular(L.mH, X, upper=True)
