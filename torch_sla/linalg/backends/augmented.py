"""Least-squares problems as square, sparse, indefinite systems.

For a tall ``C`` ``[m, n]`` of full column rank and any ``α > 0`` the augmented matrix

    K = [ α I   C ]        K [s]   [b]            K [y]   [0]
        [ Cᴴ    0 ],         [x] = [0]    and       [z] = [g]

gives in ``x`` the solution of ``min ‖b - C x‖`` (``α s`` is the residual), and in ``y`` the shortest
solution of ``Cᴴ y = g``. So one factor of ``K`` serves a matrix of either shape and its adjoint.
``cond(K)`` is about ``cond(C)`` where ``α`` is near the smallest singular value; a thousandth of the
largest entry is the customary guess. Björck, Numerical Methods for Least Squares Problems, SIAM,
1996, sections 1.2.1 and 2.5.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.linalg.sparse.pattern import Pattern

if TYPE_CHECKING:
    from torch_sla.linalg.backends.base import Mode

__all__ = ["Augmented"]

_ALPHA = 1e-3


class Augmented:
    """The map between a rectangular matrix and its augmented system.

    Parameters
    ----------
    pattern
        Scalar slot pattern, not square.

    Attributes
    ----------
    pattern
        Pattern of ``K``, structurally symmetric.
    """

    def __init__(self, pattern: Pattern) -> None:
        M, N = pattern.shape
        self._tall = M > N
        self._m, self._n = max(M, N), min(M, N)
        row, col = pattern.csr_row.long(), pattern.ccol.long()
        if not self._tall:
            row, col = col, row
        identity = torch.arange(self._m, device=pattern.device)
        rows = torch.cat([identity, row, col + self._m])
        cols = torch.cat([identity, col + self._m, row])
        self._size = self._m + self._n
        self._made = Pattern.from_coo(rows, cols, (self._size, self._size))
        self.pattern = self._made.slots

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._made.nbytes

    def values(self, values: Tensor) -> Tensor:
        """Slot values of ``K`` from those of the matrix."""
        alpha = _ALPHA * values.abs().amax() if values.numel() else values.new_ones(())
        identity = alpha.to(values.dtype).expand(self._m)
        # Slots hold A; K needs C = A or Aᴴ above the diagonal and its adjoint below.
        above, below = values, values.conj()
        if not self._tall:
            above, below = below, above
        return self._made.coalesce(torch.cat([identity, above, below]).resolve_conj())

    def embed(self, b: Tensor, mode: Mode) -> tuple[Tensor, slice]:
        """Return the right-hand side for ``op(A) x = b`` and where ``x`` is in the solution.

        `mode` ``"t"`` must have been turned into ``"h"`` by conjugation.
        """
        least_squares = self._tall == (mode == "n")
        out = b.new_zeros(self._size, b.shape[1])
        first, second = slice(0, self._m), slice(self._m, self._size)
        out[first if least_squares else second] = b
        return out, second if least_squares else first
