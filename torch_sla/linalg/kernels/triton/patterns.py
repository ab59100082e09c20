"""Triton kernels on the indices of sparse matrices, and what one pass over a matrix can tell.

None of them makes a temporary as long as the entries.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor

from torch_sla.linalg.kernels.triton.launch import blocks, launch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch_sla.linalg.kernels.stencils import Lattice

_BLOCK = 1024


@triton.jit
def _rows_of(crow, n, BLOCK: tl.constexpr):
    """Rows of a program, which of them are there, and where their entries begin and end."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n
    start = tl.load(crow + i, mask=inside, other=0).to(tl.int64)
    stop = tl.load(crow + i + 1, mask=inside, other=0).to(tl.int64)
    return i, inside, start, stop


@triton.jit(do_not_specialize=["n", "count", "stride"])
def _sample_kernel(crow, ccol, out, n, count, stride, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    k = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = k < count
    row = ((k.to(tl.int64) * stride) % n).to(tl.int32)
    start = tl.load(crow + row, mask=inside, other=0).to(tl.int64)
    stop = tl.load(crow + row + 1, mask=inside, other=0).to(tl.int64)
    s = tl.arange(0, WIDTH)[None, :]
    there = start[:, None] + s < stop[:, None]
    offset = tl.load(ccol + start[:, None] + s, mask=there, other=0) - row[:, None]
    offset = tl.where(there, offset, 0)
    tl.store(out + k[:, None] * WIDTH + s, offset.to(tl.int32), mask=inside[:, None])


def sampled_offsets(crow: Tensor, ccol: Tensor, count: int, stride: int) -> Tensor:
    """Offsets of the first 32 entries of `count` rows, `stride` apart around the end, 0 where there are fewer."""
    out = torch.empty(count, 32, dtype=torch.int32, device=crow.device)
    grid = (blocks(count, 64),)
    launch(_sample_kernel, grid, crow, ccol, out, crow.numel() - 1, count, stride, 32, 64)
    return out


@cache
def _codes_table(codes: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(codes, dtype=torch.int32, device=device)


def codes_on(lattice: Lattice, device: torch.device) -> Tensor:
    """Neighbours of a lattice as a tensor, which is kept: there are few kinds."""
    return _codes_table(lattice.codes, device)


@triton.jit(do_not_specialize=["n", "n0", "n1", "n2", "count"])
def _fit_kernel(crow, ccol, codes, found, n, n0, n1, n2, count, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n
    row = i // n0
    x = i - row * n0
    z = row // n1
    y = row - z * n1
    at = tl.load(crow + i, mask=inside, other=0)
    to = tl.load(crow + i + 1, mask=inside, other=0)
    misfit = tl.zeros([BLOCK], dtype=tl.int32)
    for k in range(count):
        code = tl.load(codes + k)
        d0, d1, d2 = code % 3 - 1, code // 3 % 3 - 1, code // 9 - 1
        left = inside & (at < to)
        column = tl.load(ccol + at, mask=left, other=0)
        stored = left & (column - i == d0 + n0 * (d1 + n1 * d2))
        a, b, c = x + d0, y + d1, z + d2
        good = (a >= 0) & (a < n0) & (b >= 0) & (b < n1) & (c >= 0) & (c < n2)
        misfit += (stored & (good == 0)).to(tl.int32)
        at += stored.to(at.dtype)
    left = inside & (at < to)
    offset = tl.load(ccol + at, mask=left, other=0).to(tl.int64) - i
    missed = tl.max(tl.where(left, offset + n, 0))  # more than 0, for any offset
    tl.atomic_max(found, missed, mask=missed > 0)
    wrong = tl.sum(misfit).to(tl.int64)
    tl.atomic_add(found + 1, wrong, mask=wrong > 0)


def lattice_fit(lattice: Lattice, crow: Tensor, ccol: Tensor) -> tuple[int | None, bool]:
    """Return an offset that no neighbour of the lattice has, if any; and whether all entries fit."""
    codes, found = codes_on(lattice, crow.device), crow.new_zeros(2, dtype=torch.int64)
    grid = (blocks(lattice.n, _BLOCK),)
    launch(
        _fit_kernel, grid, crow, ccol, codes, found, lattice.n, *lattice.shape, codes.numel(), _BLOCK
    )  # fmt: skip
    missed, misfits = found.tolist()
    return (missed - lattice.n if missed else None), not (missed or misfits)


@triton.jit
def _mixed(w, place, A: tl.constexpr, B: tl.constexpr):
    mixed = (w ^ (place * A)) * B
    mixed = (mixed ^ (mixed >> 32)) * A
    mixed = (mixed ^ (mixed >> 29)) * B
    return mixed ^ (mixed >> 32)


@triton.jit(do_not_specialize=["count"])
def _hash_kernel(
    words, sums, count,
    A0: tl.constexpr, B0: tl.constexpr, A1: tl.constexpr, B1: tl.constexpr, PER: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    p = tl.program_id(0).to(tl.int64)
    member = tl.program_id(1).to(tl.int64)
    first = tl.zeros([BLOCK], dtype=tl.int64)
    second = tl.zeros([BLOCK], dtype=tl.int64)
    for t in range(PER):
        k = (p * PER + t) * BLOCK + tl.arange(0, BLOCK)
        inside = k < count
        w = tl.load(words + member * count + k, mask=inside, other=0).to(tl.int64)
        first += tl.where(inside, _mixed(w, k + 1, A0, B0), 0)
        second += tl.where(inside, _mixed(w, k + 1, A1, B1), 0)
    # Integer sums wrap, hence the order in which programs add does not show.
    tl.atomic_add(sums + 2 * member, tl.sum(first))
    tl.atomic_add(sums + 2 * member + 1, tl.sum(second))


_PER = 16  # blocks of words that a program mixes, where there are many
_MANY = 1 << 22
_GAP = 32  # empty rows in a row that a program fills in


def hash_words(words: Sequence[Tensor], constants: tuple[tuple[int, int], ...]) -> Tensor:
    """Return, for each row of each ``[B, n]`` (int64 or int32), its mixed sums with both pairs of constants, int64."""
    members = sum(len(part) for part in words)
    sums = torch.zeros(members, 2, dtype=torch.int64, device=words[0].device)
    (a0, b0), (a1, b1) = constants
    first = 0
    for part in words:
        rows, count = part.shape
        per = _PER if count > _MANY else 1
        grid = (blocks(count, _BLOCK * per), rows)
        launch(_hash_kernel, grid, part, sums[first:], count, a0, b0, a1, b1, per, _BLOCK)
        first += rows
    return sums


@triton.jit(do_not_specialize=["nnz", "n_rows"])
def _rows_kernel(row, col, crow, flag, nnz, n_rows, GAP: tl.constexpr, BLOCK: tl.constexpr):
    e = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = e < nnz
    r = tl.load(row + e, mask=inside, other=0)
    c = tl.load(col + e, mask=inside, other=0)
    first = e == 0
    before = tl.load(row + e - 1, mask=inside & (e > 0), other=-1)
    c_before = tl.load(col + e - 1, mask=inside & (e > 0), other=-1)
    rising = first | (r > before) | ((r == before) & (c > c_before))
    bad = tl.sum((inside & (rising == 0)).to(tl.int32))
    tl.atomic_add(flag, bad, mask=bad > 0)
    # Rows after the one before, up to this one, begin here; wide gaps are left to the host, and
    # coordinates in disorder are full of them.
    gap = tl.max(tl.where(inside & (r > before), r - before, 0))
    last = e == nnz - 1
    rest = tl.max(tl.where(last, n_rows - r, 0))
    wide = ((gap > GAP) | (rest > GAP)).to(tl.int32)
    tl.atomic_add(flag + 1, wide, mask=wide > 0)
    for t in range(tl.minimum(gap, GAP)):
        begins = inside & (before + 1 + t <= r)
        tl.store(crow + before + 1 + t, e.to(crow.dtype.element_ty), mask=begins)
    for t in range(tl.minimum(rest, GAP)):
        tl.store(
            crow + r + 1 + t, (e + 1).to(crow.dtype.element_ty), mask=last & (r + 1 + t <= n_rows)
        )


def sorted_rows(row: Tensor, col: Tensor, n_rows: int) -> Tensor | None:
    """Row pointers ``[n_rows + 1]`` of coordinates that are sorted and unique, None for others."""
    crow = torch.empty(n_rows + 1, dtype=row.dtype, device=row.device)
    flag = torch.zeros(2, dtype=torch.int32, device=row.device)
    nnz = row.numel()
    grid = (blocks(nnz, _BLOCK),)
    launch(_rows_kernel, grid, row, col, crow, flag, nnz, n_rows, _GAP, _BLOCK)
    disorder, wide = flag.tolist()
    if disorder:
        return None
    if wide:
        wanted = torch.arange(n_rows + 1, dtype=row.dtype, device=row.device)
        return torch.searchsorted(row, wanted).to(row.dtype)
    return crow


@triton.jit
def _count(where, condition):
    total = tl.sum(condition.to(tl.int32))
    tl.atomic_add(where, total.to(tl.int64), mask=total > 0)


@triton.jit
def _member(crow, values, diagonal, n):
    """Values and diagonal of the matrix of a batch that a program looks at."""
    member = tl.program_id(1).to(tl.int64)
    return values + member * tl.load(crow + n), diagonal + member * n


@triton.jit(do_not_specialize=["n"])
def _row_kernel(crow, ccol, values, diagonal, found, n, tolerance, BLOCK: tl.constexpr):
    i, inside, start, stop = _rows_of(crow, n, BLOCK)
    values, diagonal = _member(crow, values, diagonal, n)
    width = tl.max(stop - start)
    zero = tl.zeros([BLOCK], dtype=values.dtype.element_ty)
    own, size, below, above = zero, zero, zero, zero
    for s in range(width):
        here = inside & (start + s < stop)
        j = tl.load(ccol + start + s, mask=here, other=0)
        v = tl.load(values + start + s, mask=here, other=0.0)
        own = tl.where(here & (j == i), v, own)
        size += tl.where(here & (j != i), tl.abs(v), 0.0)
        below += tl.where(here & (j < i), tl.abs(v), 0.0)
        above += tl.where(here & (j > i), tl.abs(v), 0.0)
    tl.store(diagonal + i, own, mask=inside)
    slack = 0.5 * tolerance * own
    strict = own > size * (1 + 1e-8) + slack
    lax = inside & (strict == 0)
    _count(found + 3, inside & ((own > 0) == 0))
    _count(found + 4, inside & ((own >= size - slack) == 0))
    _count(found + 5, inside & strict)
    _count(found + 6, lax & (below == 0))
    _count(found + 7, lax & (above == 0))
    tl.atomic_max(found + 8, width.to(tl.int64), mask=width > tl.load(found + 8))


@triton.jit
def _slot_of(ccol, low, high, column, mask):
    """First slot in ``[low, high)`` whose column is not below `column`."""
    for _ in range(tl.max(tl.where(mask, _bits(high - low), 0))):
        middle = low + (high - low) // 2  # their sum may be beyond 32 bits
        open_ = mask & (low < high)
        under = open_ & (tl.load(ccol + middle, mask=open_, other=0) < column)
        low = tl.where(under, middle + 1, low)
        high = tl.where(open_ & (under == 0), middle, high)
    return low


@triton.jit
def _bits(count):
    """Halvings that leave nothing of `count` things."""
    return tl.ceil(tl.log2(count.to(tl.float32) + 1.0)).to(tl.int32) + 1


@triton.jit(do_not_specialize=["n", "widest"])
def _pair_kernel(crow, ccol, values, diagonal, found, n, tolerance, widest, BLOCK: tl.constexpr):
    if tl.load(found + 8) > widest:
        return
    i, inside, start, stop = _rows_of(crow, n, BLOCK)
    values, diagonal = _member(crow, values, diagonal, n)
    own = tl.load(diagonal + i, mask=inside, other=0.0)
    one_sided = tl.zeros([BLOCK], dtype=tl.int32)
    unequal = tl.zeros([BLOCK], dtype=tl.int32)
    rounded = tl.zeros([BLOCK], dtype=tl.int32)
    for s in range(tl.max(stop - start)):
        here = inside & (start + s < stop)
        j = tl.load(ccol + start + s, mask=here, other=0)
        v = tl.load(values + start + s, mask=here, other=0.0)
        low = tl.load(crow + j, mask=here, other=0)
        high = tl.load(crow + j + 1, mask=here, other=0)
        at = _slot_of(ccol, low, high, i, here)
        met = here & (at < high)
        met = met & (tl.load(ccol + at, mask=met, other=-1) == i)
        mirror = tl.load(values + at, mask=met, other=0.0)
        other = tl.load(diagonal + j, mask=met, other=0.0)
        both = tl.maximum(tl.abs(v), tl.abs(mirror))
        scale = tl.maximum(both, tl.maximum(tl.abs(own), tl.abs(other)))
        gap = tl.abs(v - mirror)
        equal = gap <= tolerance * scale
        one_sided += (here & (met == 0)).to(tl.int32)
        unequal += (met & (equal == 0)).to(tl.int32)
        rounded += (met & equal & (gap > tolerance * both)).to(tl.int32)
    _count(found, one_sided)
    _count(found + 1, unequal)
    _count(found + 2, rounded)


WIDEST = 4096  # entries of a row, above which pairing rows up is left to sorting
_ROWS = 256


def structure_counts(crow: Tensor, ccol: Tensor, values: Tensor) -> Tensor:
    """Return the numbers of `torch_sla.linalg.kernels.detection.StructureCounts`, int64; of long rows only the last."""
    n, members = crow.numel() - 1, values.shape[:-1].numel()
    grid = (blocks(n, _ROWS), members)
    found = torch.zeros(9, dtype=torch.int64, device=crow.device)
    diagonal = values.new_empty(members * n)
    tolerance = 8 * torch.finfo(values.dtype).eps
    launch(_row_kernel, grid, crow, ccol, values, diagonal, found, n, tolerance, _ROWS)
    launch(_pair_kernel, grid, crow, ccol, values, diagonal, found, n, tolerance, WIDEST, _ROWS)
    return found


@triton.jit(do_not_specialize=["n", "widest"])
def _mirror_kernel(crow, ccol, perm, missing, n, widest, BLOCK: tl.constexpr):
    i, inside, start, stop = _rows_of(crow, n, BLOCK)
    usable = inside & (stop - start <= widest)
    lost = (inside & (usable == 0)).to(tl.int32)
    for s in range(tl.max(tl.where(usable, stop - start, 0))):
        here = usable & (start + s < stop)
        j = tl.load(ccol + start + s, mask=here, other=0)
        low = tl.load(crow + j, mask=here, other=0)
        high = tl.load(crow + j + 1, mask=here, other=0)
        at = _slot_of(ccol, low, high, i, here)
        met = here & (at < high)
        met = met & (tl.load(ccol + at, mask=met, other=-1) == i)
        lost += (here & (met == 0)).to(tl.int32)
        tl.store(perm + start + s, at, mask=met)
    tl.store(missing + tl.program_id(0), tl.sum(lost))


def mirrored_slots(crow: Tensor, ccol: Tensor) -> Tensor | None:
    """Slot of ``(j, i)`` for each slot ``(i, j)``; None where positions are not symmetric, or rows are long."""
    n = crow.numel() - 1
    grid = (blocks(n, _ROWS),)
    perm = torch.empty_like(ccol)
    missing = torch.empty(grid[0], dtype=torch.int32, device=crow.device)
    launch(_mirror_kernel, grid, crow, ccol, perm, missing, n, WIDEST, _ROWS)
    return None if int(missing.amax()) else perm


@triton.jit(do_not_specialize=["n"])
def _row_sum_kernel(crow, values, out, n, BLOCK: tl.constexpr):
    _, inside, start, stop = _rows_of(crow, n, BLOCK)
    total = tl.zeros([BLOCK], dtype=values.dtype.element_ty)
    for s in range(tl.max(stop - start)):
        total += tl.abs(tl.load(values + start + s, mask=inside & (start + s < stop), other=0.0))
    tl.store(out + tl.program_id(0), tl.max(total))


def largest_row_sum(crow: Tensor, values: Tensor) -> Tensor:
    """Largest sum of absolute values along a row, a scalar."""
    n = crow.numel() - 1
    out = values.new_empty(blocks(n, _ROWS))
    launch(_row_sum_kernel, (out.numel(),), crow, values, out, n, _ROWS)
    return out.amax()


@triton.jit(do_not_specialize=["n", "nnz", "n_cols", "widest"])
def _sound_kernel(crow, ccol, faults, n, nnz, n_cols, widest, BLOCK: tl.constexpr):
    i, inside, start, stop = _rows_of(crow, n, BLOCK)
    good = (start >= 0) & (stop >= start) & (stop <= nnz) & (stop - start <= widest)
    good = good & ((i > 0) | (start == 0)) & ((i < n - 1) | (stop == nnz))
    bad = (inside & (good == 0)).to(tl.int32)
    usable = inside & good
    before = tl.full([BLOCK], -1, dtype=ccol.dtype.element_ty)
    for s in range(tl.max(tl.where(usable, stop - start, 0))):
        here = usable & (start + s < stop)
        j = tl.load(ccol + start + s, mask=here, other=0)
        bad += (here & ((j <= before) | (j >= n_cols))).to(tl.int32)
        before = tl.where(here, j, before)
    tl.store(faults + tl.program_id(0), tl.sum(bad))


def sound_rows(crow: Tensor, ccol: Tensor, n_cols: int) -> bool:
    """Whether rows of at most 4096 entries rise from 0 to all entries, with rising columns in range."""
    n = crow.numel() - 1
    grid = (blocks(n, _ROWS),)
    faults = torch.empty(grid[0], dtype=torch.int32, device=crow.device)
    launch(_sound_kernel, grid, crow, ccol, faults, n, ccol.numel(), n_cols, WIDEST, _ROWS)
    return not int(faults.amax())
