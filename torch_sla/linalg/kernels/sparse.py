"""Kernels on indices and values of sparse matrices in compressed rows.

Faces of ``csrc/bindings/sparse.cpp``. They take and return plain tensors and record no gradient; the
differentiable verbs in `torch_sla.linalg.adjoint` are built on them. CPU tensors of float32, float64,
complex64 or complex128 with int32 or int64 indices run compiled, everything else through
`torch_sla.linalg.kernels.sparse_fallback`, with the same meaning. Indices are trusted to be in range
(`Pattern` and `SegmentMap` check them once). Every result is the same for every number of threads.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torch_sla._core import extension
from torch_sla.errors import ArgumentError
from torch_sla.linalg.kernels import sparse_fallback as fallback
from torch_sla.linalg.kernels.threads import resolve_threads

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
    "spmv",
    "transpose_csr",
]

_compiled: Any = None if extension is None else extension.sparse

_INT32_MAX = 2**31 - 1
_VALUES = (torch.float32, torch.float64, torch.complex64, torch.complex128)


# --- preparing arguments -----------------------------------------------------------------------


def _plain(x: Tensor) -> Tensor:
    """Detach, and write pending conjugations, negations and strides out."""
    return x.detach().resolve_conj().resolve_neg().contiguous()


def _indices(*tensors: Tensor) -> list[Tensor]:
    """One index dtype for all, wide enough for their lengths."""
    wide = any(t.dtype == torch.int64 or t.numel() > _INT32_MAX for t in tensors)
    return [_plain(t).to(torch.int64 if wide else torch.int32) for t in tensors]


def _runs_compiled(*tensors: Tensor) -> bool:
    return _compiled is not None and all(
        t.device.type == "cpu" and (t.dtype in _VALUES or not t.is_floating_point())
        for t in tensors
    )


# --- indices -----------------------------------------------------------------------------------


def coo_to_csr(
    row: Tensor, col: Tensor, n_rows: int, n_cols: int, *, threads: int | None = None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Sort coordinates into compressed rows and merge equal ones.

    Parameters
    ----------
    row, col
        Integer ``[nnz]``, in range.
    n_rows, n_cols
        Shape of the matrix.
    threads
        Number of threads; None chooses.

    Returns
    -------
    crow, ccol
        CSR row pointers ``[n_rows + 1]`` and sorted unique columns ``[n_slots]``.
    slot
        Slot of each entry ``[nnz]``, or None when entry ``e`` is slot ``e``.

    Examples
    --------
    >>> crow, ccol, slot = coo_to_csr(torch.tensor([1, 0, 1]), torch.tensor([0, 1, 0]), 2, 2)
    >>> crow.tolist(), ccol.tolist(), slot.tolist()
    ([0, 1, 2], [1, 0], [1, 0, 1])
    """
    row, col = _indices(row, col)
    if not _runs_compiled(row):
        return fallback.coo_to_csr(row, col, n_rows, n_cols)
    crow = row.new_empty(n_rows + 1)
    if _compiled.sorted_unique(row.numpy(), col.numpy()):
        _compiled.count_offsets(row.numpy(), n_rows, crow.numpy())
        return crow, col.clone(), None
    ccol, slot = torch.empty_like(col), torch.empty_like(row)
    n_slots = _compiled.coo_to_csr(
        row.numpy(),
        col.numpy(),
        n_rows,
        n_cols,
        crow.numpy(),
        ccol.numpy(),
        slot.numpy(),
        resolve_threads(threads, 8 * row.numel()),
    )
    return crow, ccol if n_slots == ccol.numel() else ccol[:n_slots].clone(), slot


def expand_rows(crow: Tensor, *, threads: int | None = None) -> Tensor:
    """Row of each slot ``[nnz]`` from row pointers ``[n_rows + 1]``.

    Examples
    --------
    >>> expand_rows(torch.tensor([0, 2, 2, 3])).tolist()
    [0, 0, 2]
    """
    (crow,) = _indices(crow)
    nnz = int(crow[-1])
    if not _runs_compiled(crow):
        return fallback.expand_rows(crow, nnz)
    row = crow.new_empty(nnz)
    _compiled.expand_rows(crow.numpy(), row.numpy(), resolve_threads(threads, nnz))
    return row


