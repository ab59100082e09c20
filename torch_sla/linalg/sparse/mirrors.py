"""How far entries are from their mirror images, where rows and columns are on scales of their own.

Assembly adds up contributions that are large beside what is left of them, so that entries and mirror images differ by
rounding of a diagonal entry. Beside a row that is smaller by many powers of ten, what looks like it may be meant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from torch_sla.linalg.scaling import equilibrate, is_uneven, largest_entries, scaled

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.sparse.pattern import Pattern

__all__ = ["ROUNDINGS", "asymmetry", "holds", "steep"]

# So many eps are rounding of a number.
ROUNDINGS = 8


def asymmetry(pattern: Pattern, values: Tensor, *, hermitian: bool) -> float:
    """Return how far entries are from their mirror images at most, with all rows on one scale.

    As a share of the geometric mean of the largest entries of their two rows, after the equilibration that keeps
    symmetry: what a factor of one triangle, its determinant and its inverse depend on.

    Parameters
    ----------
    pattern, values
        Square, and symmetric as a pattern; ``[*batch, nnz_csr]``.
    hermitian
        Whether mirror images are conjugated.

    Examples
    --------
    >>> import torch
    >>> from torch_sla.linalg.sparse.pattern import Pattern
    >>> p = Pattern.from_coo(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1]), (2, 2))
    >>> a = torch.tensor([2.0**60, 1.0, -1.0, 2.0**-60], dtype=torch.float64)
    >>> asymmetry(p, a, hermitian=True) > 0.1
    True
    """
    flat = values.reshape(-1, values.shape[-1])
    if not flat.numel():
        return 0.0
    uneven = is_uneven(pattern, flat)
    parts = [flat[~uneven]]
    for member in flat[uneven]:
        scales = equilibrate(pattern, member, True)
        parts.append((member if scales is None else scaled(pattern, member, *scales))[None])
    return max(_apart(pattern, part, hermitian) for part in parts if len(part))


def _apart(pattern: Pattern, values: Tensor, hermitian: bool) -> float:
    """`asymmetry` of matrices ``[B, nnz_csr]`` on the scales that they are on."""
    row, col = pattern.csr_row.long(), pattern.ccol.long()
    size = values.abs()
    # The product of two may be out of range.
    root = largest_entries(row, size, pattern.shape[0]).sqrt()
    scale = (root[:, row] * root[:, col]).clamp(min=torch.finfo(size.dtype).tiny)
    mirrored = pattern.transpose_values(values)
    mirrored = mirrored.conj() if hermitian else mirrored
    return float(((values - mirrored).abs() / scale).amax())


def steep(pattern: Pattern, values: Tensor) -> bool:
    """Whether rounding of the largest diagonal entry may be more than rounding beside the smallest."""
    if not values.numel():
        return False
    if not pattern.whole_diagonal:
        return True
    low, high = values[..., pattern.diagonal_slots.long()].abs().aminmax(dim=-1)
    share = ROUNDINGS * torch.finfo(values.dtype).eps / _allowed(values)
    return bool((low <= high * share**2).any())


def holds(pattern: Pattern, values: Tensor, *, hermitian: bool) -> bool:
    """Whether entries differ from their mirror images by little beside both their rows, as by their own rounding."""
    return asymmetry(pattern, values, hermitian=hermitian) <= _allowed(values)


def _allowed(values: Tensor) -> float:
    """Share of the geometric mean of two rows that is little: rotated anisotropy of 1e5 leaves as much behind."""
    return float(torch.finfo(values.dtype).eps ** 0.6)
