"""Differentiable determinants.

For a nonsingular matrix ``d log det A = tr(A⁻¹ dA)``, so with torch's convention for complex
gradients

    grad_a = g conj(A⁻ᵀ) on the pattern        (logarithm),
    grad_a = g conj(C)   on the pattern        (determinant), with the cofactors C = det(A) A⁻ᵀ.

Cofactors are finite for singular matrices too, where the second form of them is 0 · ∞. With the
singular value decomposition ``A = U diag(s) Vᴴ``,

    C = det(U) det(Vᴴ) conj(U) diag(Π_{j≠i} s_j) Vᵀ,

which is backward stable; it is dense, and used for small matrices that are singular or nearly so.
The determinant may underflow where cofactors do not: they are scaled by the logarithm.

Magnus and Neudecker, Matrix Differential Calculus, 3rd ed., section 8.3.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from torch_sla.errors import GradientError, Result, SolveError
from torch_sla.linalg.adjoint.first_order import first_order
from torch_sla.linalg.adjoint.inverse_entries import Inverter, OfFactors, inverse_entries
from torch_sla.linalg.adjoint.nested import nested
from torch_sla.linalg.adjoint.saving import is_followed

__all__ = ["DENSE_LIMIT", "determinant", "log_determinant"]

DENSE_LIMIT = 1_000
_ONCE = "second derivatives of a determinant need a regular matrix"


class Determiner(Inverter, Protocol):
    """A factorised matrix that knows its determinant."""

    @property
    def singular(self) -> bool:
        """Whether the factorisation met an exactly zero pivot."""

    def slogdet(self) -> tuple[Tensor, Tensor]:
        """Sign or phase, and log of the absolute value; ``(0, -inf)`` for a singular matrix."""


class LogDeterminant(OfFactors):
    """Values ``[nnz_csr]`` -> ``log |det A|``, for complex values the complex logarithm."""

    mapped = "determinants"

    @staticmethod
    def forward(values: Tensor, solver: Determiner) -> Tensor:
        sign, logabs = solver.slogdet()
        if not values.is_complex():
            return logabs.to(values.dtype)
        return torch.complex(logabs.real, sign.angle().to(logabs.real.dtype)).to(values.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (values,) = ctx.saved_tensors
        return grad * inverse_entries(values, ctx.solver).conj(), None

    @staticmethod
    @nested
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        (values,) = ctx.saved_tensors
        return (inverse_entries(values, ctx.solver) * tangent).sum()


class Determinant(OfFactors):
    """Values ``[nnz_csr]`` -> ``det A``."""

    mapped = "determinants"

    @staticmethod
    def forward(values: Tensor, solver: Determiner) -> Tensor:
        sign, logabs = solver.slogdet()
        return (sign * logabs.exp()).to(values.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (values,) = ctx.saved_tensors
        solver: Determiner = ctx.solver
        if torch.is_grad_enabled() or is_followed(values) or is_followed(grad):
            if solver.singular:
                raise GradientError(_ONCE)
            inverse = inverse_entries(values, solver)
            return grad * (determinant(values, solver) * inverse).conj(), None
        return grad * _cofactors(values, solver).conj(), None

    @staticmethod
    @nested
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        (values,) = ctx.saved_tensors
        solver: Determiner = ctx.solver
        if not solver.singular:
            cofactors = determinant(values, solver) * inverse_entries(values, solver)
            return (cofactors * tangent).sum()
        with torch.no_grad():
            found = (_cofactors(values.detach(), solver) * tangent.detach()).sum()
        return first_order(found, _ONCE, values, tangent)


def _cofactors(values: Tensor, solver: Determiner) -> Tensor:
    n = solver.pattern.shape[0]
    inverse = None if solver.singular else _inverse(values, solver, n)
    if inverse is not None:
        sign, logabs = solver.slogdet()
        size = inverse.abs()
        growth = float(size.max() * values.abs().max()) if size.numel() else 0.0
        if growth * torch.finfo(values.dtype).eps * 100 < 1 or n > DENSE_LIMIT:
            return (sign * inverse.sgn() * (size.log() + logabs.real).exp()).to(values.dtype)
    elif n > DENSE_LIMIT:
        raise GradientError(
            f"the gradient of the determinant of a singular matrix is computed up to {DENSE_LIMIT} rows, this "
            f"one has {n}"
        )
    pattern = solver.pattern
    row, col = pattern.csr_row.long(), pattern.ccol.long()
    dense = values.new_zeros(n, n)
    dense[row, col] = values
    U, s, W = torch.linalg.svd(dense)
    logs, none = s.double().log(), s.new_zeros(1, dtype=torch.float64)
    before = torch.cat([none, logs.cumsum(0)[:-1]])
    after = torch.cat([none, logs.flip(0).cumsum(0)[:-1]]).flip(0)
    others = before + after
    # In units of the largest, since products on the way would leave the range, 0 · ∞ among them.
    unit = others.max().clamp(min=torch.finfo(torch.float64).min)
    turn: Tensor = torch.linalg.det(U) * torch.linalg.det(W)
    cofactors: Tensor = turn * (U.conj() * (others - unit).exp().to(s.dtype)) @ W.conj()
    found = cofactors[row, col]
    return found.sgn() * (found.abs().double().log() + unit).exp().to(s.dtype)


def _inverse(values: Tensor, solver: Determiner, n: int) -> Tensor | None:
    """Entries of the inverse; None where the matrix proves singular and is small enough to go on."""
    try:
        return inverse_entries(values, solver)
    except SolveError as error:
        if error.result is not Result.SINGULAR or n > DENSE_LIMIT:
            raise
        return None


def log_determinant(values: Tensor, solver: Determiner) -> Tensor:
    """Return ``log |det A|`` (complex: the principal logarithm), differentiable."""
    return LogDeterminant.apply(values, solver)


def determinant(values: Tensor, solver: Determiner) -> Tensor:
    """Return ``det A``, differentiable, at singular matrices once."""
    return Determinant.apply(values, solver)