def transpose_csr(
    crow: Tensor, ccol: Tensor, n_cols: int, *, threads: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Compressed rows of the transpose.

    Returns
    -------
    crow_t, ccol_t
        ``[n_cols + 1]`` and ``[nnz]``, sorted.
    perm
        ``[nnz]``, with ``values_of_transpose = values[perm]``.

    Examples
    --------
    >>> crow_t, ccol_t, perm = transpose_csr(torch.tensor([0, 2, 3]), torch.tensor([0, 1, 0]), 2)
    >>> crow_t.tolist(), ccol_t.tolist(), perm.tolist()
    ([0, 2, 3], [0, 1, 0], [0, 2, 1])
    """
    crow, ccol = _indices(crow, ccol)
    if not _runs_compiled(crow):
        return fallback.transpose_csr(crow, ccol, n_cols)
    crow_t, ccol_t, perm = (
        crow.new_empty(n_cols + 1),
        torch.empty_like(ccol),
        torch.empty_like(ccol),
    )
    _compiled.transpose_csr(
        crow.numpy(),
        ccol.numpy(),
        n_cols,
        crow_t.numpy(),
        ccol_t.numpy(),
        perm.numpy(),
        resolve_threads(threads, 4 * ccol.numel()),
    )
    return crow_t, ccol_t, perm


def segment_order(
    target: Tensor, n_targets: int, *, threads: int | None = None
) -> tuple[Tensor, Tensor]:
    """Sort sources by target, keeping the order within each target.

    Returns
    -------
    offsets
        ``[n_targets + 1]``, where the sources of each target begin in `order`.
    order
        ``[n_sources]``.

    Examples
    --------
    >>> offsets, order = segment_order(torch.tensor([2, 0, 2]), 3)
    >>> offsets.tolist(), order.tolist()
    ([0, 1, 1, 3], [1, 0, 2])
    """
    (target,) = _indices(target)
    if not _runs_compiled(target):
        return fallback.segment_order(target, n_targets)
    offsets, order = target.new_empty(n_targets + 1), torch.empty_like(target)
    _compiled.segment_order(
        target.numpy(),
        n_targets,
        offsets.numpy(),
        order.numpy(),
        resolve_threads(threads, 2 * target.numel()),
    )
    return offsets, order


def diagonal_slots(
    crow: Tensor, ccol: Tensor, n_cols: int, *, threads: int | None = None
) -> Tensor:
    """Slot of each diagonal position ``[min(n_rows, n_cols)]``, -1 where there is none.

    Examples
    --------
    >>> diagonal_slots(torch.tensor([0, 2, 3]), torch.tensor([0, 1, 0]), 2).tolist()
    [0, -1]
    """
    crow, ccol = _indices(crow, ccol)
    n = min(crow.numel() - 1, n_cols)
    if not _runs_compiled(crow):
        return fallback.diagonal_slots(crow, ccol, n)
    slot = crow.new_empty(n)
    _compiled.diagonal_slots(
        crow.numpy(), ccol.numpy(), slot.numpy(), resolve_threads(threads, 8 * n)
    )
    return slot


# --- values ------------------------------------------------------------------------------------


def segment_sum(
    x: Tensor,
    offsets: Tensor,
    order: Tensor,
    out: Tensor | None = None,
    *,
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

    Returns
    -------
    Tensor
        ``[B, n_targets, k]``; zero for an empty segment.

    Examples
    --------
    >>> offsets, order = segment_order(torch.tensor([2, 0, 2]), 3)
    >>> segment_sum(torch.tensor([1.0, 2.0, 4.0]).reshape(1, 3, 1), offsets, order).flatten()
    tensor([2., 0., 5.])
    """
    x, (offsets, order) = _plain(x), _indices(offsets, order)
    _expect(x, "x", (x.shape[0], order.numel(), x.shape[-1]))
    shape = (x.shape[0], offsets.numel() - 1, x.shape[2])
    if out is not None:
        _expect(out, "out", shape)
        if out.dtype != x.dtype or not out.is_contiguous():
            raise ArgumentError(f"`out` must be a contiguous {x.dtype} tensor, got {out.dtype}")
    if not (_runs_compiled(x, order) and x.dtype in _VALUES):
        total = fallback.segment_sum(x, offsets, order)
        return total if out is None else out.copy_(total)
    out = x.new_empty(shape) if out is None else out
    _compiled.segment_sum(
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
    >>> gather(torch.tensor([5.0, 7.0]).reshape(1, 2, 1), torch.tensor([1, 0, 1])).flatten()
    tensor([7., 5., 7.])
    """
    y, (target,) = _plain(y), _indices(target)
    _expect(y, "y", (y.shape[0], y.shape[1], y.shape[-1]))
    if not (_runs_compiled(y, target) and y.dtype in _VALUES):
        return y.index_select(1, target)
    x = y.new_empty(y.shape[0], target.numel(), y.shape[2])
    _compiled.gather(y.numpy(), target.numpy(), x.numpy(), resolve_threads(threads, x.numel()))
    return x


def spmv(
    crow: Tensor,
    ccol: Tensor,
    values: Tensor,
    x: Tensor,
    *,
    slots: Tensor | None = None,
    conj: bool = False,
    threads: int | None = None,
) -> Tensor:
    """Multiply a matrix by one vector: ``[*B, nnz]``, ``[*B, n_cols]`` -> ``[*B, n_rows]``.

    As `spmm` with one column.

    Examples
    --------
    >>> crow, ccol = torch.tensor([0, 2, 3]), torch.tensor([0, 1, 0])
    >>> spmv(crow, ccol, torch.tensor([1.0, 2.0, 3.0]), torch.tensor([10.0, 1.0]))
    tensor([12., 30.])
    """
    y = spmm(crow, ccol, values, x.unsqueeze(-1), slots=slots, conj=conj, threads=threads)
    return y.squeeze(-1)


def spmm(
    crow: Tensor,
    ccol: Tensor,
    values: Tensor,
    x: Tensor,
    *,
    slots: Tensor | None = None,
    conj: bool = False,
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

    Returns
    -------
    Tensor
        ``[n_rows, k]`` or ``[B, n_rows, k]``, in the promoted dtype.

    Examples
    --------
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
    batched = values.ndim == 2 or x.ndim == 3
    dtype = torch.promote_types(values.dtype, x.dtype)
    values, x = _plain(values.to(dtype)), _plain(x.to(dtype))
    values = values if values.ndim == 2 else values.unsqueeze(0)
    x = x if x.ndim == 3 else x.unsqueeze(0)
    if values.shape[0] != x.shape[0] and 1 not in (values.shape[0], x.shape[0]):
        raise ArgumentError(f"the batch of `values` is {values.shape[0]}, of `x` {x.shape[0]}")
    _expect(values, "values", (values.shape[0], ccol.numel()))
    if slots is None:
        crow, ccol = _indices(crow, ccol)
    else:
        crow, ccol, slots = _indices(crow, ccol, slots)
        _expect(slots, "slots", (ccol.numel(),))
    if not (_runs_compiled(values, x, crow) and dtype in _VALUES):
        y = fallback.spmm(crow, ccol, slots, values, x, conj)
        return y if batched else y.squeeze(0)
    # A batch of length 0 or 1 on one side takes the length of the other.
    batch = x.shape[0] if values.shape[0] == 1 else values.shape[0]
    y = x.new_empty(batch, crow.numel() - 1, x.shape[2])
    _compiled.spmm(
        crow.numpy(),
        ccol.numpy(),
        (crow.new_empty(0) if slots is None else slots).numpy(),
        values.numpy(),
        x.numpy(),
        y.numpy(),
        conj and dtype.is_complex,
        resolve_threads(threads, batch * ccol.numel() * x.shape[2]),
    )
    return y if batched else y.squeeze(0)


def sampled_product(
    crow: Tensor, ccol: Tensor, u: Tensor, v: Tensor, *, threads: int | None = None
) -> Tensor:
    """Entries of ``u vᵀ`` on a pattern: ``s_e = Σ_c u[row_e, c] v[col_e, c]``, no conjugation.

    Parameters
    ----------
    crow, ccol
        CSR row pointers ``[n_rows + 1]`` and columns ``[nnz]``.
    u, v
        ``[*B, n_rows, k]`` and ``[*B, n_cols, k]``, ``B`` none or one dimension, the same for both.

    Returns
    -------
    Tensor
        ``[*B, nnz]``, in the promoted dtype.

    Examples
    --------
    >>> crow, ccol = torch.tensor([0, 2, 3]), torch.tensor([0, 1, 0])
    >>> u, v = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [5.0]])
    >>> sampled_product(crow, ccol, u, v)
    tensor([3., 5., 6.])
    """
    if u.ndim not in (2, 3) or u.ndim != v.ndim or u.shape[:-2] != v.shape[:-2]:
        raise ArgumentError(
            f"`u` and `v` must be [*B, n, k] with one batch, got {list(u.shape)} and {list(v.shape)}"
        )
    batched, dtype = u.ndim == 3, torch.promote_types(u.dtype, v.dtype)
    crow, ccol = _indices(crow, ccol)
    _expect(u, "u", (*u.shape[:-2], crow.numel() - 1, v.shape[-1]))
    u, v = _plain(u.to(dtype)), _plain(v.to(dtype))
    u, v = (u, v) if batched else (u.unsqueeze(0), v.unsqueeze(0))
    if not (_runs_compiled(u, v, crow) and dtype in _VALUES):
        s = fallback.sampled_product(crow, ccol, u, v)
    else:
        s = u.new_empty(u.shape[0], ccol.numel())
        work = u.shape[0] * ccol.numel() * u.shape[2]
        _compiled.sampled_product(
            crow.numpy(),
            ccol.numpy(),
            u.numpy(),
            v.numpy(),
            s.numpy(),
            resolve_threads(threads, work),
        )
    return s if batched else s.squeeze(0)


def diagonal(crow: Tensor, ccol: Tensor, values: Tensor, n_cols: int) -> Tensor:
    """Diagonal of a matrix: ``[*B, nnz] -> [*B, min(n_rows, n_cols)]``, zero where not stored.

    Examples
    --------
    >>> crow, ccol = torch.tensor([0, 2, 3]), torch.tensor([0, 1, 0])
    >>> diagonal(crow, ccol, torch.tensor([1.0, 2.0, 3.0]), 2)
    tensor([1., 0.])
    """
    slots = diagonal_slots(crow, ccol, n_cols).long()
    values = _plain(values)
    out = values.new_zeros(*values.shape[:-1], slots.numel())
    stored = slots >= 0
    out[..., stored] = values[..., slots[stored]]
    return out


def fingerprint(tensor: Tensor, *, threads: int | None = None) -> int:
    """128-bit hash of the bytes of a tensor, in order, at memory speed.

    Shape and dtype are not part of it. Values are meant for keys within one process: they differ
    between devices and between installations with and without the extension. Not cryptographic.

    Examples
    --------
    >>> a = torch.tensor([1.0, 2.0])
    >>> fingerprint(a) == fingerprint(a.clone()), fingerprint(a) == fingerprint(a.flip(0))
    (True, False)
    """
    data = _plain(tensor).flatten().view(torch.uint8)
    if not _runs_compiled(data):
        return fallback.fingerprint(data)
    low, high = _compiled.fingerprint(data.numpy(), resolve_threads(threads, data.numel() // 8))
    return int(high) << 64 | int(low)


def _expect(x: Tensor, name: str, shape: tuple[int, ...]) -> None:
    if tuple(x.shape) != shape:
        raise ArgumentError(f"`{name}` must have shape {list(shape)}, got {list(x.shape)}")
