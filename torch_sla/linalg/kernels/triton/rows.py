"""What is found row by row or entry by entry beside sums."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

from torch_sla.linalg.kernels.triton.csr import (
    ACCUMULATED,
    MOST,
    plan_tile,
    tile_entries,
    tile_rows,
)
from torch_sla.linalg.kernels.triton.launch import blocks, launch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "UNDECIDED",
    "decide",
    "diagonal_slots",
    "hashed_keys",
    "row_max",
    "row_sizes",
    "rows_of_entries",
    "sampled_product",
]

_ENTRIES = 512  # of one program of the sampled product
UNDECIDED = 1 << 60  # as in `torch_sla.linalg.kernels.independent`
_TURNS = 10  # rounds in search of independent rows that are queued before the host looks


@triton.jit(do_not_specialize=["n_rows"])
def _row_max(crow, source, index, out, n_rows, INDEXED: tl.constexpr,
             ROWS: tl.constexpr, WIDTH: tl.constexpr):  # fmt: skip
    row, inside, start, length = tile_rows(crow, n_rows, ROWS)
    least = tl.load(out + row, mask=inside, other=0)
    largest = tl.broadcast_to(least[:, None], [ROWS, WIDTH])
    for step in range(0, tl.max(length, 0), WIDTH):
        at, live = tile_entries(start, length, step, WIDTH)
        if INDEXED:
            at = tl.load(index + at, mask=live, other=0).to(tl.int64)
        found = tl.load(source + at, mask=live, other=0)
        largest = tl.where(live, tl.maximum(largest, found), largest)
    tl.store(out + row, tl.max(largest, 1), mask=inside)


def row_max(crow: Tensor, source: Tensor, index: Tensor | None, out: Tensor) -> Tensor:
    """Raise `out` ``[n_rows]`` to the largest of ``source[index[e]]`` in each row; return it."""
    n_rows = out.numel()
    if n_rows:
        nnz = source.numel() if index is None else index.numel()
        rows, width, _ = plan_tile(n_rows, nnz, 1)
        grid = (blocks(n_rows, rows),)
        entries = out if index is None else index
        launch(_row_max, grid, crow, source, entries, out, n_rows, index is not None, rows, width)
    return out


@triton.jit(do_not_specialize=["n_rows"])
def _row_sizes(crow, values, out, n_rows, SQUARES: tl.constexpr, DTYPE: tl.constexpr,
               ROWS: tl.constexpr, WIDTH: tl.constexpr):  # fmt: skip
    row, inside, start, length = tile_rows(crow, n_rows, ROWS)
    total = tl.zeros([ROWS, WIDTH], DTYPE)
    for step in range(0, tl.max(length, 0), WIDTH):
        at, live = tile_entries(start, length, step, WIDTH)
        v = tl.load(values + at, mask=live, other=0.0).to(DTYPE)
        total += v * v if SQUARES else tl.abs(v)
    tl.store(out + row, tl.sum(total, 1), mask=inside)


def row_sizes(crow: Tensor, values: Tensor, *, squares: bool) -> Tensor:
    """Sum sizes or squares of real `values` ``[nnz]`` in each row, none of them long (`csr.long_from`)."""
    n_rows = crow.numel() - 1
    out = values.new_empty(n_rows)
    if n_rows:
        rows, width, _ = plan_tile(n_rows, values.numel(), 1)
        accumulated = ACCUMULATED[values.dtype]
        grid = (blocks(n_rows, rows),)
        launch(_row_sizes, grid, crow, values, out, n_rows, squares, accumulated, rows, width)
    return out


@triton.jit(do_not_specialize=["n_rows"])
def _diagonal_slots(crow, ccol, out, n_rows, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    row, inside, start, length = tile_rows(crow, n_rows, ROWS)
    found = tl.full([ROWS, WIDTH], -1, tl.int64)
    for step in range(0, tl.max(length, 0), WIDTH):
        at, live = tile_entries(start, length, step, WIDTH)
        j = tl.load(ccol + at, mask=live, other=-1).to(tl.int64)
        found = tl.where(live & (j == row[:, None]), at, found)
    tl.store(out + row, tl.max(found, 1), mask=inside)


def diagonal_slots(crow: Tensor, ccol: Tensor, n: int) -> Tensor:
    """Slot of each of the first `n` diagonal positions, -1 where there is none."""
    out = ccol.new_empty(n)
    if n:
        rows, width, _ = plan_tile(n, ccol.numel(), 1)
        launch(_diagonal_slots, (blocks(n, rows),), crow, ccol, out, n, rows, width)
    return out


@triton.jit
def _last_at_most(crow, low, high, e):
    """Last row in ``[low, high]`` that begins at or before entry `e`."""
    while low < high:
        middle = (low + high + 1) // 2
        begins = tl.load(crow + middle).to(tl.int64) <= e
        low = tl.where(begins, middle, low)
        high = tl.where(begins, high, middle - 1)
    return low


@triton.jit
def rows_of_entries(crow, n_rows, first, last, e):
    """Row of each entry `e`: between those of the first and the last, by bisection."""
    zero = first * 0
    lowest = _last_at_most(crow, zero, zero + n_rows - 1, first)
    highest = _last_at_most(crow, lowest, zero + n_rows - 1, last)
    low = tl.zeros_like(e) + lowest
    high = tl.zeros_like(e) + highest
    span = highest - lowest
    while span > 0:
        middle = (low + high + 1) // 2
        begins = tl.load(crow + middle).to(tl.int64) <= e
        low = tl.where(begins, middle, low)
        high = tl.where(begins, high, tl.maximum(middle - 1, low))
        span = span // 2
    return low


@triton.jit(do_not_specialize=["n_rows", "nnz", "k", "u_stride", "v_stride", "sign"])
def _sampled(crow, ccol, u, v, out, n_rows, nnz, k, u_stride, v_stride, sign,
             COMPLEX: tl.constexpr, DTYPE: tl.constexpr, ENTRIES: tl.constexpr):  # fmt: skip
    member = tl.program_id(1).to(tl.int64)
    first = tl.program_id(0).to(tl.int64) * ENTRIES
    e = first + tl.arange(0, ENTRIES)
    live = e < nnz
    row = rows_of_entries(crow, n_rows, first, tl.minimum(first + ENTRIES, nnz) - 1, e)
    j = tl.load(ccol + e, mask=live, other=0).to(tl.int64)
    left = member * u_stride + row * k
    right = member * v_stride + j * k
    total = tl.zeros([ENTRIES], DTYPE)
    imaginary = tl.zeros([ENTRIES], DTYPE) if COMPLEX else total
    for c in range(k):
        if COMPLEX:
            ur = tl.load(u + 2 * (left + c), mask=live, other=0.0)
            ui = tl.load(u + 2 * (left + c) + 1, mask=live, other=0.0)
            vr = tl.load(v + 2 * (right + c), mask=live, other=0.0)
            vi = tl.load(v + 2 * (right + c) + 1, mask=live, other=0.0)
            total += ur * vr - ui * vi
            imaginary += ur * vi + ui * vr
        else:
            ur = tl.load(u + left + c, mask=live, other=0.0)
            total += ur * tl.load(v + right + c, mask=live, other=0.0)
    if COMPLEX:
        tl.store(out + 2 * (member * nnz + e), sign * total, mask=live)
        tl.store(out + 2 * (member * nnz + e) + 1, sign * imaginary, mask=live)
    else:
        tl.store(out + member * nnz + e, sign * total, mask=live)


def sampled_product(
    crow: Tensor, ccol: Tensor, u: Tensor, v: Tensor, negative: bool = False
) -> Tensor:
    """Entries ``[B, nnz]`` of ``u vᵀ``, or of ``-u vᵀ``, for ``u`` ``[B, n_rows, k]`` and ``v`` ``[B, n_cols, k]``.

    Nothing as long as the entries is made but the result.
    """
    batch, n_rows, k = u.shape
    nnz = ccol.numel()
    out = u.new_empty(batch, nnz)
    if not out.numel():
        return out
    for first in range(0, batch, MOST):
        part = slice(first, first + MOST)
        us, vs, written = u[part], v[part], out[part]
        if u.is_complex():
            us, vs, written = (torch.view_as_real(t) for t in (us, vs, written))
        grid = (blocks(nnz, _ENTRIES), us.shape[0])
        launch(
            _sampled, grid, crow, ccol, us, vs, written, n_rows, nnz, k, n_rows * k,
            v.shape[1] * k, -1.0 if negative else 1.0, u.is_complex(), ACCUMULATED[written.dtype], _ENTRIES,
        )  # fmt: skip
    return out


@triton.jit(do_not_specialize=["n"])
def _hashed_keys(group, key, n, UNDECIDED: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n
    h = i * 0x1E3779B97F4A7C15
    h = (h ^ (h >> 31)) * 0x3F58476D1CE4E5B9
    h = (h ^ (h >> 27)) & 0xFFFFFFF
    free = tl.load(group + i, mask=inside, other=0) < 0
    tl.store(key + i, tl.where(free, ((h << 32) | i) | UNDECIDED, 0), mask=inside)


def hashed_keys(group: Tensor) -> Tensor:
    """Keys of `torch_sla.linalg.kernels.independent`: undecided priorities where ``group < 0``, else 0."""
    n = group.numel()
    key = torch.empty(n, dtype=torch.int64, device=group.device)
    launch(_hashed_keys, (blocks(n, _ENTRIES),), group, key, n, UNDECIDED, _ENTRIES)
    return key


@triton.jit(do_not_specialize=["n_rows", "turn"])
def _near(crow, ccol, key, near, left, n_rows, turn, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    if (tl.load(left + tl.maximum(turn - 1, 0)) == 0) & (turn > 0):
        return
    row, inside, start, length = tile_rows(crow, n_rows, ROWS)
    seen = tl.zeros([ROWS, WIDTH], tl.int64)
    for step in range(0, tl.max(length, 0), WIDTH):
        at, live = tile_entries(start, length, step, WIDTH)
        j = tl.load(ccol + at, mask=live, other=0)
        seen = tl.maximum(seen, tl.load(key + j.to(tl.int64), mask=live, other=0))
    tl.store(near + row, tl.max(seen, 1), mask=inside)


@triton.jit(do_not_specialize=["n_rows", "turn"])
def _decide(crow, ccol, near, key, left, n_rows, turn, UNDECIDED: tl.constexpr,
            ROWS: tl.constexpr, WIDTH: tl.constexpr):  # fmt: skip
    if (tl.load(left + tl.maximum(turn - 1, 0)) == 0) & (turn > 0):
        return
    row, inside, start, length = tile_rows(crow, n_rows, ROWS)
    own = tl.load(key + row, mask=inside, other=0)
    undecided = (own >= UNDECIDED) & (own < 2 * UNDECIDED)
    length = tl.where(undecided, length, 0)
    seen = tl.zeros([ROWS, WIDTH], tl.int64)
    for step in range(0, tl.max(length, 0), WIDTH):
        at, live = tile_entries(start, length, step, WIDTH)
        j = tl.load(ccol + at, mask=live, other=0)
        seen = tl.maximum(seen, tl.load(near + j.to(tl.int64), mask=live, other=0))
    largest = tl.max(seen, 1)
    chosen = undecided & (largest == own)
    beaten = undecided & (largest >= 2 * UNDECIDED)
    tl.store(key + row, tl.where(chosen, own + UNDECIDED, 0), mask=inside & (chosen | beaten))
    remaining = tl.sum((undecided & ~(chosen | beaten)).to(tl.int32), 0)
    if remaining > 0:
        tl.atomic_add(left + turn, remaining)


def decide(crow: Tensor, ccol: Tensor, key: Tensor) -> None:
    """All rounds of `torch_sla.linalg.kernels.independent`, in place.

    Kernels return at once where the round before left nothing undecided, so the host can queue some rounds ahead
    and look after the last of them.
    """
    n_rows = key.numel()
    if not n_rows:
        return
    near = torch.empty_like(key)
    rows, width, _ = plan_tile(n_rows, ccol.numel(), 1)
    grid = (blocks(n_rows, rows),)
    while True:
        left = torch.zeros(_TURNS, dtype=torch.int32, device=key.device)
        for turn in range(_TURNS):
            launch(_near, grid, crow, ccol, key, near, left, n_rows, turn, rows, width)
            launch(_decide, grid, crow, ccol, near, key, left, n_rows, turn, UNDECIDED, rows, width)
        if not int(left[-1]):
            return
