"""Kernels that find out what a matrix is; face of ``csrc/bindings/structure.cpp``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from torch_sla._core import extension
from torch_sla.linalg.kernels.arguments import VALUES, empty, indices, plain
from torch_sla.linalg.kernels.threads import resolve_threads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = [
    "MatrixFlags",
    "breadth_first",
    "descends",
    "is_csr",
    "largest_row_sum",
    "lattice_fit",
    "matrix_flags",
    "mirror_slots",
    "size_range",
]

_compiled: Any = None if extension is None else extension.structure


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
    rounded
        Some entries equal their mirror images only beside a diagonal entry.
    left_over
        Smallest share of a diagonal entry that the others of its row do not use up; at least 0.
    """

    pattern: bool
    symmetric: bool
    hermitian: bool
    positive: bool
    dominant: bool
    rounded: bool
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
    threads = resolve_threads(None, ccol.numel())
    return MatrixFlags(*_compiled.flags(crow.numpy(), ccol.numpy(), plain(values).numpy(), threads))


def descends(crow: Tensor, ccol: Tensor, values: Tensor, steps: int, sure: float) -> bool | None:
    """Whether a vector of ones, smoothed a few times, proves that a symmetric matrix is not positive definite.

    Parameters
    ----------
    crow, ccol, values
        ``[n + 1]``, ``[nnz]`` and ``[nnz]``, with a positive diagonal.
    steps
        Damped Jacobi steps: they shrink what is rough and let grow what belongs to negative eigenvalues.
    sure
        The share of ``xᵀ D x`` by which ``xᵀ A x`` must be negative for one of the vectors.

    Returns
    -------
    bool or None
        None where there is no kernel: without the extension, for complex numbers, and for tensors elsewhere.

    Examples
    --------
    >>> import torch
    >>> crow, ccol = torch.tensor([0, 2, 4]), torch.tensor([0, 1, 0, 1])
    >>> found = descends(crow, ccol, torch.tensor([1.0, -2.0, -2.0, 1.0]), 6, 1e-5)
    >>> found is None or found
    True
    """
    if _compiled is None or not values.is_cpu or values.dtype not in (torch.float32, torch.float64):
        return None
    crow, ccol = indices(crow, ccol)
    threads = resolve_threads(None, ccol.numel())
    arrays = (crow.numpy(), ccol.numpy(), plain(values).numpy())
    return bool(_compiled.descends(*arrays, steps, sure, threads))


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


def lattice_fit(
    crow: Tensor,
    ccol: Tensor,
    shape: tuple[int, int, int],
    offsets: Sequence[int],
    steps: Sequence[tuple[int, int, int]],
) -> tuple[int | None, bool] | None:
    """Whether every entry joins neighbours of a lattice.

    Parameters
    ----------
    crow, ccol
        ``[n + 1]`` and ``[nnz]``, sorted, on the CPU.
    shape
        Points along each axis, fastest first; n in all.
    offsets, steps
        Increasing values of ``col - row``, and the step along each axis that each stands for.

    Returns
    -------
    missed, fits
        An offset that is not among `offsets`, if any; whether no entry leaves the lattice. None where
        there is no kernel.

    Examples
    --------
    >>> import torch
    >>> found = lattice_fit(
    ...     torch.tensor([0, 1, 3]), torch.tensor([0, 0, 1]), (2, 1, 1), [0], [(0, 0, 0)]
    ... )
    >>> found is None or found == (-1, True)
    True
    """
    if _compiled is None or not crow.is_cpu:
        return None
    crow, ccol = indices(crow, ccol)
    arrays = (np.array(x, dtype=np.int64) for x in (shape, offsets, steps))
    known, missed, fits = _compiled.lattice_fit(crow.numpy(), ccol.numpy(), *arrays)
    return (None if known else missed), fits


def largest_row_sum(crow: Tensor, values: Tensor) -> Tensor | None:
    """Largest sum of absolute values ``[nnz]`` along a row, a scalar; None where there is no kernel."""
    if _compiled is None or not values.is_cpu or values.dtype not in VALUES or values.ndim != 1:
        return None
    (crow,) = indices(crow)
    found = _compiled.largest_row_sum(crow.numpy(), plain(values).numpy())
    return torch.tensor(found, dtype=values.dtype.to_real())


def size_range(values: Tensor, slots: Tensor) -> tuple[float, float]:
    """Smallest size that is not zero, and largest size, of the values ``[nnz]`` at some slots; negative ones are none.

    ``(0, 0)`` where there is none, NaN where one of them is not finite.

    Examples
    --------
    >>> import torch
    >>> size_range(torch.tensor([-4.0, 9.0, 0.0, 2.0]), torch.tensor([0, -1, 2, 3]))
    (2.0, 4.0)
    """
    if _compiled is None or not values.is_cpu or values.dtype not in VALUES:
        size = values.index_select(0, slots[slots >= 0]).abs()
        if not bool(torch.isfinite(size).all()):
            return float("nan"), float("nan")
        size = size[size > 0]
        return (float(size.amin()), float(size.amax())) if size.numel() else (0.0, 0.0)
    (slots,) = indices(slots)
    low, high = _compiled.size_range(plain(values).numpy(), slots.numpy())
    return low, high


def is_csr(crow: Tensor, ccol: Tensor, columns: int) -> bool:
    """Whether a kernel has seen that these are sorted, unique compressed rows of that many columns.

    False also where there is no kernel.
    """
    if _compiled is None or not crow.is_cpu or not ccol.is_cpu or crow.dtype is not ccol.dtype:
        return False
    if not crow.numel() or crow.dtype not in (torch.int32, torch.int64):
        return False
    return bool(_compiled.is_csr(plain(crow).numpy(), plain(ccol).numpy(), columns))
