"""Incomplete Cholesky without fill-in, shifted until it exists.

Meijerink and van der Vorst, Math. Comp. 31, 1977, pages 148-162; the shift: Manteuffel, Math. Comp.
34, 1980, pages 473-497.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch_sla.errors import ArgumentError, Result, SolveError
from torch_sla.linalg.kernels.incomplete import ichol0, triangular_solve
from torch_sla.linalg.precond.diagonal import nonzero_diagonal

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.structure import Structure

__all__ = ["IChol", "ICholInverse"]

# The first shift that is tried after a pivot fails; doubled from then on.
_FIRST_SHIFT = 1e-3


@dataclass(frozen=True)
class IChol:
    """Incomplete Cholesky on the pattern of a Hermitian matrix, for `cg` and `minres`.

    Parameters
    ----------
    shift
        Multiple of the diagonal added to it, at least; more is added where a pivot fails.
    """

    shift: float = 0.0
    name = "ichol"

    def __post_init__(self) -> None:
        if not self.shift >= 0:
            raise ArgumentError(f"`shift` must be >= 0, got {self.shift}")

    def build(self, pattern: Pattern, values: Tensor, structure: Structure) -> ICholInverse:
        """Make it for a Hermitian scalar matrix on the CPU.

        Raises
        ------
        SolveError
            ``BREAKDOWN`` when the matrix is known not to be Hermitian.
        """
        if structure.hermitian is False:
            raise SolveError(Result.BREAKDOWN, "ichol needs a Hermitian matrix; use 'ilu'")
        return ICholInverse(pattern, values, self.shift)


class ICholInverse:
    """``B⁻¹ = L Lᴴ``, positive definite by construction.

    Raises
    ------
    SolveError
        ``NOT_POSITIVE_DEFINITE`` when a diagonal entry is not positive, so that no shift helps.
    """

    def __init__(self, pattern: Pattern, values: Tensor, shift: float = 0.0) -> None:
        diagonal = nonzero_diagonal(pattern, values, "ichol").real
        if bool((diagonal <= 0).any()):
            row = int((diagonal <= 0).nonzero()[0])
            raise SolveError(
                Result.NOT_POSITIVE_DEFINITE, f"ichol met a diagonal entry <= 0 in row {row}"
            )
        slots = pattern.diagonal_slots
        while True:
            factor, row = ichol0(pattern.crow, pattern.ccol, slots, values, shift=shift)
            if row < 0:
                break
            shift = max(2 * shift, _FIRST_SHIFT)
            if not shift < float("inf"):
                raise SolveError(Result.NONFINITE, f"ichol met NaN or infinity in row {row}")
        self.shift = shift
        self._factor = factor
        self._matrix = pattern.crow, pattern.ccol, slots, factor
        self._inverse = 1 / factor[slots.long()]

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return (self._factor.numel() + self._inverse.numel()) * self._factor.element_size()

    def apply(self, r: Tensor) -> Tensor:
        """Return ``B r``."""
        for adjoint in (False, True):
            r = triangular_solve(*self._matrix, self._inverse, r, upper=False, adjoint=adjoint)
        return r

    apply_adjoint = apply
