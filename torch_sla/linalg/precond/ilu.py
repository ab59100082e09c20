"""Incomplete LU without fill-in.

Meijerink and van der Vorst, Math. Comp. 31, 1977, pages 148-162; Saad, Iterative Methods for Sparse
Linear Systems, 2nd ed., algorithm 10.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch_sla.errors import Result, SolveError
from torch_sla.linalg.kernels.incomplete import ilu0, triangular_solve
from torch_sla.linalg.precond.diagonal import nonzero_diagonal

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.structure import Structure

__all__ = ["ILU", "ILUInverse"]


@dataclass(frozen=True)
class ILU:
    """Incomplete LU on the pattern of the matrix; nothing to set.

    For general matrices, with `gmres` or `bicgstab`. It exists for M-matrices and for most
    diagonally dominant ones; a vanishing pivot is reported.
    """

    name = "ilu"

    def build(
        self,
        pattern: Pattern,
        values: Tensor,
        structure: Structure,  # noqa: ARG002
    ) -> ILUInverse:
        """Make it for a square scalar matrix on the CPU."""
        return ILUInverse(pattern, values)


class ILUInverse:
    """``B⁻¹ = (I + L) U`` with the entries of ``A`` on its own pattern.

    Raises
    ------
    SolveError
        ``BREAKDOWN`` when a diagonal entry is zero or absent, or a pivot vanishes.
    """

    def __init__(self, pattern: Pattern, values: Tensor) -> None:
        nonzero_diagonal(pattern, values, "ilu")
        diagonal = pattern.diagonal_slots
        factors, row = ilu0(pattern.crow, pattern.ccol, diagonal, values)
        if row >= 0:
            raise SolveError(Result.BREAKDOWN, f"ilu met a zero pivot in row {row}")
        self._factors = factors
        self._matrix = pattern.crow, pattern.ccol, diagonal, factors
        self._inverse = 1 / factors[diagonal.long()]

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return (self._factors.numel() + self._inverse.numel()) * self._factors.element_size()

    def _solve(self, b: Tensor, upper: bool, adjoint: bool) -> Tensor:
        inverse = self._inverse if upper else None
        return triangular_solve(*self._matrix, inverse, b, upper=upper, adjoint=adjoint)

    def apply(self, r: Tensor) -> Tensor:
        """Return ``B r``."""
        return self._solve(self._solve(r, False, False), True, False)

    def apply_adjoint(self, r: Tensor) -> Tensor:
        """Return ``Bᴴ r``."""
        return self._solve(self._solve(r, True, True), False, True)
