"""Differentiable entries of the inverse transpose: the gradient of the logarithm of a determinant.

``s_e = (A⁻¹)[col_e, row_e] = (A⁻ᵀ)_e`` on the slots ``e`` of the pattern of ``A``. Differentiating
``A⁻¹``, ``dA⁻¹ = -A⁻¹ dA A⁻¹``, and with torch's convention for complex gradients a cotangent ``g``,
carried by the matrix ``G`` on the pattern, gives

    grad_a = -(A⁻ᴴ Gᵀ A⁻ᴴ) on the pattern,

and a tangent ``t``, carried by ``T``, gives ``-conj(A⁻ᴴ Tᴴ A⁻ᴴ)`` there. All are computed for a block of
columns at a time, by solves with the factor at hand, so memory grows with n and not n². Recorded for
derivatives of higher order they do grow with n², hence the lower limit there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from torch_sla.errors import GradientError
from torch_sla.linalg.adjoint.matvec import matmul
from torch_sla.linalg.adjoint.nested import nested
from torch_sla.linalg.adjoint.saving import keep
from torch_sla.linalg.adjoint.solve import Solver, linear_solve
from torch_sla.linalg.adjoint.unmapped import Unmapped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch_sla.linalg.sparse.pattern import Pattern

__all__ = ["COLUMN_LIMIT", "RECORDED_LIMIT", "Inverter", "OfFactors", "inverse_entries"]

COLUMN_LIMIT = 10_000
RECORDED_LIMIT = 2_000
_WIDTH = 256


class Inverter(Solver, Protocol):
    """A solver that may know entries of the inverse without solving for them."""

    def selected_inverse(self, values: Tensor) -> Tensor | None:
        """Return ``A⁻ᵀ`` on the slots ``[nnz_csr]``, or None when that takes solves."""


def _columns(pattern: Pattern) -> Iterator[tuple[int, int, Tensor, Tensor, Tensor]]:
    """Blocks of columns: first, end, the slots in them, and their rows and columns in the block."""
    n = pattern.shape[1]
    crow, order = pattern.transposed.crow, pattern.transpose_permutation.long()
    rows, cols = pattern.csr_row.long(), pattern.ccol.long()
    for first in range(0, n, _WIDTH):
        end = min(first + _WIDTH, n)
        slots = order[int(crow[first]) : int(crow[end])]
        yield first, end, slots, rows[slots], cols[slots] - first


def _unit(values: Tensor, n: int, first: int, end: int) -> Tensor:
    e = values.new_zeros(n, end - first)
    i = torch.arange(end - first, device=values.device)
    e[first + i, i] = 1
    return e


class OfFactors(Unmapped):
    """Values ``[nnz_csr]``, and the solver that holds their factors -> something that follows from them."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        del output
        values, ctx.solver = inputs
        keep(ctx, values)


class InverseEntries(OfFactors):
    """Values ``[nnz_csr]`` -> ``A⁻ᵀ`` on the slots ``[nnz_csr]``."""

    mapped = "entries of inverses"

    @staticmethod
    def forward(values: Tensor, solver: Inverter) -> Tensor:
        known = solver.selected_inverse(values)
        if known is not None:
            return known
        pattern = solver.pattern
        out = torch.empty_like(values)
        for first, end, slots, rows, cols in _columns(pattern):
            unit = _unit(values, pattern.shape[0], first, end)
            out[slots] = solver.run(values, unit, adjoint=True).conj()[rows, cols]
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (values,) = ctx.saved_tensors
        return -_between(values, ctx.solver, grad), None

    @staticmethod
    @nested
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        (values,) = ctx.saved_tensors
        return -_between(values, ctx.solver, tangent.conj()).conj()


def _between(values: Tensor, solver: Inverter, middle: Tensor) -> Tensor:
    """Return ``A⁻ᴴ Mᵀ A⁻ᴴ`` on the pattern of ``A``, of ``M`` on it too ``[nnz_csr]``."""
    pattern: Pattern = solver.pattern
    n = pattern.shape[0]
    limit = RECORDED_LIMIT if torch.is_grad_enabled() else COLUMN_LIMIT
    if n > limit:
        raise GradientError(
            f"this derivative of an inverse or determinant takes {n} solves with {n} unknowns; "
            f"the limit is {limit}"
        )
    turned = pattern.transpose_values(middle)
    parts, places = [], []
    for first, end, slots, rows, cols in _columns(pattern):
        x = linear_solve(values, _unit(values, n, first, end), solver, adjoint=True)
        x = linear_solve(values, matmul(turned, x, pattern.transposed), solver, adjoint=True)
        parts.append(x[rows, cols])
        places.append(slots)
    back = torch.empty_like(pattern.transpose_permutation.long())
    order = torch.cat(places)
    back[order] = torch.arange(order.numel(), device=order.device)
    return torch.cat(parts)[back]


def inverse_entries(values: Tensor, solver: Inverter) -> Tensor:
    """Return ``A⁻ᵀ`` on the pattern of ``A`` ``[nnz_csr]``, differentiable.

    Raises
    ------
    GradientError
        When it takes more than `COLUMN_LIMIT` solves.
    """
    n = solver.pattern.shape[0]
    if n > COLUMN_LIMIT and solver.selected_inverse(values.detach()) is None:
        raise GradientError(
            f"entries of the inverse take {n} solves here, the limit is {COLUMN_LIMIT}; a Hermitian matrix has "
            "them from the factorisation (`cholesky`, `ldlt` with backend 'native')"
        )
    return InverseEntries.apply(values, solver)
