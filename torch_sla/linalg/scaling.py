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

__all__ = [
    "equilibrate",
    "free_scales",
    "is_uneven",
    "largest_entries",
    "light_sides",
    "powers_of",
    "ratio_is_uneven",
    "scaled",
]

# Rows or columns whose largest entries differ by less are left alone.
_SPREAD = 1e4
_SWEEPS = 4
# Of a solution, that may be missing from light unknowns without a word.
_SHARE = 1e-2


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
    if not bool(is_uneven(pattern, values)):
        return None
    size = values.abs()
    rows, cols = _largest(pattern, size)
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


def scaled(pattern: Pattern, values: Tensor, R: Tensor, C: Tensor) -> Tensor:
    """Return the values of ``R A C`` for powers of two, whose product may be in range where one is not."""
    powers = R.log2()[pattern.csr_row.long()] + C.log2()[pattern.ccol.long()]
    half = (powers / 2).round()
    return values * torch.exp2(half) * torch.exp2(powers - half)


def is_uneven(pattern: Pattern, values: Tensor) -> Tensor:
    """Whether rows or columns are on scales so different that `equilibrate` would act: ``[*B, nnz] -> [*B]``.

    A row or column without entries is not a matter of scale.
    """
    if not pattern.shape[0]:
        return torch.zeros(values.shape[:-1], dtype=torch.bool, device=values.device)
    low, high = torch.stack(_largest(pattern, values.abs()), -2).aminmax(dim=-1)
    return (high >= _SPREAD * low).any(-1) & (low > 0).all(-1)


def free_scales(pattern: Pattern, values: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return scales ``(R [M], C [N])`` of the shorter side of a rectangular matrix, or None where it is even.

    Neither the least-squares solution of a tall matrix of full rank depends on the scales of its columns, nor the
    shortest solution of a wide one on those of its rows; the other side is weighted, and stays as it is.

    Examples
    --------
    >>> import torch
    >>> from torch_sla.linalg.sparse.pattern import Pattern
    >>> p = Pattern.from_coo(torch.arange(3), torch.tensor([0, 1, 1]), (3, 2))
    >>> free_scales(p, torch.tensor([1.0, 2.0**-40, 0.0]))[1].log2().tolist()
    [0.0, 40.0]
    """
    sizes = list(_largest(pattern, values.abs()))
    short = int(pattern.shape[0] > pattern.shape[1])
    low, high = sizes[short].aminmax()
    if not bool((low > 0) & (high >= _SPREAD * low)):
        return None
    sizes[1 - short] = torch.ones_like(sizes[1 - short])
    R, C = (torch.exp2(-torch.log2(s).round()) for s in sizes)
    return (R, C) if bool(torch.isfinite(R).all() & torch.isfinite(C).all()) else None


def light_sides(pattern: Pattern, values: Tensor, rtol: float) -> tuple[str | None, str | None]:
    """Return what to say where an iteration for least squares passes over entries.

    Parameters
    ----------
    pattern, values
        Rectangular scalar matrix, slots.
    rtol
        Where the iteration ends.

    Returns
    -------
    str or None
        Rows are smaller than rounding of the largest, so that products with both lose them; or rows of a tall matrix
        are so small beside the largest that the heavy ones alone meet `rtol`.
    str or None
        Columns of a tall matrix, or rows of a wide one, on which the solution does not depend in exact arithmetic, are
        so small beside the largest that the residual is below `rtol` before they count.

    Examples
    --------
    >>> import torch
    >>> from torch_sla.linalg.sparse.pattern import Pattern
    >>> p = Pattern.from_coo(torch.arange(3), torch.zeros(3, dtype=torch.long), (3, 1))
    >>> light_sides(p, torch.tensor([1.0, 1e-2, 0.0]), 1e-5)
    (None, None)
    >>> light_sides(p, torch.tensor([1.0, 1e-8, 0.0]), 1e-5)[0][:31]
    'the entries of rows are 1.0e+08'
    """
    if 0 in pattern.shape:
        return None, None
    sizes = _largest(pattern, values.abs())
    ratios = [size.amax() / torch.where(size > 0, size, torch.inf).amin() for size in sizes]
    rows, columns = torch.stack(ratios).tolist()
    wide = pattern.shape[0] < pattern.shape[1]
    lost = unseen = None
    if rows * torch.finfo(sizes[0].dtype).eps > 1:
        lost = (
            f"the entries of rows are {rows:.1e} apart, and the light ones are lost beside the heavy ones: "
            "weight them less, eliminate equations that are to hold exactly, leave out rows that are rounding, or, "
            "with fewer equations than unknowns, divide each by its largest entry"
        )
    elif rows * rtol > _SHARE and not wide:
        lost = (
            f"the entries of rows are {rows:.1e} apart, and the heavy ones alone may have met rtol={rtol:.1e} before "
            "the light ones counted: weight them less, eliminate equations that are to hold exactly, ask for a "
            "smaller rtol, or, where the rank is full, use the direct method of the CPU"
        )
    ratio = rows if wide else columns
    if ratio * rtol > _SHARE and not (wide and lost):
        side, these = ("rows", "equations") if wide else ("columns", "unknowns")
        unseen = (
            f"the entries of {side} are {ratio:.1e} apart, and an iteration to rtol={rtol:.1e} may end before the "
            f"light ones count: give {these} units in which they are alike, or use the direct method of the CPU, "
            "which does not depend on them"
        )
    return lost, unseen


def ratio_is_uneven(rows: Tensor, columns: Tensor) -> Tensor:
    """`is_uneven` from the ratios of the largest to the smallest of `_largest`, 0 where one is zero."""
    uneven = (rows >= _SPREAD) | (columns >= _SPREAD)
    return uneven & (rows > 0) & (columns > 0)


def _largest(pattern: Pattern, size: Tensor) -> tuple[Tensor, Tensor]:
    """Largest entry of each row and of each column: ``[*B, nnz] -> [*B, M], [*B, N]``."""
    M, N = pattern.shape
    return largest_entries(pattern.csr_row, size, M), largest_entries(pattern.ccol, size, N)


def largest_entries(index: Tensor, size: Tensor, length: int) -> Tensor:
    """Return the largest entry of each row, or column, that `index` names: ``[*B, nnz] -> [*B, length]``.

    Zero where there is none.

    Examples
    --------
    >>> import torch
    >>> largest_entries(torch.tensor([0, 0, 2]), torch.tensor([3.0, 5.0, 1.0]), 3).tolist()
    [5.0, 0.0, 1.0]
    """
    largest = size.new_zeros(*size.shape[:-1], length)
    return largest.scatter_reduce_(-1, index.long().expand(size.shape), size, "amax")


def powers_of(size: Tensor) -> Tensor:
    """Powers of two that bring extreme sizes to about one: squares of such numbers over- or underflow.

    1 for others, for zero, and for what is not finite.

    Examples
    --------
    >>> import torch
    >>> powers_of(torch.tensor([1.0, 3e38, 0.0, 1e-30])).tolist() == [1.0, 2.0**127, 1.0, 2.0**-100]
    True
    """
    info = torch.finfo(size.dtype)
    bound = info.max**0.25
    extreme = ((size > bound) | ((size < 1 / bound) & (size > 0))) & torch.isfinite(size)
    return torch.where(extreme, torch.exp2(torch.log2(size.clamp(min=info.tiny)).floor()), 1.0)
