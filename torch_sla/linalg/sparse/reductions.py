"""Reductions and norms of sparse tensors.

Entries at equal coordinates are added up first, so every answer is that of the matrix and not of
the list of entries. `sum`, `mean`, `prod`, `max` and `min` run over the stored entries; with
``stored=False`` over all positions, the implicit zeros included. Batch dimensions are kept.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, DTypeError
from torch_sla.linalg.scaling import powers_of
from torch_sla.linalg.sparse.segments import SegmentMap

if TYPE_CHECKING:
    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.tensor import SparseTensor

__all__ = ["maximum", "mean", "minimum", "norm", "product", "total"]

_Kind = Literal["sum", "prod", "amax", "amin"]


def _axis(A: SparseTensor, dim: int | None) -> int | None:
    """Which sparse dimension is summed away: 0 for the rows, 1 for the columns, None for both."""
    if dim is None:
        return None
    nb = len(A.batch_shape)
    try:
        given = operator.index(dim)
    except TypeError:
        given = nb + 2
    given = given + nb + 2 if given < 0 else given
    if given not in (nb, nb + 1):
        raise ArgumentError(
            f"`dim` must be one of the two sparse dimensions ({nb}, {nb + 1}, -2, -1) or None, got {dim!r}"
        )
    return given - nb


def _lines(pattern: Pattern, axis: int) -> tuple[Tensor, int]:
    """Line that each slot is reduced to, and the number of lines."""
    M, N = pattern.shape
    return (pattern.ccol, N) if axis == 0 else (pattern.csr_row, M)


def _counts(pattern: Pattern, axis: int | None, stored: bool) -> Tensor | int:
    """How many entries each result runs over."""
    M, N = pattern.shape
    if axis is None:
        return pattern.nnz_csr if stored else M * N
    if not stored:
        return M if axis == 0 else N
    target, lines = _lines(pattern, axis)
    return torch.bincount(target.long(), minlength=lines)


def total(A: SparseTensor, dim: int | None = None) -> Tensor:
    """Sum of all entries ``[*batch]``, or along a sparse dimension ``[*batch, N or M]``.

    Parameters
    ----------
    dim
        -2 adds up the rows, -1 the columns; None both.
    """
    axis = _axis(A, dim)
    pattern, values = A.flat_slots()
    if axis is None:
        return values.sum(-1)
    target, lines = _lines(pattern, axis)
    return SegmentMap(target, lines).sum(values)


def mean(A: SparseTensor, dim: int | None = None, *, stored: bool = True) -> Tensor:
    """Mean of the stored entries, or of all positions with ``stored=False``; NaN over nothing."""
    axis = _axis(A, dim)
    pattern, _ = A.flat_slots()
    return total(A, dim) / _counts(pattern, axis, stored)


def product(A: SparseTensor, dim: int | None = None, *, stored: bool = True) -> Tensor:
    """Product of the stored entries, 1 over nothing; of all positions with ``stored=False``."""
    return _extreme(A, dim, stored, "prod")


def maximum(A: SparseTensor, dim: int | None = None, *, stored: bool = True) -> Tensor:
    """Largest stored entry, ``-inf`` over nothing; of all positions with ``stored=False``."""
    return _extreme(A, dim, stored, "amax")


def minimum(A: SparseTensor, dim: int | None = None, *, stored: bool = True) -> Tensor:
    """Smallest stored entry, ``inf`` over nothing; of all positions with ``stored=False``."""
    return _extreme(A, dim, stored, "amin")


def _extreme(A: SparseTensor, dim: int | None, stored: bool, kind: _Kind) -> Tensor:
    if A.dtype.is_complex and kind != "prod":
        raise DTypeError("complex numbers have no order; reduce `abs()` or the real part")
    axis = _axis(A, dim)
    pattern, values = A.flat_slots()
    empty = {"prod": 1.0, "amax": float("-inf"), "amin": float("inf")}[kind]
    if axis is None:
        if not values.shape[-1]:
            out = values.sum(-1) + empty
        elif kind == "prod":
            out = values.prod(-1)
        else:
            out = values.amax(-1) if kind == "amax" else values.amin(-1)
    else:
        target, lines = _lines(pattern, axis)
        if kind == "prod":
            out = _products(values, target.long(), lines)
        else:
            index = target.long().expand(*values.shape[:-1], -1)
            start = values.new_full((*values.shape[:-1], lines), empty)
            out = start.scatter_reduce(-1, index, values, kind, include_self=True)
    if stored:
        return out
    counts = torch.as_tensor(_counts(pattern, axis, True), device=values.device)
    holes = counts < _counts(pattern, axis, False)
    zero = torch.zeros_like(out)
    with_zero = {"prod": torch.mul, "amax": torch.maximum, "amin": torch.minimum}[kind](out, zero)
    return torch.where(holes, with_zero, out)


def _products(values: Tensor, line: Tensor, lines: int) -> Tensor:
    """Products ``[*batch, lines]`` of entries ``[*batch, nnz]`` of lines ``[nnz]``, neighbours two by two.

    Multiplications alone: torch's ``scatter_reduce`` has wrong tangents of products, no second derivatives at zeros.
    """
    one = values.new_ones((*values.shape[:-1], 1))
    left = values.index_select(-1, line.argsort(stable=True))
    counts = torch.bincount(line, minlength=lines)
    while bool((counts > 1).any()):
        entry = torch.arange(left.shape[-1], device=line.device)
        start = counts.cumsum(0) - counts
        place = entry - start.repeat_interleave(counts)
        mated = torch.where(place + 1 < counts.repeat_interleave(counts), entry + 1, len(entry))
        first = place % 2 == 0
        mates = torch.cat([left, one], -1).index_select(-1, mated[first])
        left = left.index_select(-1, entry[first]) * mates
        counts = (counts + 1) // 2
    ends = torch.where(counts > 0, counts.cumsum(0) - 1, left.shape[-1])
    return torch.cat([left, one], -1).index_select(-1, ends)


def norm(A: SparseTensor, ord: Literal["fro", 1, 2] | float | str = "fro") -> Tensor:
    """Norm of the matrix, real ``[*batch]``, differentiable.

    Parameters
    ----------
    ord
        ``"fro"`` (root of the sum of squares), 1 (largest column sum of absolute values), ``inf``
        (largest row sum), 2 (largest singular value, see `SparseTensor.svd`).

    Raises
    ------
    ArgumentError
        For any other norm.
    """
    pattern, values = A.flat_slots()
    if ord == "fro":
        if not pattern.nnz_csr:
            return values.abs().sum(-1)
        scale = powers_of(values.detach().abs().amax(-1, keepdim=True))
        return torch.linalg.vector_norm(values / scale, dim=-1) * scale.squeeze(-1)
    if ord in (1, float("inf"), "inf"):
        target, lines = _lines(pattern, 0 if ord == 1 else 1)
        sums = SegmentMap(target, lines).sum(values.abs())
        return sums.amax(-1) if lines else sums.sum(-1)
    if ord == 2:
        if 0 in pattern.shape or not pattern.nnz_csr:
            return values.abs().sum(-1)
        _, S, _ = A.svd(k=1)
        return S.squeeze(-1)
    raise ArgumentError(f"`ord` must be 'fro', 1, 2 or inf, got {ord!r}")
