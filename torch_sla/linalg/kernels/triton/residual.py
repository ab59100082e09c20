"""What solutions leave over, and how large that is; `torch_sla.linalg.kernels.lanes.residual` says what is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

from torch_sla.linalg.kernels.triton.csr import product
from torch_sla.linalg.kernels.triton.launch import blocks, launch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["residual"]

_TILE = 512  # entries that a program reads at a time
_PARTS = 4096  # partial results of a column, at most
_SUM = 1024  # of them put together at a time


@triton.jit
def _size(v):
    """Absolute values; NaN, which a maximum would pass over, as infinity."""
    return tl.where(v == v, tl.abs(v), float("inf"))


@triton.jit(do_not_specialize=["n", "k", "tiles", "count", "size", "per"])
def _parts_kernel(
    r, x, b, parts, n, k, tiles, count, size, per, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):  # fmt: skip
    """Measure a piece of some columns of a member: parts ``[5, members * k, count]``, `size` of a kind."""
    piece = tl.program_id(0) % count
    tile = (tl.program_id(0) // count) % tiles
    member = (tl.program_id(0) // count // tiles).to(tl.int64)
    c = tile * COLUMNS + tl.arange(0, COLUMNS)
    zero = tl.zeros([ROWS, COLUMNS], tl.float64)
    r_sum, r_max, x_max, b_max, b_sum = zero, zero, zero, zero, zero
    for step in range(per):
        i = (piece.to(tl.int64) * per + step) * ROWS + tl.arange(0, ROWS)
        live = (i < n)[:, None] & (c < k)[None, :]
        at = (member * n + i)[:, None] * k + c[None, :]
        left = tl.load(r + at, mask=live, other=0.0).to(tl.float64)
        given = tl.load(b + at, mask=live, other=0.0).to(tl.float64)
        r_sum += left * left
        b_sum += given * given
        r_max = tl.maximum(r_max, _size(left))
        b_max = tl.maximum(b_max, _size(given))
        x_max = tl.maximum(x_max, _size(tl.load(x + at, mask=live, other=0.0).to(tl.float64)))
    to = parts + (member * k + c) * count + piece
    size = tl.cast(size, tl.int64)
    tl.store(to, tl.sum(r_sum, 0), mask=c < k)
    tl.store(to + size, tl.max(r_max, 0), mask=c < k)
    tl.store(to + 2 * size, tl.max(x_max, 0), mask=c < k)
    tl.store(to + 3 * size, tl.max(b_max, 0), mask=c < k)
    tl.store(to + 4 * size, tl.sum(b_sum, 0), mask=c < k)


@triton.jit(do_not_specialize=["count"])
def _sizes_kernel(parts, sizes, count, SUM: tl.constexpr):
    """Put the parts of a column together: sizes ``[5, columns]``."""
    column = tl.program_id(0).to(tl.int64)
    for kind in tl.static_range(5):
        at = kind * tl.num_programs(0).to(tl.int64) + column
        total = tl.zeros([SUM], tl.float64)
        for first in range(0, count, SUM):
            k = first + tl.arange(0, SUM)
            part = tl.load(parts + at * count + k, mask=k < count, other=0.0)
            if (kind == 0) | (kind == 4):
                total += part
            else:
                total = tl.maximum(total, part)
        size = tl.sqrt(tl.sum(total)) if (kind == 0) | (kind == 4) else tl.max(total)
        tl.store(sizes + at, size.to(sizes.dtype.element_ty))


def residual(
    crow: Tensor,
    ccol: Tensor,
    values: Tensor,
    x: Tensor,
    b: Tensor,
    slots: Tensor | None = None,
    longest: int | None = None,
) -> tuple[Tensor, Tensor]:
    """``b - A_i x_i`` ``[B, n, K]`` and sizes ``[5, B, K]``, of square matrices ``[B, nnz]`` or one of them."""
    members, n, k = b.shape
    r = product(
        crow, ccol, values, x, torch.empty_like(b),
        slots=slots, longest=longest, finish="affine", b=b, alpha=-1.0,
    )  # fmt: skip
    columns = min(triton.next_power_of_2(k), 16)
    rows, tiles = _TILE // columns, blocks(k, columns)
    per = blocks(n, rows * _PARTS)
    count = blocks(n, rows * per)
    parts = torch.empty(5, members * k, count, dtype=torch.float64, device=b.device)
    sizes = b.new_empty(5, members, k)
    grid = (members * tiles * count,)
    size = members * k * count
    launch(_parts_kernel, grid, r, x, b, parts, n, k, tiles, count, size, per, rows, columns)
    launch(_sizes_kernel, (members * k,), parts, sizes, count, _SUM)
    return r, sizes
