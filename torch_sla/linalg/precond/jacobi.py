"""Diagonal scaling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.linalg.precond.diagonal import nonzero_diagonal

if TYPE_CHECKING:
    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.structure import Structure

__all__ = ["Jacobi", "JacobiOptions"]


@dataclass(frozen=True)
class JacobiOptions:
    """Diagonal scaling; nothing to set."""

    name = "jacobi"

    def build(self, pattern: Pattern, values: Tensor, structure: Structure) -> Jacobi:  # noqa: ARG002
        """Make it for a square scalar matrix."""
        return Jacobi(pattern, values)


class Jacobi:
    """``B = diag(A)⁻¹``.

    Parameters
    ----------
    pattern, values
        Square scalar matrix, slot values ``[nnz_csr]``.

    Raises
    ------
    SolveError
        ``BREAKDOWN`` when a diagonal entry is zero or absent; the row is named.
    """

    def __init__(self, pattern: Pattern, values: Tensor) -> None:
        self._inverse = nonzero_diagonal(pattern, values, "jacobi").reciprocal_().unsqueeze(1)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._inverse.numel() * self._inverse.element_size()

    def apply(self, r: Tensor) -> Tensor:
        """Return ``B r``."""
        return self._inverse * r

    def apply_adjoint(self, r: Tensor) -> Tensor:
        """Return ``Bᴴ r``."""
        return torch.conj(self._inverse) * r
