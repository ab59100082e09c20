"""Kernels on indices and values of sparse matrices in compressed rows.

Faces of ``csrc/bindings/sparse.cpp``. They take and return plain tensors and record no gradient;
the differentiable verbs in `torch_sla.linalg.adjoint` are built on them. CPU tensors of float32,
float64, complex64 or complex128 with int32 or int64 indices run compiled, everything else through
`torch_sla.linalg.kernels.sparse_fallback`, with the same meaning. Indices are trusted to be in
range (`Pattern` and `SegmentMap` check them once). Every result is the same for every number of
threads. On CUDA, sums and products are Triton's where it is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from torch_sla.errors import ArgumentError
from torch_sla.linalg.kernels import sparse_fallback as fallback, triton
from torch_sla.linalg.kernels.arguments import (
    VALUES,
    common_dtype,
    compiled,
    empty,
    expect_shape,
    indices,
    plain,
    runs_compiled,
)
from torch_sla.linalg.kernels.patterns import (
    coo_to_csr as coo_to_csr,
    diagonal_slots as diagonal_slots,
    expand_rows as expand_rows,
    fingerprint as fingerprint,
    fingerprints as fingerprints,
    fingerprints_of as fingerprints_of,
    segment_order as segment_order,
    transpose_csr as transpose_csr,
    unread_fingerprints as unread_fingerprints,
)
from torch_sla.linalg.kernels.threads import resolve_threads

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "coo_to_csr",
    "diagonal",
    "diagonal_slots",
    "expand_rows",
    "fingerprint",
    "gather",
    "sampled_product",
    "segment_order",
    "segment_sum",
    "spmm",
    "transpose_csr",
]


def segment_sum(
    x: Tensor,
    offsets: Tensor,
    order: Tensor,
    out: Tensor | None = None,
    *,
    longest: int | None = None,
    threads: int | None = None,
) -> Tensor:
    """Sum sources by segment, in the order of `order`.

    Parameters
    ----------
    x
        ``[B, n_sources, k]``.
    offsets, order
        From `segment_order`.
    out
        Contiguous ``[B, n_targets, k]`` of the dtype of `x` to write into; made when None.
    longest
        Sources of the largest segment, where it is known: saves CUDA a second launch.

    Returns
    -------
    Tensor
        ``[B, n_targets, k]``; zero for an empty segment.

    Examples
    --------
    >>> import torch
    >>> offsets, order = segment_order(torch.tensor([2, 0, 2]), 3)
    >>> segment_sum(torch.tensor([1.0, 2.0, 4.0]).reshape(1, 3, 1), offsets, order).flatten()
    tensor([2., 0., 5.])
    """
    x, (offsets, order) = plain(x), indices(offsets, order)
    expect_shape(x, "x", (x.shape[0], order.numel(), x.shape[-1]))
    shape = (x.shape[0], offsets.numel() - 1, x.shape[2])
    if out is not None:
        expect_shape(out, "out", shape)
        if out.dtype != x.dtype or not out.is_contiguous():
            raise ArgumentError(f"`out` must be a contiguous {x.dtype} tensor, got {out.dtype}")
    if triton.runs(x, order) and x.dtype in VALUES:
        from torch_sla.linalg.kernels.triton.csr import product

        out = x.new_empty(shape) if out is None else out
        return product(offsets, order, None, x, out, longest=longest)
    if not (runs_compiled(x, order) and x.dtype in VALUES):
        total = fallback.segment_sum(x, offsets, order)
        return total if out is None else out.copy_(total)
    out = empty(shape, x.dtype) if out is None else out
    compiled.segment_sum(
        x.numpy(),
        offsets.numpy(),
        order.numpy(),
        out.detach().numpy(),
        resolve_threads(threads, x.numel() + out.numel()),
    )
    return out


def gather(y: Tensor, target: Tensor, *, threads: int | None = None) -> Tensor:
    """Copy each target's value to its sources: ``[B, n_targets, k] -> [B, n_sources, k]``.

    Examples
    --------
    >>> import torch
    >>> gather(torch.tensor([5.0, 7.0]).reshape(1, 2, 1), torch.tensor([1, 0, 1])).flatten()
    tensor([7., 5., 7.])
    """
    y, (target,) = plain(y), indices(target)
    expect_shape(y, "y", (y.shape[0], y.shape[1], y.shape[-1]))
    if not (runs_compiled(y, target) and y.dtype in VALUES):
        if y.shape[0] == y.shape[2] == 1:  # a vector, for which torch has a kernel of its own
            return y.reshape(-1).index_select(0, target).reshape(1, -1, 1)
        return y.index_select(1, target)
    x = empty((y.shape[0], target.numel(), y.shape[2]), y.dtype)
    compiled.gather(y.numpy(), target.numpy(), x.numpy(), resolve_threads(threads, x.numel()))
    return x


def spmm(
    crow: Tensor,
    ccol: Tensor,
    values: Tensor,
    x: Tensor,
    *,
    slots: Tensor | None = None,
    conj: bool = False,
    longest: int | None = None,
    threads: int | None = None,
) -> Tensor:
    """Multiply a matrix, or a batch on one pattern, by dense columns.

    Parameters
    ----------
    crow, ccol
        CSR row pointers ``[n_rows + 1]`` and columns ``[nnz]``.
    values
        ``[nnz]`` or ``[B, nnz]``.
    x
        ``[n_cols, k]`` or ``[B, n_cols, k]``. A factor without a batch is shared.
    slots
        ``[nnz]``: slot ``e`` takes ``values[slots[e]]``. With the three results of `transpose_csr`
        this is the product with the transpose, without a transposed copy of the values.
    conj
        Conjugate the values.
    longest
        Entries of the longest row, where it is known: saves CUDA a second launch.

    Returns
    -------
    Tensor
        ``[n_rows, k]`` or ``[B, n_rows, k]``, in the promoted dtype.

    Examples
    --------
    >>> import torch
    >>> crow, ccol = torch.tensor([0, 2, 3]), torch.tensor([0, 1, 0])
    >>> a, x = torch.tensor([1.0, 2.0, 3.0]), torch.eye(2)
    >>> spmm(crow, ccol, a, x)
    tensor([[1., 2.],
            [3., 0.]])
    >>> crow_t, ccol_t, perm = transpose_csr(crow, ccol, 2)
    >>> spmm(crow_t, ccol_t, a, x, slots=perm)
    tensor([[1., 3.],
            [2., 0.]])
    """
    if values.ndim not in (1, 2) or x.ndim not in (2, 3):
        raise ArgumentError(
            f"`values` must be [nnz] or [B, nnz] and `x` [n, k] or [B, n, k], got "
            f"{list(values.shape)} and {list(x.shape)}"
        )
    dtype, nnz = common_dtype(values, x), ccol.numel()
    in_triton = triton.runs(values, x, crow) and dtype in VALUES
    narrow = in_triton and values.dtype in VALUES and dtype.is_complex == values.is_complex()
    values, x = plain(values, None if narrow else dtype), plain(x, dtype)
    if values.shape[-1] != nnz:
        raise ArgumentError(f"`values` must hold {nnz} slots, got {list(values.shape)}")
    shape = (*_batch(values, x), crow.numel() - 1, x.shape[-1])
    values = values if values.ndim == 2 else values.unsqueeze(0)
    x = x if x.ndim == 3 else x.unsqueeze(0)
    if slots is None:
        crow, ccol = indices(crow, ccol)
    else:
        crow, ccol, slots = indices(crow, ccol, slots)
        expect_shape(slots, "slots", (nnz,))
    members = shape[0] if len(shape) == 3 else 1
    if not members:
        return x.new_empty(shape)
    if in_triton:
        from torch_sla.linalg.kernels.triton.csr import product

        y = x.new_empty(members, *shape[-2:])
        return product(crow, ccol, values, x, y, slots=slots, conj=conj, longest=longest).reshape(
            shape
        )
    if not (runs_compiled(values, x, crow) and dtype in VALUES):
        return fallback.spmm(crow, ccol, slots, values, x, conj).reshape(shape)
    y = empty(shape, x.dtype)
    compiled.spmm(
        crow.numpy(),
        ccol.numpy(),
        values.numpy(),
        x.numpy(),
        y.numpy(),
        None if slots is None else slots.numpy(),
        values.shape[0],
        x.shape[0],
        x.shape[-1],
        conj and dtype.is_complex,
        resolve_threads(threads, members * nnz * x.shape[-1]),
    )
    return y


def _batch(values: Tensor, x: Tensor) -> tuple[int, ...]:
    """Return the batch of a product: that of the factor that has more than one member, if either has any."""
    own = values.shape[:-1]
    batch = x.shape[:-2] if own in ((), (1,)) and x.ndim == 3 else own
    if x.ndim == 3 and x.shape[0] not in (1, *batch):
        raise ArgumentError(f"the batch of `values` is {own[0]}, of `x` {x.shape[0]}")
    return batch


def sampled_product(
    crow: Tensor,
    ccol: Tensor,
    u: Tensor,
    v: Tensor,
    *,
    negative: bool = False,
    threads: int | None = None,
) -> Tensor:
    """Entries of ``u vᵀ`` on a pattern: ``s_e = Σ_c u[row_e, c] v[col_e, c]``, no conjugation.

    Parameters
    ----------
    crow, ccol
        CSR row pointers ``[n_rows + 1]`` and columns ``[nnz]``.
    u, v
        ``[*B, n_rows, k]`` and ``[*B, n_cols, k]``, ``B`` none or one dimension, the same for both.
    negative
        Whether ``-u vᵀ`` is wanted.

    Returns
    -------
    Tensor
        ``[*B, nnz]``, in the promoted dtype.

    Examples
    --------
    >>> import torch
    >>> crow, ccol = torch.tensor([0, 2, 3]), torch.tensor([0, 1, 0])
    >>> u, v = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [5.0]])
    >>> sampled_product(crow, ccol, u, v)
    tensor([3., 5., 6.])
    """
    if u.ndim not in (2, 3) or u.ndim != v.ndim or u.shape[:-2] != v.shape[:-2]:
        raise ArgumentError(
            f"`u` and `v` must be [*B, n, k] with one batch, got {list(u.shape)} and "
            f"{list(v.shape)}"
        )
    batched, dtype = u.ndim == 3, common_dtype(u, v)
    crow, ccol = indices(crow, ccol)
    expect_shape(u, "u", (*u.shape[:-2], crow.numel() - 1, v.shape[-1]))
    u, v = plain(u, dtype), plain(v, dtype)
    u, v = (u, v) if batched else (u.unsqueeze(0), v.unsqueeze(0))
    if triton.runs(u, v, crow) and dtype in VALUES:
        from torch_sla.linalg.kernels.triton.rows import sampled_product as in_triton

        s = in_triton(crow, ccol, u, v, negative)
    elif not (runs_compiled(u, v, crow) and dtype in VALUES):
        s = fallback.sampled_product(crow, ccol, -u if negative else u, v)
    else:
        s = empty((u.shape[0], ccol.numel()), dtype, again=True)
        work = u.shape[0] * ccol.numel() * u.shape[2]
        compiled.sampled_product(
            crow.numpy(),
            ccol.numpy(),
            u.numpy(),
            v.numpy(),
            s.numpy(),
            negative,
            resolve_threads(threads, work),
        )
    return s if batched else s.squeeze(0)


def diagonal(crow: Tensor, ccol: Tensor, values: Tensor, n_cols: int) -> Tensor:
    """Diagonal of a matrix: ``[*B, nnz] -> [*B, min(n_rows, n_cols)]``, zero where not stored.

    Examples
    --------
    >>> import torch
    >>> crow, ccol = torch.tensor([0, 2, 3]), torch.tensor([0, 1, 0])
    >>> diagonal(crow, ccol, torch.tensor([1.0, 2.0, 3.0]), 2)
    tensor([1., 0.])
    """
    slots, values = diagonal_slots(crow, ccol, n_cols), plain(values)
    if not ccol.numel():
        return values.new_zeros(*values.shape[:-1], slots.numel())
    # No masks: how many entries one picks is for the host to find out.
    stored = values.index_select(-1, slots.clamp(min=0))
    return torch.where(
        slots >= 0, stored, torch.zeros((), dtype=values.dtype, device=values.device)
    )
