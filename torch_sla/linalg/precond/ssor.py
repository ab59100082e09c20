"""Symmetric successive over-relaxation, one sweep down and one up.

Saad, Iterative Methods for Sparse Linear Systems, 2nd ed., section 10.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch_sla.errors import ArgumentError
from torch_sla.linalg.kernels.incomplete import triangular_solve
from torch_sla.linalg.precond.diagonal import nonzero_diagonal

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.structure import Structure

__all__ = ["SSOR", "SSORInverse"]


@dataclass(frozen=True)
class SSOR:
    """Symmetric over-relaxation.

    Parameters
    ----------
    omega
        Relaxation, in (0, 2); 1 is symmetric Gauss-Seidel.
    """

    omega: float = 1.0
    name = "ssor"

    def __post_init__(self) -> None:
        if not 0 < self.omega < 2:
            raise ArgumentError(f"`omega` must lie in (0, 2), got {self.omega}")

    def build(
        self,
        pattern: Pattern,
        values: Tensor,
        structure: Structure,  # noqa: ARG002
    ) -> SSORInverse:
        """Make it for a square scalar matrix on the CPU."""
        return SSORInverse(pattern, values, self.omega)


class SSORInverse:
    """``B⁻¹ = (D/ω + L) (ω/(2-ω)) D⁻¹ (D/ω + U)`` for ``A = L + D + U``.

    Raises
    ------
    SolveError
        ``BREAKDOWN`` when a diagonal entry is zero or absent; the row is named.
    """

    def __init__(self, pattern: Pattern, values: Tensor, omega: float) -> None:
        diagonal = nonzero_diagonal(pattern, values, "ssor")
        self._values = values.clone()
        self._matrix = pattern.crow, pattern.ccol, pattern.diagonal_slots, self._values
        self._inverse = omega / diagonal
        self._middle = ((2 - omega) / omega * diagonal).unsqueeze(1)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return (self._values.numel() + 2 * self._inverse.numel()) * self._values.element_size()

    def _sweep(self, b: Tensor, upper: bool, adjoint: bool) -> Tensor:
        return triangular_solve(*self._matrix, self._inverse, b, upper=upper, adjoint=adjoint)

    def apply(self, r: Tensor) -> Tensor:
        """Return ``B r``."""
        return self._sweep(self._middle * self._sweep(r, False, False), True, False)

    def apply_adjoint(self, r: Tensor) -> Tensor:
        """Return ``Bᴴ r``."""
        middle = self._middle.conj()
        return self._sweep(middle * self._sweep(r, True, True), False, True)
