"""Determinants of sparse matrices: exact, from a factorisation, with exact gradients.

The gradient of a determinant needs the entries of the inverse on the pattern. They come from the
factor where the backend has a selected inverse, otherwise from one solve per column, up to 10 000
of them; beyond that asking for the gradient raises. Nothing here is a stochastic estimate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, GradientError, Result, SolveError
from torch_sla.linalg.adjoint.determinant import DENSE_LIMIT
from torch_sla.linalg.adjoint.saving import is_followed
from torch_sla.linalg.adjoint.solve import Whole
from torch_sla.linalg.adjoint.unmapped import refuse_vmap
from torch_sla.linalg.factorize import CholeskyFactorization, Factorization, LUFactorization
from torch_sla.linalg.sparse.members import stacked
from torch_sla.linalg.sparse.transforms import physical

if TYPE_CHECKING:
    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.tensor import SparseTensor

__all__ = ["det", "logdet", "slogdet"]


def det(A: SparseTensor) -> Tensor:
    """Return the determinant ``[*batch]``.

    Raises
    ------
    GradientError
        When a gradient is asked for of a singular matrix with more than 1000 rows.

    Examples
    --------
    >>> import torch
    >>> from torch_sla.linalg import SparseTensor
    >>> a = torch.tensor([1.0, 1.0, 1.0, 1.0], dtype=torch.float64, requires_grad=True)
    >>> i, j = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    >>> d = SparseTensor(a, i, j, (2, 2)).det()
    >>> d.backward()
    >>> d.item(), a.grad.round().tolist()
    (0.0, [1.0, -1.0, -1.0, 1.0])
    """
    _check(A)
    if A.is_cuda:
        return det(A.cpu()).to(A.device)
    if not A.batch_size:
        return stacked(A, [])
    if not A.flat_shape[0]:
        return A.flat_slots()[1].sum(-1) + A.csr_values.new_ones(A.batch_shape)
    F = _factor(A)
    if F is not None:
        return F.det()
    if not A.is_batched:
        return _singular_det(A)
    return stacked(A, [det(member) for member in _members(A)])


def slogdet(A: SparseTensor) -> tuple[Tensor, Tensor]:
    """Return the sign (or phase) and the logarithm of the absolute value, each ``[*batch]``.

    A singular matrix gives ``(0, -inf)``.

    Raises
    ------
    GradientError
        For a singular matrix that requires grad.
    """
    _check(A)
    if A.is_cuda:
        # Factors on a device do not tell the sign of their pivoting.
        sign, log = slogdet(A.cpu())
        return sign.to(A.device), log.to(A.device)
    if not A.batch_size:
        return stacked(A, []), stacked(A, [], dtype=A.dtype.to_real())
    if not A.flat_shape[0]:
        zero = A.flat_slots()[1].abs().sum(-1)
        return zero + torch.ones_like(zero, dtype=A.dtype), zero
    F = _factor(A)
    if F is not None:
        return F.slogdet()
    if A.is_batched:
        signs, logs = zip(*(slogdet(member) for member in _members(A)), strict=True)
        return stacked(A, signs), stacked(A, logs)
    if is_followed(A.values):
        raise GradientError(
            "the logarithm of the determinant of a singular matrix has no derivative; detach the matrix, or "
            "differentiate `det`"
        )
    zero = A.csr_values.new_zeros(())
    return zero, zero.real - float("inf")


def logdet(A: SparseTensor) -> Tensor:
    """Return ``log det A`` ``[*batch]``; -inf for a singular matrix, NaN for a negative determinant.

    For complex matrices the principal logarithm.

    Examples
    --------
    >>> import torch
    >>> from torch_sla.linalg import SparseTensor
    >>> n = 2000
    >>> d = torch.full((n,), 1e-3, dtype=torch.float64)
    >>> float(SparseTensor.diag(d).logdet() / n)  # the determinant itself is 1e-6000
    -6.9077...
    """
    sign, log = slogdet(A)
    if sign.is_complex():
        return torch.complex(log, sign.angle())
    return torch.where(sign < 0, float("nan"), log)


def _check(A: SparseTensor) -> None:
    refuse_vmap(A.values, "determinants")
    if not A.is_square:
        raise ArgumentError(f"a determinant needs a square matrix, got {tuple(A.shape)}")


def _members(A: SparseTensor) -> list[SparseTensor]:
    pattern, values = A.flat_slots()
    flat = values.reshape(A.batch_size, values.shape[-1])
    return [A.from_pattern(pattern, v, A.declared) for v in flat]


def _factor(A: SparseTensor) -> Factorization | None:
    """Factorise, or find the matrix (of a batch, one of them) singular."""
    if A.known_structure().positive_definite:
        try:
            return CholeskyFactorization(A)
        except (SolveError, ArgumentError):
            pass  # near-singular, or no Cholesky here: pivoting decides
    try:
        return LUFactorization(A)
    except SolveError as error:
        if error.result is Result.SINGULAR:
            return None
        raise


def _singular_det(A: SparseTensor) -> Tensor:
    """Zero, with the cofactors as its derivative where the matrix is small enough to have them."""
    n = A.flat_shape[0]
    if not is_followed(A.values):
        return A.csr_values.new_zeros(())
    if n > DENSE_LIMIT:
        raise GradientError(
            f"the gradient of the determinant of a singular matrix is computed up to {DENSE_LIMIT} rows, this one "
            f"has {n}; detach the matrix"
        )
    from torch_sla.linalg.adjoint.determinant import determinant

    pattern, values = A.flat_slots()
    return determinant(values, _Singular(pattern, physical(values)))


class _Singular(Whole):
    """What is known of a singular matrix: its pattern."""

    singular = True
    starts = False

    def __init__(self, pattern: Pattern, values: Tensor) -> None:
        self.pattern = pattern
        self._zero = values.new_zeros(())

    def slogdet(self) -> tuple[Tensor, Tensor]:
        """Return sign zero, logarithm -inf."""
        return self._zero, self._zero.real - float("inf")

    def run(
        self, values: Tensor, b: Tensor, *, adjoint: bool, start: Tensor | None = None
    ) -> Tensor:
        """Refuse: there is no inverse."""
        del values, b, adjoint, start
        raise SolveError(Result.SINGULAR, "an inverse was asked for")

    def selected_inverse(self, values: Tensor) -> Tensor | None:
        """Tell nothing."""
        del values
        return None
