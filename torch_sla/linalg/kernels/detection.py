"""What passes over a matrix in compressed rows tell about its structure, where Triton runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.linalg.kernels import structure, triton as device
from torch_sla.linalg.kernels.arguments import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "StructureCounts",
    "all_finite",
    "counted_structure",
    "largest_entry",
    "largest_row_sum",
    "sound_rows",
]


@dataclass(frozen=True)
class StructureCounts:
    """How many entries or rows stand against a property of a square real matrix, or of all of a batch.

    Two entries are equal when they differ by at most ``8 eps`` of the largest of themselves and of
    their two diagonal entries.

    Parameters
    ----------
    one_sided
        Entries whose mirror position is not stored.
    unequal
        Entries that differ from their mirror.
    rounded
        Entries that equal it only beside a diagonal entry.
    not_positive
        Rows whose diagonal entry is not positive.
    not_dominant
        Rows in which the others outweigh the diagonal entry.
    strict
        Rows in which it outweighs them by more than rounding.
    first, last
        Rows that are not strict and couple to none before, or none after, them.
    longest
        Entries of the longest row.
    """

    one_sided: int
    unequal: int
    rounded: int
    not_positive: int
    not_dominant: int
    strict: int
    first: int
    last: int
    longest: int

    @classmethod
    def of(cls, numbers: Sequence[float]) -> StructureCounts | None:
        """Take the numbers of `counted_structure`; None where they were not counted because of a long row."""
        from torch_sla.linalg.kernels.triton.patterns import WIDEST

        made = cls(*map(int, numbers))
        return None if made.longest > WIDEST else made

    @property
    def definite(self) -> bool | None:
        """Whether dominance proves a symmetric matrix positive definite; None where it may.

        In every connected component some row must be strict. The first row of a component couples to
        none before it: where all such rows are strict, every component has one.
        """
        if self.not_dominant or not self.strict:
            return False
        return True if self.first == 0 or self.last == 0 else None


def counted_structure(crow: Tensor, ccol: Tensor, values: Tensor) -> Tensor | None:
    """Count without transposing, and leave the numbers of `StructureCounts` on the device.

    None where no kernel takes the matrix, and sorting has to do.

    Parameters
    ----------
    crow, ccol
        Square CSR ``[n + 1]`` and ``[nnz]``, sorted and unique in each row.
    values
        ``[*batch, nnz]``, of fewer than 65536 matrices.
    """
    if values.dtype not in (torch.float32, torch.float64) or not values.numel():
        return None
    if values.shape[:-1].numel() >= 1 << 16:  # beyond the second axis of a grid
        return None
    if not device.runs(crow, ccol, values):
        return None
    from torch_sla.linalg.kernels.triton import patterns

    return patterns.structure_counts(crow, ccol, plain(values))


def largest_row_sum(crow: Tensor, values: Tensor) -> Tensor | None:
    """Largest sum of absolute values along a row, a scalar on the device; None where no kernel takes the matrix."""
    if values.is_cpu:
        return structure.largest_row_sum(crow, values)
    real = values.dtype in (torch.float32, torch.float64)
    if not (values.ndim == 1 and real and values.numel() and device.runs(crow, values)):
        return None
    from torch_sla.linalg.kernels.triton import patterns

    return patterns.largest_row_sum(crow, plain(values))


def sound_rows(crow: Tensor, ccol: Tensor, n_cols: int) -> bool:
    """Whether one pass proves compressed rows valid: sorted and unique columns in range.

    False where they are not, where a row is very long, or where no kernel takes them.
    """
    if crow.dtype is not ccol.dtype or not ccol.numel() or not device.runs(crow, ccol):
        return False
    from torch_sla.linalg.kernels.triton import patterns

    return patterns.sound_rows(crow.contiguous(), ccol.contiguous(), n_cols)


def all_finite(x: Tensor) -> Tensor:
    """Whether nothing is NaN or infinite, a scalar; real tensors are read once and nothing is written.

    Examples
    --------
    >>> import torch
    >>> all_finite(torch.ones(2)), all_finite(torch.tensor([1.0, float("nan"), 2.0]))
    (tensor(True), tensor(False))
    """
    if x.is_complex() or not x.numel():
        return torch.isfinite(x).all()
    low, high = x.aminmax()  # NaN where there is one
    return torch.isfinite(low) & torch.isfinite(high)


def largest_entry(x: Tensor) -> Tensor:
    """Largest absolute value of a real tensor, a scalar: NaN where there is one, 0 of nothing.

    Of complex numbers that of their parts.

    Examples
    --------
    >>> import torch
    >>> largest_entry(torch.tensor([1.0, -3.0])), largest_entry(torch.tensor([1.0, float("nan")]))
    (tensor(3.), tensor(nan))
    """
    if x.is_complex():
        x = torch.view_as_real(x.resolve_conj())
    if not x.numel():
        return x.new_zeros(())
    if not x.is_cpu:
        return torch.linalg.vector_norm(x, torch.inf)
    low, high = x.aminmax()
    return torch.maximum(high, -low)
