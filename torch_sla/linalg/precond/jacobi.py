"""Diagonal scaling."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.errors import Result, SolveError

if TYPE_CHECKING:
    from torch_sla.linalg.sparse.pattern import Pattern

__all__ = ["Jacobi"]


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
        slots = pattern.diagonal_slots.long()
        missing = slots < 0
        diagonal = values[slots.clamp(min=0)] if values.numel() else values.new_zeros(slots.shape)
        bad = missing | (diagonal == 0)
        if bool(bad.any()):
            row = int(bad.nonzero()[0])
            raise SolveError(
                Result.BREAKDOWN, f"jacobi needs a nonzero diagonal; row {row} has none"
            )
        self._inverse = (1 / diagonal).unsqueeze(1)

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
