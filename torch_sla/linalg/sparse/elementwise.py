"""Functions of the stored entries.

Positions that are not stored stay zero, also where the function of zero is not (``exp``, ``cos``):
the name of the method says "of the entries". Entries at equal coordinates are added up first unless
the function is linear, so the answer is that of the matrix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from torch_sla.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch_sla.linalg.sparse.tensor import SparseTensor

__all__ = ["apply", "clamp", "imag", "of_entries", "power"]


def apply(A: SparseTensor, function: Callable[[Tensor], Tensor]) -> SparseTensor:
    """Apply a function to the stored entries ``[*batch, nnz_csr, *block]``, coalesced.

    Parameters
    ----------
    function
        Tensor to tensor of the same shape; torch functions make it differentiable.
    """
    return A.from_pattern(A.pattern.slots, function(A.csr_values))


def of_entries(name: str, *, linear: bool = False) -> Callable[[SparseTensor], SparseTensor]:
    """Make the method that applies ``torch.<name>`` to the stored entries."""
    function = getattr(torch, name)

    def method(A: SparseTensor) -> SparseTensor:
        if linear:
            return A.from_pattern(A.pattern, function(A.values))
        return apply(A, function)

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"Return ``torch.{name}`` of the stored entries; other positions stay zero."
    return method


def imag(A: SparseTensor) -> SparseTensor:
    """Return the imaginary parts of the stored entries, zeros for a real matrix."""
    values = A.values.imag if A.values.is_complex() else A.values * 0
    return A.from_pattern(A.pattern, values)


def power(A: SparseTensor, exponent: Any) -> SparseTensor:
    """Raise the stored entries to a power, elementwise.

    Parameters
    ----------
    exponent
        A number or a tensor without dimensions, which may require a gradient.

    Raises
    ------
    ArgumentError
        For exponents of more dimensions.
    """
    _expect_number(exponent, "exponent")
    return apply(A, lambda values: values**exponent)


def clamp(A: SparseTensor, min: float | None = None, max: float | None = None) -> SparseTensor:
    """Limit the stored entries to ``[min, max]``, numbers both.

    Raises
    ------
    ArgumentError
        For limits that have dimensions.
    """
    _expect_number(min, "min")
    _expect_number(max, "max")
    return apply(A, lambda values: torch.clamp(values, min, max))


def _expect_number(given: Any, name: str) -> None:
    """Refuse what has entries of its own: they would meet the stored ones, in an order nobody sees."""
    if np.ndim(given):
        raise ArgumentError(
            f"`{name}` must be a number, got {type(given).__name__} {list(np.shape(given))}; use `apply` for what "
            "varies between the entries, which are those of `A.pattern.slots`"
        )
