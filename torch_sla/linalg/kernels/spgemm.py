"""Kernels for the product of two sparse matrices.

Faces of ``csrc/bindings/spgemm.cpp``, with a torch fallback of the same meaning for other devices
and dtypes. They record no gradient; `torch_sla.linalg.adjoint.masked_product` is built on them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torch_sla._core import extension
from torch_sla.linalg.kernels.arguments import (
    VALUES,
    common_dtype,
    empty,
    indices,
    plain,
    runs_compiled,
)
from torch_sla.linalg.kernels.sparse import expand_rows, segment_order, segment_sum
from torch_sla.linalg.kernels.threads import resolve_threads

__all__ = ["product_pattern", "spgemm_masked"]

_compiled: Any = getattr(extension, "spgemm", None)


def product_pattern(
    crow_a: Tensor,
    ccol_a: Tensor,
    crow_b: Tensor,
    ccol_b: Tensor,
    n_cols: int,
    *,
    threads: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Positions of ``A B``: CSR pointers ``[n_rows + 1]`` and sorted columns.

    Parameters
    ----------
    crow_a, ccol_a, crow_b, ccol_b
        The factors, compressed rows.
    n_cols
        Columns of ``B``.

    Examples
    --------
    >>> import torch
    >>> crow, ccol = torch.tensor([0, 2, 3]), torch.tensor([0, 1, 0])
    >>> [t.tolist() for t in product_pattern(crow, ccol, crow, ccol, 2)]
    [[0, 2, 4], [0, 1, 0, 1]]
    """
    crow_a, ccol_a, crow_b, ccol_b = indices(crow_a, ccol_a, crow_b, ccol_b)
    if _compiled is None or not runs_compiled(crow_a):
        row, col, _, _ = _pairs(crow_a, ccol_a, crow_b, ccol_b)
        key = torch.unique(row * n_cols + col)
        rows = torch.div(key, max(n_cols, 1), rounding_mode="floor")
        counts = torch.bincount(rows, minlength=crow_a.numel() - 1)
        crow = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        return crow, key - rows * n_cols
    arrays = [t.numpy() for t in (crow_a, ccol_a, crow_b, ccol_b)]
    crow = empty((crow_a.numel(),), crow_a.dtype)
    workers = resolve_threads(threads, 8 * ccol_a.numel())
    try:
        total = _compiled.offsets(*arrays, n_cols, crow.numpy(), workers)
    except OverflowError:
        ra, ca, rb, cb = (t.long() for t in (crow_a, ccol_a, crow_b, ccol_b))
        return product_pattern(ra, ca, rb, cb, n_cols, threads=threads)
    ccol = empty((total,), crow.dtype)
    _compiled.columns(*arrays, n_cols, crow.numpy(), ccol.numpy(), workers)
    return crow, ccol


def spgemm_masked(
    x_pattern: tuple[Tensor, Tensor],
    x: Tensor,
    y_pattern: tuple[Tensor, Tensor],
    y: Tensor,
    out_pattern: tuple[Tensor, Tensor],
    n_cols: int,
    *,
    threads: int | None = None,
) -> Tensor:
    """Entries of ``X Y`` on given positions: ``out[i, j] = Σ_k X[i, k] Y[k, j]``.

    Parameters
    ----------
    x_pattern, y_pattern, out_pattern
        ``(crow, ccol)`` of each.
    x, y
        Slot values ``[B, nnz]``; a batch of one is shared.
    n_cols
        Columns of ``Y``.

    Returns
    -------
    Tensor
        ``[B, nnz_out]``.

    Examples
    --------
    >>> import torch
    >>> p = (torch.tensor([0, 2, 3]), torch.tensor([0, 1, 0]))
    >>> a = torch.tensor([[1.0, 2.0, 3.0]])
    >>> spgemm_masked(p, a, p, a, p, 2)
    tensor([[7., 2., 3.]])
    """
    dtype = common_dtype(x, y)
    x, y = plain(x, dtype), plain(y, dtype)
    ia = indices(*x_pattern, *y_pattern, *out_pattern)
    batch = max(x.shape[0], y.shape[0])
    if _compiled is None or not (runs_compiled(x, y, ia[0]) and dtype in VALUES):
        return _masked_fallback(ia, x, y, n_cols)
    out = empty((batch, ia[5].numel()), dtype)
    work = 8 * batch * max(x.shape[-1], out.shape[-1])
    rx, cx, ry, cy, rp, cp = (t.numpy() for t in ia)
    _compiled.masked(
        rx, cx, x.numpy(), ry, cy, y.numpy(), rp, cp, n_cols, out.numpy(),
        resolve_threads(threads, work),
    )  # fmt: skip
    return out


def _pairs(
    crow_a: Tensor, ccol_a: Tensor, crow_b: Tensor, ccol_b: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Row, column and the two factors of every elementary product."""
    counts = (crow_b[1:] - crow_b[:-1]).long()[ccol_a.long()]
    left = torch.repeat_interleave(torch.arange(ccol_a.numel(), device=ccol_a.device), counts)
    ends = counts.cumsum(0)
    rank = torch.arange(left.numel(), device=ccol_a.device) - (ends - counts)[left]
    right = crow_b.long()[ccol_a.long()[left]] + rank
    return expand_rows(crow_a).long()[left], ccol_b.long()[right], left, right


def _masked_fallback(ia: list[Tensor], x: Tensor, y: Tensor, n_cols: int) -> Tensor:
    crow_x, ccol_x, crow_y, ccol_y, crow_p, ccol_p = ia
    row, col, left, right = _pairs(crow_x, ccol_x, crow_y, ccol_y)
    slots = expand_rows(crow_p).long() * n_cols + ccol_p.long()
    key = row * n_cols + col
    place = torch.searchsorted(slots, key).clamp(max=max(slots.numel() - 1, 0))
    kept = slots[place] == key if slots.numel() else torch.zeros_like(key, dtype=torch.bool)
    place, left, right = place[kept], left[kept], right[kept]
    offsets, order = segment_order(place, slots.numel())
    terms = x[:, left] * y[:, right]
    return segment_sum(terms.unsqueeze(-1), offsets, order).squeeze(-1)
