"""How large the entries of many matrices on one pattern are, in one pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch_sla.linalg.kernels import lanes
from torch_sla.linalg.kernels.ordered import summed
from torch_sla.linalg.scaling import is_uneven, ratio_is_uneven

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.sparse.pattern import Pattern

__all__ = ["Sizes", "column_sums", "sizes_of"]


@dataclass(frozen=True, eq=False)
class Sizes:
    """Measures ``[B]`` of square matrices.

    Parameters
    ----------
    rows, columns
        Largest sum of magnitudes of a row, and of a column.
    uneven
        Whether rows or columns are on scales of their own, see `scaling.is_uneven`.
    """

    rows: Tensor
    columns: Tensor
    uneven: Tensor


def sizes_of(pattern: Pattern, values: Tensor) -> Sizes:
    """Measure values ``[B, nnz_csr]`` of square matrices.

    Examples
    --------
    >>> import torch
    >>> from torch_sla.linalg.sparse.pattern import Pattern
    >>> i = torch.arange(2)
    >>> sizes_of(Pattern.from_coo(i, i, (2, 2)), torch.tensor([[1.0, -3.0]])).rows.tolist()
    [3.0]
    """
    found = lanes.measure(pattern.crow, pattern.ccol, values)
    if found is not None:
        rows, columns, *apart = found.unbind()
        return Sizes(rows, columns, ratio_is_uneven(*apart))
    size = values.abs()
    rows, columns = pattern.sum_rows(size), column_sums(pattern, size)
    return Sizes(rows.amax(-1), columns.amax(-1), is_uneven(pattern, values))


def column_sums(pattern: Pattern, values: Tensor) -> Tensor:
    """Sum slot values along each column: ``[*batch, nnz_csr] -> [*batch, N]``."""
    return summed(values.movedim(-1, 0), pattern.ccol.long(), pattern.shape[1]).movedim(0, -1)
