"""Kernels for the product of two sparse matrices.

Faces of ``csrc/bindings/spgemm.cpp``, with a torch fallback of the same meaning for other devices
and dtypes. They record no gradient; `torch_sla.linalg.adjoint.masked_product` is built on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla._core import extension
from torch_sla.linalg.kernels import triton as device
from torch_sla.linalg.kernels.arguments import (
    VALUES,
    common_dtype,
    empty,
    indices,
    plain,
    runs_compiled,
)
from torch_sla.linalg.kernels.merge import merged_rows
from torch_sla.linalg.kernels.pointers import pointers
from torch_sla.linalg.kernels.sparse import expand_rows, segment_order, segment_sum
from torch_sla.linalg.kernels.threads import resolve_threads

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "TERMS",
    "Terms",
    "elementary_products",
    "product_pattern",
    "product_positions",
    "spgemm_masked",
]

TERMS = 1 << 24  # elementary products listed at a time
_SORTED_ROW = 1024  # elementary products of a row up to which rows are sorted side by side
_PADDING = 4  # times the memory of the products that this may take
_MANY = 1 << 20  # entries of the left factor from which rows are merged: rounds are short otherwise
_ROUNDS = 32  # times the average row of the right factor, above which sorting costs less
_INT32_MAX = 2**31 - 1

_compiled: Any = None if extension is None else extension.spgemm


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
    return product_positions(crow_a, ccol_a, crow_b, ccol_b, n_cols, threads=threads)[:2]


def product_positions(
    crow_a: Tensor,
    ccol_a: Tensor,
    crow_b: Tensor,
    ccol_b: Tensor,
    n_cols: int,
    *,
    longest: int | None = None,
    threads: int | None = None,
) -> tuple[Tensor, Tensor, int | None]:
    """`product_pattern`, and the length of its longest row where a device told on the way.

    `longest` is that of ``A``, where it is known: saves CUDA a look at the device.

    Examples
    --------
    >>> import torch
    >>> crow, ccol = torch.tensor([0, 2, 3]), torch.tensor([0, 1, 0])
    >>> [t.tolist() for t in product_positions(crow, ccol, crow, ccol, 2)[:2]]
    [[0, 2, 4], [0, 1, 0, 1]]
    """
    crow_a, ccol_a, crow_b, ccol_b = indices(crow_a, ccol_a, crow_b, ccol_b)
    if device.runs(crow_a, crow_b) and ccol_a.numel() and ccol_b.numel():
        from torch_sla.linalg.kernels.triton.spgemm import union_rows

        longest = int(crow_a.diff().amax()) if longest is None else longest
        crow, ccol, most = union_rows((crow_a, ccol_a), (crow_b, ccol_b), longest)
        crow, ccol = indices(crow if ccol.numel() > _INT32_MAX else crow.to(crow_a.dtype), ccol)
        return crow, ccol, most
    if _compiled is None or not runs_compiled(crow_a):
        return *_pattern_fallback(crow_a, ccol_a, crow_b, ccol_b, n_cols), None
    arrays = [t.numpy() for t in (crow_a, ccol_a, crow_b, ccol_b)]
    crow = empty((crow_a.numel(),), crow_a.dtype)
    workers = resolve_threads(threads, 8 * ccol_a.numel())
    try:
        total = _compiled.offsets(*arrays, n_cols, crow.numpy(), workers)
    except OverflowError:
        ra, ca, rb, cb = (t.long() for t in (crow_a, ccol_a, crow_b, ccol_b))
        return product_positions(ra, ca, rb, cb, n_cols, threads=threads)
    ccol = empty((total,), crow.dtype)
    _compiled.columns(*arrays, n_cols, crow.numpy(), ccol.numpy(), workers)
    return crow, ccol, None


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
        Slot values ``[B, nnz]``, or blocks ``[B, nnz, r, m]`` and ``[B, nnz, m, c]``; a batch of one is
        shared.
    n_cols
        Columns of ``Y``.

    Returns
    -------
    Tensor
        ``[B, nnz_out]`` or ``[B, nnz_out, r, c]``.

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
    batch = _common_batch(x, y)
    scalar = x.ndim == 2
    if device.runs(x, y, ia[0]) and dtype in VALUES:
        from torch_sla.linalg.kernels.triton.spgemm import masked_product

        wide = [v.reshape(*v.shape, 1, 1) if scalar else v for v in (x, y)]
        blocks = masked_product((ia[0], ia[1]), wide[0], (ia[2], ia[3]), wide[1], (ia[4], ia[5]))
        return blocks.reshape(blocks.shape[:2]) if scalar else blocks
    if _compiled is None or not (scalar and runs_compiled(x, y, ia[0]) and dtype in VALUES):
        return _masked_fallback(ia, x, y, n_cols)
    out = empty((batch, ia[5].numel()), dtype)
    work = 8 * batch * max(x.shape[-1], out.shape[-1])
    rx, cx, ry, cy, rp, cp = (t.numpy() for t in ia)
    _compiled.masked(
        rx, cx, x.numpy(), ry, cy, y.numpy(), rp, cp, n_cols, out.numpy(),
        resolve_threads(threads, work),
    )  # fmt: skip
    return out


@dataclass(frozen=True)
class Terms:
    """The elementary products of rows ``first <= i < last`` of ``A B``, by entry of ``A``.

    Parameters
    ----------
    first, last
        Range of rows.
    begin
        ``[last - first + 1]``: where the products of each row begin.
    row, col
        Position of each product, its row counted from `first`; int64.
    left, right
        Entries of ``A`` and ``B`` that it multiplies; int64.
    """

    first: int
    last: int
    begin: Tensor
    row: Tensor
    col: Tensor
    left: Tensor
    right: Tensor


def elementary_products(
    crow_a: Tensor, ccol_a: Tensor, crow_b: Tensor, ccol_b: Tensor, budget: int = TERMS
) -> Iterator[Terms]:
    """List the elementary products of ``A B``, whole rows and about `budget` of them at a time.

    Examples
    --------
    >>> import torch
    >>> crow, ccol = torch.tensor([0, 2, 3]), torch.tensor([0, 1, 0])
    >>> [(t.row.tolist(), t.col.tolist()) for t in elementary_products(crow, ccol, crow, ccol)]
    [([0, 0, 0, 1, 1], [0, 1, 0, 0, 1])]
    """
    where, n_rows = ccol_a.device, crow_a.numel() - 1
    prefix = pointers(crow_b.diff()[ccol_a.long()])
    before = prefix[crow_a.long()]  # products before each row
    wanted = torch.arange(budget, int(before[-1]) + budget, budget, device=where)
    cuts = torch.searchsorted(before, wanted, right=True).clamp(max=n_rows + 1) - 1
    bounds = torch.unique(torch.cat([cuts, cuts.new_tensor([0, n_rows])]))
    for (first, last), (begin, end) in zip(
        pairwise(bounds.tolist()), pairwise(crow_a[bounds].tolist()), strict=True
    ):
        start = prefix[begin : end + 1]
        size = int(start[-1] - start[0])
        entry = torch.arange(begin, end, device=where)
        left = torch.repeat_interleave(entry, start.diff(), output_size=size)
        right = torch.arange(size, device=where) - (prefix[left] - start[0])
        right += crow_b[ccol_a[left].long()]
        row = expand_rows(crow_a[first : last + 1] - begin)[left - begin].long()
        offsets = before[first : last + 1] - start[0]
        yield Terms(first, last, offsets, row, ccol_b[right].long(), left, right)


def _pattern_fallback(
    crow_a: Tensor, ccol_a: Tensor, crow_b: Tensor, ccol_b: Tensor, n_cols: int
) -> tuple[Tensor, Tensor]:
    found = None
    if ccol_a.numel() >= _MANY:
        widest = _ROUNDS * (1 + ccol_b.numel() // max(crow_b.numel() - 1, 1))
        found = merged_rows(crow_a, ccol_a, crow_b, ccol_b, n_cols, widest)
    counts, ccol = found or _sorted(crow_a, ccol_a, crow_b, ccol_b, n_cols)
    crow = pointers(counts)
    crow, ccol = indices(crow if ccol.numel() >= 2**31 else crow.to(crow_a.dtype), ccol)
    return crow, ccol


def _sorted(
    crow_a: Tensor, ccol_a: Tensor, crow_b: Tensor, ccol_b: Tensor, n_cols: int
) -> tuple[Tensor, Tensor]:
    """Count the columns of each row of ``A B``, and list them, by sorting elementary products."""
    counts, columns = [crow_a.new_empty(0)], [ccol_a.new_empty(0)]
    for t in elementary_products(crow_a, ccol_a, crow_b, ccol_b, TERMS):
        count, found = _distinct(t, n_cols)
        counts.append(count)
        columns.append(found.to(ccol_a.dtype))
    return torch.cat(counts), torch.cat(columns)


def _distinct(t: Terms, n_cols: int) -> tuple[Tensor, Tensor]:
    """Count the distinct columns of each row, and list them, sorted in each row."""
    rows, size = t.last - t.first, t.col.numel()
    longest = int(t.begin.diff().amax()) if rows else 0
    if longest <= _SORTED_ROW and rows * longest <= _PADDING * size:
        # Rows of like length are sorted side by side, which is several times faster than one sort.
        none = torch.iinfo(torch.int64 if n_cols > _INT32_MAX else torch.int32)
        padded = torch.full(
            (rows, longest), none.max, dtype=getattr(torch, none.dtype), device=t.col.device
        )
        place = torch.arange(size, device=t.col.device) - t.begin[t.row] + t.row * longest
        padded.view(-1)[place] = t.col.to(padded.dtype)
        padded = padded.sort(dim=1).values
        fresh = padded != none.max
        fresh[:, 1:] &= padded[:, 1:] != padded[:, :-1]
        return fresh.sum(1), padded.masked_select(fresh)
    key = torch.unique(t.row * n_cols + t.col)
    found = torch.div(key, max(n_cols, 1), rounding_mode="floor")
    edges = torch.searchsorted(found, torch.arange(rows + 1, device=key.device))
    return edges.diff(), key - found * n_cols


def _common_batch(x: Tensor, y: Tensor) -> int:
    """Batch of the product, which may have no members; a batch of one is shared."""
    return y.shape[0] if x.shape[0] == 1 else x.shape[0]


def _masked_fallback(ia: list[Tensor], x: Tensor, y: Tensor, n_cols: int) -> Tensor:
    crow_x, ccol_x, crow_y, ccol_y, crow_p, ccol_p = ia
    parts = []
    shape = x.shape[2:3] + y.shape[3:4]
    for t in elementary_products(
        crow_x, ccol_x, crow_y, ccol_y, max(TERMS // (max(x.shape[0], 1) * shape.numel()), 1)
    ):
        begin, end = (int(crow_p[i]) for i in (t.first, t.last))
        slots = expand_rows(crow_p[t.first : t.last + 1] - begin).long() * n_cols
        slots += ccol_p[begin:end]
        key = t.row * n_cols + t.col
        place = torch.searchsorted(slots, key).clamp(max=max(slots.numel() - 1, 0))
        kept = slots[place] == key if slots.numel() else torch.zeros_like(key, dtype=torch.bool)
        offsets, order = segment_order(place[kept], slots.numel())
        left, right = x[:, t.left[kept]], y[:, t.right[kept]]
        terms = left @ right if shape else left * right
        total = segment_sum(terms.reshape(*terms.shape[:2], shape.numel()), offsets, order)
        parts.append(total.reshape(*total.shape[:2], *shape))
    return torch.cat(parts, 1) if parts else x.new_zeros(_common_batch(x, y), 0, *shape)
