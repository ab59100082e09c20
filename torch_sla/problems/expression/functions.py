"""The functions an expression may use: nothing outside this table can be called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.problems.expression.ranked import Ranked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "ELEMENTWISE",
    "FIELD_OPERATORS",
    "FUNCTIONS",
    "Function",
    "determinant",
    "largest",
    "length",
    "root",
]


@dataclass(frozen=True, slots=True)
class Function:
    """A callable of expressions.

    Parameters
    ----------
    apply
        What it does to tensors (aligned to broadcast against each other); to ranked values where there
        are `results`.
    arity
        Least and greatest number of arguments.
    results
        Rank of the result for each combination of ranks of the arguments; None for functions that act
        on scalars alone.
    """

    apply: Callable[..., Any]
    arity: tuple[int, int] = (1, 1)
    results: Mapping[tuple[int, ...], int] | None = None


def _reduce(pairwise: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    def apply(first: Tensor, *others: Tensor) -> Tensor:
        for other in others:
            first = pairwise(first, other)
        return first

    return apply


def _dot(a: Ranked, b: Ranked) -> Ranked:
    left, right = a.tensor, b.tensor
    if a.rank == 2 and hasattr(left, "pattern"):  # a sparse matrix of an algebraic problem
        return Ranked(left @ right, 1)
    if a.rank == 2:
        return Ranked((left * right[..., None, :]).sum(-1), 1)
    return Ranked((left * right).sum(-1))


def determinant(A: Tensor) -> Tensor:
    """Return the determinant of small matrices ``[..., d, d]``, differentiable to any order, singular ones too."""
    if A.shape[-1] == 1:
        return A[..., 0, 0]
    if A.shape[-1] == 2:
        return A[..., 0, 0] * A[..., 1, 1] - A[..., 0, 1] * A[..., 1, 0]
    if A.shape[-1] == 3:
        cofactors: Tensor = torch.linalg.cross(A[..., 1, :], A[..., 2, :], dim=-1)
        return (A[..., 0, :] * cofactors).sum(-1)
    return torch.linalg.det(A)


def root(x: Tensor, p: float) -> Tensor:
    """Return the p-th root of a sum of powers, whose derivative at zero is zero, as that of a norm."""
    zero = x == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, x) ** (1.0 / p))


def length(v: Tensor) -> Tensor:
    """Return the Euclidean norm of vectors ``[..., n]``, differentiable to any order; at zero derivatives are zero."""
    parts = torch.cat([v.real, v.imag], -1) if v.is_complex() else v
    return root((parts * parts).sum(-1), 2.0)


def largest(size: Tensor, dim: tuple[int, ...]) -> Tensor:
    """Return the largest size, to scale with: detached, of dimensions that are kept, and one where all are zero."""
    scale = size.detach().amax(dim, keepdim=True)
    return torch.where(scale > 0, scale, 1.0)


def _von_mises(s: Ranked) -> Ranked:
    """``sqrt(3/2 dev(s) : dev(s))`` of a stress; of a 2 by 2 one as plane stress."""
    a = s.tensor
    if a.shape[-1] == 2:
        a = torch.nn.functional.pad(a, (0, 1, 0, 1))
    dev = a - a.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None] * torch.eye(
        3, dtype=a.dtype, device=a.device
    )
    return Ranked(1.5**0.5 * length(dev.flatten(-2)))


def _principal(a: Ranked) -> Ranked:
    """Eigenvalues of the symmetric part, largest first; where two meet, the gradient is one of many."""
    symmetric = 0.5 * (a.tensor + a.tensor.transpose(-1, -2))
    return Ranked(torch.linalg.eigvalsh(symmetric).flip(-1), 1)


def _identity_where_real(name: str) -> Callable[[Tensor], Tensor]:
    def apply(a: Tensor) -> Tensor:
        if a.is_complex():
            return a.real if name == "real" else a.imag
        return a if name == "real" else torch.zeros_like(a)

    return apply


ELEMENTWISE = (
    *("abs", "ceil", "erf", "erfc", "exp", "expm1", "floor"),
    *("log", "log10", "log1p", "log2", "sign", "sqrt"),
    *("sin", "cos", "tan", "asin", "acos", "atan"),
    *("sinh", "cosh", "tanh", "asinh", "acosh", "atanh"),
)

FUNCTIONS: dict[str, Function] = {
    **{name: Function(getattr(torch, name)) for name in ELEMENTWISE},
    "atan2": Function(torch.atan2, (2, 2)),
    "conj": Function(torch.conj),
    "det": Function(lambda a: Ranked(determinant(a.tensor)), (1, 1), {(2,): 0}),
    "dot": Function(_dot, (2, 2), {(1, 1): 0, (2, 1): 1}),
    "inner": Function(
        lambda a, b: Ranked((a.tensor * b.tensor).sum((-2, -1))), (2, 2), {(2, 2): 0}
    ),
    "imag": Function(_identity_where_real("imag")),
    "max": Function(_reduce(torch.maximum), (2, 8)),
    "min": Function(_reduce(torch.minimum), (2, 8)),
    "norm": Function(lambda a: Ranked(length(a.tensor)), (1, 1), {(1,): 0}),
    "principal": Function(_principal, (1, 1), {(2,): 1}),
    "real": Function(_identity_where_real("real")),
    "sym": Function(lambda a: Ranked(0.5 * (a.tensor + a.tensor.mT), 2), (1, 1), {(2,): 2}),
    "trace": Function(
        lambda a: Ranked(a.tensor.diagonal(dim1=-2, dim2=-1).sum(-1)), (1, 1), {(2,): 0}
    ),
    "transpose": Function(lambda a: Ranked(a.tensor.mT, 2), (1, 1), {(2,): 2}),
    "von_mises": Function(_von_mises, (1, 1), {(2,): 0}),
    "where": Function(torch.where, (3, 3)),
}

FIELD_OPERATORS = frozenset({"div", "grad", "sym_grad"})
"""Operators on a field by name; their values come from the discretisation, not from this table."""
