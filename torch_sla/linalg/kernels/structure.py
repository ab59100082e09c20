"""Kernels that find out what a matrix is; face of ``csrc/bindings/structure.cpp``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from torch_sla._core import extension
from torch_sla.linalg.kernels.arguments import VALUES, empty, indices, plain

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MatrixFlags", "breadth_first", "matrix_flags", "mirror_slots"]

_compiled: Any = getattr(extension, "structure", None)


class MatrixFlags(NamedTuple):
    """What holds of a square matrix.

    Parameters
    ----------
    pattern
        Structurally symmetric; the others are False where it is not.
    symmetric, hermitian
        To rounding.
    positive
        Every diagonal entry is real and positive.
    dominant
        Hermitian, positive, and diagonally dominant, strictly in a row of every component.
    left_over
        Smallest share of a diagonal entry that the others of its row do not use up; at least 0.
    """

    pattern: bool
    symmetric: bool
    hermitian: bool
    positive: bool
    dominant: bool
    left_over: float


def matrix_flags(crow: Tensor, ccol: Tensor, values: Tensor) -> MatrixFlags | None:
    """Find the flags that all matrices of a batch share, in one pass over each, without a transpose.

    Parameters
    ----------
    crow, ccol
        ``[n + 1]`` and ``[nnz]``, columns sorted and unique in each row.
    values
        ``[*batch, nnz]``, at least one.

    Returns
    -------
    MatrixFlags or None
        None where there is no kernel: without the extension, and for tensors elsewhere.

    Examples
    --------
    >>> import torch
    >>> found = matrix_flags(
    ...     torch.tensor([0, 1, 2]), torch.tensor([0, 1]), torch.tensor([1.0, 2.0])
    ... )
    >>> found is None or found.dominant
    True
    """
    if _compiled is None or not values.is_cpu or values.dtype not in VALUES:
        return None
    crow, ccol = indices(crow, ccol)
    return MatrixFlags(*_compiled.flags(crow.numpy(), ccol.numpy(), plain(values).numpy()))


def breadth_first(
    crow: Tensor, ccol: Tensor, start: int, limit: int
) -> tuple[int, int, int] | None:
    """Levels, nodes reached and a node of the last level of a breadth-first search; None as above."""
    if _compiled is None:
        return None
    crow, ccol = indices(crow.cpu(), ccol.cpu())
    levels, reached, last = _compiled.breadth_first(crow.numpy(), ccol.numpy(), start, limit)
    return levels, reached, last


def mirror_slots(crow: Tensor, ccol: Tensor) -> Tensor | None:
    """Slot of the mirror image ``(j, i)`` of each entry ``(i, j)`` of a square CSR pattern, ``[nnz]``.

    None where the pattern is not symmetric, and where there is no kernel: `transpose_csr` then tells.

    Examples
    --------
    >>> import torch
    >>> found = mirror_slots(torch.tensor([0, 2, 3]), torch.tensor([0, 1, 0]))
    >>> found is None or found.tolist() == [0, 2, 1]
    True
    """
    if _compiled is None or not crow.is_cpu:
        return None
    crow, ccol = indices(crow, ccol)
    slot = empty((ccol.numel(),), ccol.dtype)
    return slot if _compiled.mirror_slots(crow.numpy(), ccol.numpy(), slot.numpy()) else None
