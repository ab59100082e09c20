"""The functions an expression may use: nothing outside this table can be called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FIELD_OPERATORS", "FUNCTIONS", "Function"]


@dataclass(frozen=True, slots=True)
class Function:
    """A callable of expressions.

    Parameters
    ----------
    apply
        What it does to tensors (aligned to broadcast against each other).
    arity
        Least and greatest number of arguments.
    contracts
        Whether the trailing (vector) dimension of the arguments is summed away.
    """

    apply: Callable[..., Tensor]
    arity: tuple[int, int] = (1, 1)
    contracts: bool = False


def _reduce(pairwise: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    def apply(first: Tensor, *others: Tensor) -> Tensor:
        for other in others:
            first = pairwise(first, other)
        return first

    return apply


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1)


def _norm(a: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(a, dim=-1)
    return norm


def _identity_where_real(name: str) -> Callable[[Tensor], Tensor]:
    def apply(a: Tensor) -> Tensor:
        if a.is_complex():
            return a.real if name == "real" else a.imag
        return a if name == "real" else torch.zeros_like(a)

    return apply


_ELEMENTWISE = (
    *("abs", "ceil", "erf", "erfc", "exp", "expm1", "floor"),
    *("log", "log10", "log1p", "log2", "sign", "sqrt"),
    *("sin", "cos", "tan", "asin", "acos", "atan"),
    *("sinh", "cosh", "tanh", "asinh", "acosh", "atanh"),
)

FUNCTIONS: dict[str, Function] = {
    **{name: Function(getattr(torch, name)) for name in _ELEMENTWISE},
    "atan2": Function(torch.atan2, (2, 2)),
    "conj": Function(torch.conj),
    "dot": Function(_dot, (2, 2), contracts=True),
    "imag": Function(_identity_where_real("imag")),
    "max": Function(_reduce(torch.maximum), (2, 8)),
    "min": Function(_reduce(torch.minimum), (2, 8)),
    "norm": Function(_norm, (1, 1), contracts=True),
    "real": Function(_identity_where_real("real")),
    "where": Function(torch.where, (3, 3)),
}

FIELD_OPERATORS = frozenset({"grad"})
"""Operators on a field by name; their values come from the discretisation, not from this table."""
