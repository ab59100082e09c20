"""Triton kernels on the indices of sparse matrices, and what one pass over a matrix can tell.

None of them makes a temporary as long as the entries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor

from torch_sla.linalg.kernels.stencils import step

if TYPE_CHECKING:
    from torch_sla.linalg.kernels.stencils import Lattice

_BLOCK = 1024
_NONE = -(2**62)


@triton.jit(do_not_specialize=["n", "n0", "n1", "n2", "count"])
def _fit_kernel(
    crow, ccol, offsets, steps, found, n, n0, n1, n2, count, programs, NONE: tl.constexpr, BLOCK: tl.constexpr
):
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
        wanted = tl.load(offsets + k)
        left = inside & (at < to)
        column = tl.load(ccol + at, mask=left, other=0)
        stored = left & (column - i == wanted)
        a = x + tl.load(steps + 3 * k)
        b = y + tl.load(steps + 3 * k + 1)
        c = z + tl.load(steps + 3 * k + 2)
        good = (a >= 0) & (a < n0) & (b >= 0) & (b < n1) & (c >= 0) & (c < n2)
        misfit += (stored & (good == 0)).to(tl.int32)
        at += stored.to(at.dtype)
    left = inside & (at < to)
    offset = tl.load(ccol + at, mask=left, other=0).to(tl.int64) - i
    p = tl.program_id(0)
    tl.store(found + p, tl.max(tl.where(left, offset, NONE)))
    tl.store(found + programs + p, tl.sum(misfit).to(tl.int64))


def lattice_fit(lattice: Lattice, crow: Tensor, ccol: Tensor) -> tuple[int | None, bool]:
    """Return an offset that no neighbour of the lattice has, if any; and whether all entries fit."""
    where, n = crow.device, lattice.n
    grid = (triton.cdiv(n, _BLOCK),)
    offsets = torch.tensor(lattice.offsets, dtype=torch.int32, device=where)
    steps = torch.tensor([step(c) for c in lattice.codes], dtype=torch.int32, device=where)
    found = torch.empty(2, grid[0], dtype=torch.int64, device=where)
    _fit_kernel[grid](
        crow, ccol, offsets, steps, found, n, *lattice.shape, offsets.numel(), grid[0], _NONE, _BLOCK
    )
    missed, misfits = torch.stack([found[0].amax(), found[1].sum()]).tolist()
    return (None if missed == _NONE else missed), missed == _NONE and misfits == 0


@triton.jit(do_not_specialize=["count", "base"])
def _hash_kernel(words, sums, base, count, A: tl.constexpr, B: tl.constexpr, PER: tl.constexpr, BLOCK: tl.constexpr):
    p = tl.program_id(0).to(tl.int64)
    total = tl.zeros([BLOCK], dtype=tl.int64)
    for t in range(PER):
        k = (p * PER + t) * BLOCK + tl.arange(0, BLOCK)
        inside = k < count
        w = tl.load(words + k, mask=inside, other=0).to(tl.int64)
        place = k + (base + 1)
        mixed = (w ^ (place * A)) * B
        mixed = (mixed ^ (mixed >> 32)) * A
        mixed = (mixed ^ (mixed >> 29)) * B
        total += tl.where(inside, mixed ^ (mixed >> 32), 0)
    tl.store(sums + p, tl.sum(total))


_PER = 16


def hash_words(words: Tensor, constants: tuple[tuple[int, int], ...]) -> list[int]:
    """Sums of mixed words ``[n]`` (int64 or int32), one for each pair of constants."""
    programs = triton.cdiv(words.numel(), _BLOCK * _PER)
    sums = torch.empty(len(constants), programs, dtype=torch.int64, device=words.device)
    for row, (a, b) in zip(sums, constants, strict=True):
        _hash_kernel[(programs,)](words, row, 0, words.numel(), a, b, _PER, _BLOCK)
    return [int(s) for s in sums.sum(1).tolist()]


@triton.jit(do_not_specialize=["nnz", "n_rows", "n_cols"])
def _rows_kernel(row, col, crow, flag, nnz, n_rows, BLOCK: tl.constexpr):
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
    # Rows after the one before, up to this one, begin here; wide gaps are for the host.
    gap = tl.max(tl.where(inside & (r > before), r - before, 0))
    for t in range(gap):
        begins = inside & (before + 1 + t <= r)
        tl.store(crow + before + 1 + t, e.to(crow.dtype.element_ty), mask=begins)
    last = e == nnz - 1
    rest = tl.max(tl.where(last, n_rows - r, 0))
    for t in range(rest):
        tl.store(crow + r + 1 + t, (e + 1).to(crow.dtype.element_ty), mask=last & (r + 1 + t <= n_rows))


def sorted_rows(row: Tensor, col: Tensor, n_rows: int) -> Tensor | None:
    """Row pointers ``[n_rows + 1]`` of coordinates that are sorted and unique, None for others."""
    crow = torch.empty(n_rows + 1, dtype=row.dtype, device=row.device)
    flag = torch.zeros(1, dtype=torch.int32, device=row.device)
    nnz = row.numel()
    _rows_kernel[(triton.cdiv(nnz, _BLOCK),)](row, col, crow, flag, nnz, n_rows, _BLOCK)
    return None if int(flag) else crow


@triton.jit(do_not_specialize=["n"])
def _structure_kernel(crow, ccol, values, flags, n, tolerance, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n
    start = tl.load(crow + i, mask=inside, other=0)
    stop = tl.load(crow + i + 1, mask=inside, other=0)
    width = tl.max(stop - start)
    zero = tl.zeros([BLOCK], dtype=values.dtype.element_ty)
    own, size, below, above = zero, zero, zero, zero
    for s in range(width):
        at = start + s
        here = inside & (at < stop)
        j = tl.load(ccol + at, mask=here, other=0)
        v = tl.load(values + at, mask=here, other=0.0)
        own = tl.where(here & (j == i), v, own)
        size += tl.where(here & (j != i), tl.abs(v), 0.0)
        below += tl.where(here & (j < i), tl.abs(v), 0.0)
        above += tl.where(here & (j > i), tl.abs(v), 0.0)
    one_sided = tl.zeros([BLOCK], dtype=tl.int32)
    unequal = tl.zeros([BLOCK], dtype=tl.int32)
    for s in range(width):
        at = start + s
        here = inside & (at < stop)
        j = tl.load(ccol + at, mask=here, other=0)
        upper = here & (j > i)  # each pair is looked at from its smaller row; the rest from below
        v = tl.load(values + at, mask=here, other=0.0)
        low = tl.load(crow + j, mask=here, other=0)
        high = tl.load(crow + j + 1, mask=here, other=0)
        met = tl.zeros([BLOCK], dtype=tl.int32)
        mirror, other = zero, zero
        for t in range(tl.max(tl.where(here, high - low, 0))):
            there = here & (low + t < high)
            k = tl.load(ccol + low + t, mask=there, other=-1)
            w = tl.load(values + low + t, mask=there & upper, other=0.0)
            met += (there & (k == i)).to(tl.int32)
            mirror = tl.where(there & (k == i), w, mirror)
            other = tl.where(there & (k == j), tl.abs(w), other)
        one_sided += (here & (met == 0)).to(tl.int32)
        scale = tl.maximum(tl.maximum(tl.abs(v), tl.abs(mirror)), tl.maximum(tl.abs(own), other))
        differs = (tl.abs(v - mirror) <= tolerance * scale) == 0
        unequal += (upper & (met > 0) & differs).to(tl.int32)
    slack = 0.5 * tolerance * own
    strict = own > size * (1 + 1e-8) + slack
    lax = inside & (strict == 0)
    p = tl.program_id(0)
    tl.store(flags + 8 * p, tl.sum(one_sided))
    tl.store(flags + 8 * p + 1, tl.sum(unequal))
    tl.store(flags + 8 * p + 2, tl.sum((inside & ((own > 0) == 0)).to(tl.int32)))
    tl.store(flags + 8 * p + 3, tl.sum((inside & ((own >= size - slack) == 0)).to(tl.int32)))
    tl.store(flags + 8 * p + 4, tl.sum((inside & strict).to(tl.int32)))
    tl.store(flags + 8 * p + 5, tl.sum((lax & (below == 0)).to(tl.int32)))
    tl.store(flags + 8 * p + 6, tl.sum((lax & (above == 0)).to(tl.int32)))
    tl.store(flags + 8 * p + 7, tl.sum(lax.to(tl.int32)))


def structure_counts(crow: Tensor, ccol: Tensor, values: Tensor) -> list[int]:
    """Counts of `torch_sla.linalg.kernels.detection.StructureCounts`, in its order."""
    n, block = crow.numel() - 1, 256
    programs = triton.cdiv(n, block)
    flags = torch.empty(programs, 8, dtype=torch.int32, device=crow.device)
    tolerance = 8 * torch.finfo(values.dtype).eps
    _structure_kernel[(programs,)](crow, ccol, values, flags, n, tolerance, block)
    return [int(c) for c in flags.sum(0).tolist()]


@triton.jit(do_not_specialize=["n"])
def _mirror_kernel(crow, ccol, perm, missing, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n
    start = tl.load(crow + i, mask=inside, other=0)
    stop = tl.load(crow + i + 1, mask=inside, other=0)
    lost = tl.zeros([BLOCK], dtype=tl.int32)
    for s in range(tl.max(stop - start)):
        at = start + s
        here = inside & (at < stop)
        j = tl.load(ccol + at, mask=here, other=0)
        low = tl.load(crow + j, mask=here, other=0)
        high = tl.load(crow + j + 1, mask=here, other=0)
        slot = low - 1
        for t in range(tl.max(tl.where(here, high - low, 0))):
            there = here & (low + t < high)
            k = tl.load(ccol + low + t, mask=there, other=-1)
            slot = tl.where(there & (k == i), low + t, slot)
        met = here & (slot >= low)
        lost += (here & (slot < low)).to(tl.int32)
        tl.store(perm + at, slot, mask=met)
    tl.store(missing + tl.program_id(0), tl.sum(lost))


def mirrored_slots(crow: Tensor, ccol: Tensor) -> Tensor | None:
    """Slot of ``(j, i)`` for each slot ``(i, j)``; None where the positions are not symmetric."""
    n, block = crow.numel() - 1, 256
    programs = triton.cdiv(n, block)
    perm = torch.empty_like(ccol)
    missing = torch.empty(programs, dtype=torch.int32, device=crow.device)
    _mirror_kernel[(programs,)](crow, ccol, perm, missing, n, block)
    return None if int(missing.sum()) else perm


@triton.jit(do_not_specialize=["n"])
def _row_sum_kernel(crow, values, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n
    start = tl.load(crow + i, mask=inside, other=0)
    stop = tl.load(crow + i + 1, mask=inside, other=0)
    total = tl.zeros([BLOCK], dtype=values.dtype.element_ty)
    for s in range(tl.max(stop - start)):
        total += tl.abs(tl.load(values + start + s, mask=inside & (start + s < stop), other=0.0))
    tl.store(out + tl.program_id(0), tl.max(total))


def largest_row_sum(crow: Tensor, values: Tensor) -> Tensor:
    """Largest sum of absolute values along a row, a scalar."""
    n, block = crow.numel() - 1, 256
    out = values.new_empty(triton.cdiv(n, block))
    _row_sum_kernel[(out.numel(),)](crow, values, out, n, block)
    return out.amax()
