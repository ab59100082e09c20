"""Equilibration: row and column scales that bring the entries of a matrix to about one.

van der Sluis, Numer. Math. 14, 1969; the symmetric iteration: Ruiz, "A scaling algorithm to
equilibrate both rows and columns norms in matrices", RAL-TR-2001-034. Scales are powers of two, so
that scaling itself makes no rounding error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.sparse.pattern import Pattern

__all__ = ["equilibrate"]

# Rows or columns whose largest entries differ by less are left alone.
_SPREAD = 1e4
_SWEEPS = 4


def equilibrate(pattern: Pattern, values: Tensor, hermitian: bool) -> tuple[Tensor, Tensor] | None:
    """Return scales ``(R [M], C [N])`` of ``R A C``, or None where they would change little.

    Parameters
    ----------
    pattern, values
        Square scalar matrix, slots.
    hermitian
        Whether to keep it Hermitian: then ``R = C``.

    Examples
    --------
    >>> import torch
    >>> from torch_sla.linalg.sparse.pattern import Pattern
    >>> i = torch.arange(2)
    >>> equilibrate(Pattern.from_coo(i, i, (2, 2)), torch.tensor([1.0, 2.0**40]), True)[0].tolist()
    [1.0, 9.5367431640625e-07]
    """
    size = values.abs()
    rows, cols = _largest(pattern, size)
    if not bool((rows > 0).all()) or not bool((cols > 0).all()):
        return None
    if float(rows.amax()) < _SPREAD * float(rows.amin()) and float(cols.amax()) < _SPREAD * float(
        cols.amin()
    ):
        return None
    row, col = pattern.csr_row.long(), pattern.ccol.long()
    R, C = torch.ones_like(rows), torch.ones_like(cols)
    for _ in range(_SWEEPS):
        rows, cols = _largest(pattern, size * R[row] * C[col])
        if hermitian:
            R = C = R / rows.sqrt()
        else:
            R, C = R / rows.sqrt(), C / cols.sqrt()
    R, C = (torch.exp2(torch.log2(s).round()) for s in (R, C))
    if not bool(torch.isfinite(R).all() and torch.isfinite(C).all()):
        return None
    return R, C


def _largest(pattern: Pattern, size: Tensor) -> tuple[Tensor, Tensor]:
    """Largest entry of each row and of each column."""
    M, N = pattern.shape
    rows, cols = size.new_zeros(M), size.new_zeros(N)
    rows.scatter_reduce_(0, pattern.csr_row.long(), size, "amax")
    cols.scatter_reduce_(0, pattern.ccol.long(), size, "amax")
    return rows, cols
