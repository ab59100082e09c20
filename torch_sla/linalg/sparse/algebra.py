"""Sums and products of sparse tensors.

Different patterns meet as sets do: a sum has the union of the positions, an elementwise product the
intersection, a matrix product the positions that any pair of entries reaches. Results live on
slots: sorted, no duplicates. Everything is linear or bilinear in the values and differentiable to
any order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
import torch
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.linalg.adjoint.masked_product import masked_product
from torch_sla.linalg.adjoint.matvec import matmul
from torch_sla.linalg.kernels.arguments import expect_dense
from torch_sla.linalg.kernels.spgemm import product_pattern
from torch_sla.linalg.sparse.members import common_batch
from torch_sla.linalg.sparse.pattern import Pattern
from torch_sla.linalg.sparse.segments import SegmentMap
from torch_sla.linalg.sparse.transforms import outside_compiler, outside_transforms

if TYPE_CHECKING:
    from torch_sla.linalg.sparse.tensor import SparseTensor

__all__ = ["add", "divide", "left_matmul", "multiply", "negative", "right_matmul", "subtract"]

_REMEDY = "a dense result is asked for by `A.to_dense()`"


def _is_sparse(x: object) -> TypeGuard[SparseTensor]:
    return hasattr(x, "pattern") and hasattr(x, "csr_values")


def _same_pattern(A: Pattern, B: Pattern) -> bool:
    return A is B or A.slots is B.slots or A.key == B.key


def _meet(A: SparseTensor, B: SparseTensor, verb: str) -> tuple[Pattern, Tensor, Pattern, Tensor]:
    """Patterns and slot values of both, with the same blocks, dtype and batch dimensions."""
    if A.device != B.device:
        raise ArgumentError(f"cannot {verb} matrices on {A.device} and {B.device}")
    if A.flat_shape != B.flat_shape:
        raise ArgumentError(
            f"cannot {verb} matrices of shapes {tuple(A.shape)} and {tuple(B.shape)}"
        )
    if A.block_shape == B.block_shape:
        p, a, q, b = A.pattern.slots, A.csr_values, B.pattern.slots, B.csr_values
    else:
        (p, a), (q, b) = A.flat_slots(), B.flat_slots()
    dtype = torch.promote_types(a.dtype, b.dtype)
    batch = common_batch("the two matrices", A.batch_shape, B.batch_shape)
    a = a.to(dtype).expand(*batch, *a.shape[len(A.batch_shape) :])
    b = b.to(dtype).expand(*batch, *b.shape[len(B.batch_shape) :])
    return p, a, q, b


@outside_transforms
def _union(p: Pattern, q: Pattern) -> Pattern:
    row = torch.cat([p.row.long(), q.row.long()])
    return Pattern.from_coo(row, torch.cat([p.col.long(), q.col.long()]), p.shape, p.block)


@outside_transforms
def _intersection(p: Pattern, q: Pattern) -> tuple[Pattern, SegmentMap, SegmentMap]:
    """Return the common positions, and where each stands in both."""
    N = p.shape[1]
    key_p = p.csr_row.long() * N + p.ccol.long()
    key_q = q.csr_row.long() * N + q.ccol.long()
    at = torch.searchsorted(key_q, key_p).clamp(max=max(key_q.numel() - 1, 0))
    hit = key_q[at] == key_p if key_q.numel() else torch.zeros_like(key_p, dtype=torch.bool)
    common = Pattern.from_coo(p.csr_row[hit], p.ccol[hit], p.shape, p.block)
    at_p = hit.nonzero().squeeze(1)
    return common, SegmentMap(at_p, p.nnz_csr), SegmentMap(at[hit], q.nnz_csr)


def _sum(A: SparseTensor, B: Any, sign: int, verb: str) -> SparseTensor:
    if not _is_sparse(B):
        if isinstance(B, Tensor) and B.ndim:
            raise ArgumentError(f"cannot {verb} a sparse and a dense tensor; {_REMEDY}")
        raise ArgumentError(
            f"cannot {verb} a scalar, which would fill every position; {_REMEDY}, or use a "
            "multiple of SparseTensor.eye"
        )
    p, a, q, b = _meet(A, B, verb)
    if _same_pattern(p, q):
        return A.from_pattern(p, a + b if sign > 0 else a - b)
    union = _union(p, q)
    both = torch.cat([a, b if sign > 0 else -b], dim=-1 - len(p.block))
    return A.from_pattern(union.slots, union.coalesce(both))


@outside_compiler
def add(A: SparseTensor, B: SparseTensor) -> SparseTensor:
    """Return ``A + B`` on the union of the positions."""
    return _sum(A, B, 1, "add")


def subtract(A: SparseTensor, B: SparseTensor) -> SparseTensor:
    """Return ``A - B`` on the union of the positions."""
    return _sum(A, B, -1, "subtract")


def right_add(A: SparseTensor, other: object) -> SparseTensor:
    """Serve ``0 + A``, which `sum` over a list begins with."""
    if isinstance(other, int | float) and other == 0:
        return A
    return _sum(A, other, 1, "add")


def right_subtract(A: SparseTensor, other: object) -> SparseTensor:
    """Refuse ``x - A`` with a dense or scalar ``x``."""
    return _sum(A, other, -1, "subtract")


def negative(A: SparseTensor) -> SparseTensor:
    """Return ``-A``."""
    return A.from_pattern(A.pattern, -A.values)


@outside_compiler
def multiply(A: SparseTensor, factor: SparseTensor | Tensor | complex) -> SparseTensor:
    """Return the elementwise product with a sparse matrix, a dense one or a scalar.

    Parameters
    ----------
    factor
        Sparse: the result has the intersection of the positions. Dense, broadcasting against
        ``[*batch, M, N]`` (so ``[*batch, 1, 1]`` scales each matrix, ``[M, 1]`` each row): sampled
        at the entries. A scalar scales.
    """
    if _is_sparse(factor):
        p, a, q, b = _meet(A, factor, "multiply")
        if _same_pattern(p, q):
            return A.from_pattern(p, a * b)
        common, at_p, at_q = _intersection(p, q)
        dim = -1 - len(p.block)
        return A.from_pattern(common, at_p.gather(a, dim=dim) * at_q.gather(b, dim=dim))
    if isinstance(factor, Tensor) and factor.ndim:
        return _sampled(A, factor, divide=False)
    scale: Any = _scalar(factor, "factor")
    return A.from_pattern(A.pattern, A.values * scale)


def divide(A: SparseTensor, divisor: Tensor | complex) -> SparseTensor:
    """Return ``A / divisor`` for a scalar, or a dense tensor as in `multiply`."""
    if _is_sparse(divisor):
        raise ArgumentError(
            "division by a sparse matrix divides by its implicit zeros; solve with it, or divide "
            "values on one pattern"
        )
    if isinstance(divisor, Tensor) and divisor.ndim:
        return _sampled(A, divisor, divide=True)
    return A.from_pattern(A.pattern, A.values / _scalar(divisor, "divisor"))


def _scalar(x: Any, name: str) -> Any:
    """Refuse what has entries and is no tensor: it would be lined up with the stored entries."""
    if np.ndim(x):
        raise ArgumentError(
            f"`{name}` must be a matrix, a tensor or a number, got {type(x).__name__}; use `torch.as_tensor`"
        )
    return x.item() if isinstance(x, np.ndarray) else x


def _sampled(A: SparseTensor, dense: Tensor, *, divide: bool) -> SparseTensor:
    """Scale entries by what a broadcasting dense tensor holds at their positions."""
    pattern, values = (A.pattern, A.values) if not A.is_block else A.flat_slots()
    M, N = pattern.shape
    if dense.ndim < 2 or any(
        d not in (1, n) for d, n in zip(dense.shape[-2:], (M, N), strict=True)
    ):
        raise ArgumentError(
            f"the factor must broadcast against [*batch, {M}, {N}]; got shape {list(dense.shape)} (scale rows "
            f"by [{M}, 1], columns by [1, {N}])"
        )
    lead = common_batch("the matrix and the factor", A.batch_shape, dense.shape[:-2])
    row = pattern.row.long() if dense.shape[-2] > 1 else torch.zeros_like(pattern.row).long()
    col = pattern.col.long() if dense.shape[-1] > 1 else torch.zeros_like(pattern.col).long()
    at = dense[..., row, col]
    values = values.expand(*lead, values.shape[-1])
    return A.from_pattern(pattern, values / at if divide else values * at)


@outside_compiler
def right_matmul(A: SparseTensor, x: Any) -> Any:
    """Return ``A @ x`` for a dense or a sparse ``x``.

    Parameters
    ----------
    x
        ``[N]``, ``[N, K]``; for a batched ``A`` ``[*batch, N]`` or ``[*batch, N, K]``, batch dimensions
        broadcasting, as in `SparseTensor.solve`. Or a `SparseTensor` with N rows: the product is
        then sparse, blocks written out, and differentiable in both.

    Raises
    ------
    ArgumentError
        When the shapes do not fit.
    """
    if _is_sparse(x):
        return _sparse_matmul(A, x)
    if not isinstance(x, Tensor):
        return NotImplemented
    pattern, values = A.flat_slots()
    return _dense_matmul(pattern, values, x, tuple(A.shape))


@outside_compiler
def left_matmul(A: SparseTensor, x: Any) -> Any:
    """Return ``x @ A`` for a dense ``x`` ``[M]``, ``[K, M]`` or ``[*batch, K, M]``."""
    if not isinstance(x, Tensor):
        return NotImplemented
    pattern, values = A.flat_slots()
    values = pattern.transpose_values(values)
    if x.ndim == 1:
        return _dense_matmul(pattern.transposed, values, x, tuple(A.shape))
    if x.ndim < 2 or x.shape[-1] != pattern.shape[0]:
        raise ArgumentError(
            f"`x` must be [..., K, {pattern.shape[0]}] for x @ A with A of shape {tuple(A.shape)}, "
            f"got {list(x.shape)}"
        )
    lead = common_batch("the matrix and `x`", A.batch_shape, x.shape[:-2])
    turned = x.expand(*lead, *x.shape[-2:]).transpose(-1, -2)
    out: Tensor = _dense_matmul(pattern.transposed, values, turned, tuple(A.shape))
    return out.transpose(-1, -2)


def _dense_matmul(pattern: Pattern, values: Tensor, x: Tensor, shape: tuple[int, ...]) -> Tensor:
    expect_dense(x, "x", values.device)
    N, batch = pattern.shape[1], tuple(values.shape[:-1])
    nb = len(batch)
    dtype = torch.promote_types(values.dtype, x.dtype)
    vector = x.ndim == 1 or (nb > 0 and x.ndim == nb + 1 and _is_batch_of_vectors(x, N, batch))
    X = x.unsqueeze(-1) if vector else x
    if X.ndim < 2 or X.shape[-2] != N:
        raise ArgumentError(
            f"`x` must be [{N}] or [..., {N}, K] for a matrix of shape {shape}, got {list(x.shape)}"
        )
    lead = common_batch("the matrix and `x`", batch, X.shape[:-2])
    if nb:
        values = values.expand(*lead, -1).reshape(torch.Size(lead).numel(), values.shape[-1])
    if lead:
        X = X.expand(*lead, -1, -1).reshape(torch.Size(lead).numel(), N, X.shape[-1])
    Y = matmul(values.to(dtype), X.to(dtype), pattern)
    Y = Y.reshape(*lead, pattern.shape[0], X.shape[-1])
    return Y.squeeze(-1) if vector else Y


def _is_batch_of_vectors(x: Tensor, N: int, batch: tuple[int, ...]) -> bool:
    """Whether ``x`` reads as ``[*batch, N]``; the reading as shared columns ``[N, K]`` comes second."""
    if x.shape[-1] != N:
        return False
    return all(d in (1, b) or b == 1 for d, b in zip(x.shape[:-1], batch, strict=True))


@outside_transforms
def _product_pattern(p: Pattern, q: Pattern) -> Pattern:
    crow, ccol = product_pattern(p.crow, p.ccol, q.crow, q.ccol, q.shape[1])
    return Pattern(crow, ccol, (p.shape[0], q.shape[1]), (), None)


def _sparse_matmul(A: SparseTensor, B: SparseTensor) -> SparseTensor:
    if A.device != B.device:
        raise ArgumentError(f"cannot multiply matrices on {A.device} and {B.device}")
    (p, a), (q, b) = A.flat_slots(), B.flat_slots()
    if p.shape[1] != q.shape[0]:
        raise ArgumentError(
            f"cannot multiply matrices of shapes {tuple(A.shape)} and {tuple(B.shape)}"
        )
    batch = common_batch("the two matrices", A.batch_shape, B.batch_shape)

    def lead(values: Tensor, own: tuple[int, ...]) -> Tensor:
        if not own:
            return values.unsqueeze(0)
        return values.expand(*batch, -1).reshape(torch.Size(batch).numel(), values.shape[-1])

    pattern = _product_pattern(p, q)
    values = masked_product(lead(a, A.batch_shape), lead(b, B.batch_shape), p, q, pattern)
    return A.from_pattern(pattern, values.reshape(*batch, pattern.nnz))
