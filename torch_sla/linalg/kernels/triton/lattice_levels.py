"""Lattice kernels in Triton that levels are set up with; `torch_sla.linalg.kernels.lattice_fallback` defines them."""

from __future__ import annotations

from math import frexp
from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor

from torch_sla.linalg.kernels.lattice_fallback import BLOCK
from torch_sla.linalg.kernels.triton.lattice_rows import (
    SIZES,
    block_rows,
    grid_of,
    offset_of,
    plane_of,
    sizes_of,
)
from torch_sla.linalg.kernels.triton.launch import blocks, launch
from torch_sla.linalg.kernels.triton.patterns import codes_on

if TYPE_CHECKING:
    from torch_sla.linalg.kernels.stencils import AxisWeights, Stencil

__all__ = ["axis_weights", "contrary", "galerkin", "load", "survey"]


@triton.jit(do_not_specialize=["n", "s1", "s2", "count", "exponent"])
def _load_kernel(
    crow, ccol, values, codes, planes, exponent, n, ld, s1, s2, count,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    # A row of the tile is a row of the matrix, so that entries are read as they lie.
    i, inside = block_rows(n, BLOCK)
    start = tl.load(crow + i, mask=inside, other=0).to(tl.int64)
    stop = tl.load(crow + i + 1, mask=inside, other=0).to(tl.int64)
    at = start[:, None] + tl.arange(0, WIDTH)[None, :]
    there = at < stop[:, None]
    offset = tl.load(ccol + at, mask=there, other=0) - i[:, None]
    # A power of two, made of its exponent: numbers reach kernels in single precision.
    scale = ((tl.cast(exponent, tl.int64) + 1023) << 52).to(tl.float64, bitcast=True)
    v = tl.load(values + at, mask=there, other=0.0).to(tl.float64) * scale
    for k in range(count):
        code = tl.load(codes + k)
        wanted = (code % 3 - 1) + (code // 3 % 3 - 1) * s1 + (code // 9 - 1) * s2
        own = tl.sum(tl.where(there & (offset == wanted), v, 0.0), axis=1)
        tl.store(plane_of(planes, k, ld) + i, own.to(planes.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=[*SIZES, "programs"])
def _survey_kernel(
    A,
    M,
    found,
    n,
    ld,
    s1,
    s2,
    programs,
    CODES: tl.constexpr,
    COUNT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    i, inside = block_rows(n, BLOCK)
    zero = tl.zeros([BLOCK], dtype=A.dtype.element_ty)
    squares, sums, own = zero, zero, zero
    l0, h0, l1, h1, l2, h2 = zero, zero, zero, zero, zero, zero
    for k in tl.static_range(COUNT):
        a = tl.load(plane_of(A, k, ld) + i, mask=inside, other=0.0)
        squares += a * a
        sums += tl.abs(a)
        if CODES[k] == 13:
            own = a
        if CODES[k] % 3 == 0:
            l0 += a
        if CODES[k] % 3 == 2:
            h0 += a
        if CODES[k] // 3 % 3 == 0:
            l1 += a
        if CODES[k] // 3 % 3 == 2:
            h1 += a
        if CODES[k] // 9 == 0:
            l2 += a
        if CODES[k] // 9 == 2:
            h2 += a
    some = own != 0
    m = tl.where(some, own / tl.where(some, squares, 1.0), 0.0)
    unstable = tl.abs(m) * sums > 1.95
    least = 8.0 / (5.0 * tl.where(unstable, sums, 1.0))  # 1.6 is no number of single precision
    tl.store(M + i, tl.where(unstable, tl.where(own > 0, least, -least), m), mask=inside)
    size = tl.abs(own)
    divisor = tl.where(some, size, 1.0)
    p = tl.program_id(0)
    c0 = tl.where(some, (tl.abs(l0) + tl.abs(h0)) / divisor, 0.0)
    c1 = tl.where(some, (tl.abs(l1) + tl.abs(h1)) / divisor, 0.0)
    c2 = tl.where(some, (tl.abs(l2) + tl.abs(h2)) / divisor, 0.0)
    tl.store(found + p, tl.sum(c0.to(tl.float64)))
    tl.store(found + programs + p, tl.sum(c1.to(tl.float64)))
    tl.store(found + 2 * programs + p, tl.sum(c2.to(tl.float64)))
    wrong = (inside & (own == 0) & (squares > 0)).to(tl.int32)
    tl.store(found + 3 * programs + p, tl.sum(wrong).to(tl.float64))
    size = size.to(tl.float64)
    tl.store(found + 4 * programs + p, tl.min(tl.where(some, size, float("inf"))))
    tl.store(found + 5 * programs + p, tl.max(size))


@triton.jit(do_not_specialize=["programs"])
def _summary_kernel(found, out, programs, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    total = tl.zeros([BLOCK], dtype=tl.float64)
    if row == 4:
        total += float("inf")
    for first in range(0, programs, BLOCK):
        k = first + tl.arange(0, BLOCK)
        inside = k < programs
        part = tl.load(found + row * programs + k, mask=inside, other=0.0)
        if row == 4:
            total = tl.minimum(total, tl.where(inside, part, float("inf")))
        elif row == 5:
            total = tl.maximum(total, part)
        else:
            total += part
    if row == 4:
        tl.store(out + row, tl.min(total))
    elif row == 5:
        tl.store(out + row, tl.max(total))
    else:
        tl.store(out + row, tl.sum(total))


@triton.jit(do_not_specialize=[*SIZES, "x0", "x1", "x2", "g0", "g1", "g2"])
def _contrary_kernel(
    A, found, n, ld, s1, s2, x0, x1, x2, g0, g1, g2,
    CODES: tl.constexpr, COUNT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    i, inside = block_rows(n, BLOCK)
    zero = tl.zeros([BLOCK], dtype=A.dtype.element_ty)
    own = zero
    l0, h0, l1, h1, l2, h2 = zero, zero, zero, zero, zero, zero
    for k in tl.static_range(COUNT):
        a = tl.load(plane_of(A, k, ld) + i, mask=inside, other=0.0)
        if CODES[k] == 13:
            own = a
        if CODES[k] % 3 == 0:
            l0 += a
        if CODES[k] % 3 == 2:
            h0 += a
        if CODES[k] // 3 % 3 == 0:
            l1 += a
        if CODES[k] // 3 % 3 == 2:
            h1 += a
        if CODES[k] // 9 == 0:
            l2 += a
        if CODES[k] // 9 == 2:
            h2 += a
    some = own != 0
    divisor = tl.where(some, tl.abs(own), 1.0)
    c0 = tl.where(some, (tl.abs(l0) + tl.abs(h0)) / divisor, 0.0)
    c1 = tl.where(some, (tl.abs(l1) + tl.abs(h1)) / divisor, 0.0)
    c2 = tl.where(some, (tl.abs(l2) + tl.abs(h2)) / divisor, 0.0)
    top = tl.maximum(c0, tl.maximum(c1, c2))
    # x: whether the axis exists, g: whether it is halved
    bad0 = (x0 != 0) & (((g0 != 0) & (c0 < 0.05 * top)) | ((g0 == 0) & (c0 == top) & (top > 0)))
    bad1 = (x1 != 0) & (((g1 != 0) & (c1 < 0.05 * top)) | ((g1 == 0) & (c1 == top) & (top > 0)))
    bad2 = (x2 != 0) & (((g2 != 0) & (c2 < 0.05 * top)) | ((g2 == 0) & (c2 == top) & (top > 0)))
    bad = (inside & (bad0 | bad1 | bad2)).to(tl.int32)
    tl.store(found + tl.program_id(0), tl.sum(bad))


@triton.jit(do_not_specialize=["n", "stride", "along", "nodd"])
def _weights_kernel(
    A, low, high, n, ld, stride, along, nodd,
    CODES: tl.constexpr, COUNT: tl.constexpr, UNIT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    o, inside = block_rows(n, BLOCK)
    rest = o // stride
    inner = o - rest * stride
    line = rest // nodd
    i = (line * along + 2 * (rest - line * nodd) + 1) * stride + inner
    zero = tl.zeros([BLOCK], dtype=A.dtype.element_ty)
    below, here, above, own = zero, zero, zero, zero
    for k in tl.static_range(COUNT):
        a = tl.load(plane_of(A, k, ld) + i, mask=inside, other=0.0)
        if CODES[k] == 13:
            own = a
        if CODES[k] // UNIT % 3 == 0:
            below += a
        if CODES[k] // UNIT % 3 == 1:
            here += a
        if CODES[k] // UNIT % 3 == 2:
            above += a
    pivot = tl.where(here * own > 1e-3 * own * own, here, own)
    some = pivot != 0
    pivot = tl.where(some, pivot, 1.0)
    tl.store(low + o, tl.where(some, -below / pivot, 0.0), mask=inside)
    tl.store(high + o, tl.where(some, -above / pivot, 0.0), mask=inside)


@triton.jit
def _entry(A, i, mask, ld, SLOT: tl.constexpr):
    if SLOT < 0:
        out = tl.zeros(i.shape, dtype=A.dtype.element_ty)
    else:
        out = tl.load(A + tl.cast(SLOT, tl.int64) * ld + i, mask=mask, other=0.0)
    return out


@triton.jit(do_not_specialize=["n", "stride", "along", "nc", "nodd", "odd_size", "o1", "o2"])
def _galerkin_kernel(
    A, low, high, C, n, ld, ldc, stride, along, nc, nodd, odd_size, o1, o2,
    ACROSS: tl.constexpr, NACROSS: tl.constexpr, UNIT: tl.constexpr,
    SLOTS: tl.constexpr, OUT: tl.constexpr, SINGLE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    g, inside = block_rows(n, BLOCK)
    rest = g // stride
    inner = g - rest * stride
    line = rest // nc
    X = rest - line * nc
    even = (line * along + 2 * X) * stride + inner
    before = (line * nodd + X - 1) * stride + inner
    after = before + stride
    has_before = inside & (X > 0)
    has_after = inside & (X < nodd)
    from_before = tl.load(high + before, mask=has_before, other=0.0)
    from_after = tl.load(low + after, mask=has_after, other=0.0)
    for t in tl.static_range(NACROSS):
        shift = offset_of(ACROSS[t], o1, o2)
        b, a = before + shift, after + shift
        mb = has_before & (b >= 0) & (b < odd_size)
        ma = has_after & (a >= 0) & (a < odd_size)
        wlb = tl.load(low + b, mask=mb, other=0.0)
        whb = tl.load(high + b, mask=mb, other=0.0)
        wla = tl.load(low + a, mask=ma, other=0.0)
        wha = tl.load(high + a, mask=ma, other=0.0)
        el = _entry(A, even, inside, ld, SLOTS[ACROSS[t] - UNIT])
        e0 = _entry(A, even, inside, ld, SLOTS[ACROSS[t]])
        eh = _entry(A, even, inside, ld, SLOTS[ACROSS[t] + UNIT])
        bl = _entry(A, even - stride, has_before, ld, SLOTS[ACROSS[t] - UNIT])
        b0 = _entry(A, even - stride, has_before, ld, SLOTS[ACROSS[t]])
        bh = _entry(A, even - stride, has_before, ld, SLOTS[ACROSS[t] + UNIT])
        al = _entry(A, even + stride, has_after, ld, SLOTS[ACROSS[t] - UNIT])
        a0 = _entry(A, even + stride, has_after, ld, SLOTS[ACROSS[t]])
        ah = _entry(A, even + stride, has_after, ld, SLOTS[ACROSS[t] + UNIT])
        down = el * wlb + from_before * (bl + b0 * wlb)
        here = e0 + el * whb + from_before * (bh + b0 * whb)
        here += eh * wla + from_after * (al + a0 * wla)
        up = eh * wha + from_after * (ah + a0 * wha)
        tl.store(C + tl.cast(OUT[ACROSS[t]], tl.int64) * ldc + g, here, mask=inside)
        if not SINGLE:
            tl.store(C + tl.cast(OUT[ACROSS[t] - UNIT], tl.int64) * ldc + g, down, mask=inside)
            tl.store(C + tl.cast(OUT[ACROSS[t] + UNIT], tl.int64) * ldc + g, up, mask=inside)


def load(A: Stencil, crow: Tensor, ccol: Tensor, values: Tensor, scale: float) -> None:
    count = len(A.lattice.codes)
    width = triton.next_power_of_2(count)
    block = max(32, 2048 // width)
    launch(
        _load_kernel, (blocks(A.n, block),), crow, ccol, values, codes_on(A.lattice, values.device),
        A.planes, frexp(scale)[1] - 1, *sizes_of(A), count, width, block,
    )  # fmt: skip


def survey(A: Stencil, smoother: Tensor, out: Tensor) -> None:
    grid, codes = grid_of(A.n), A.lattice.codes
    found = out  # of one program that is all
    if grid[0] > 1:
        found = torch.empty(6, grid[0], dtype=torch.float64, device=A.device)
    launch(
        _survey_kernel, grid, A.planes, smoother, found, *sizes_of(A), grid[0], codes, len(codes), BLOCK
    )  # fmt: skip
    if grid[0] > 1:
        launch(_summary_kernel, (6,), found, out, grid[0], BLOCK)


def contrary(A: Stencil, halved: tuple[bool, bool, bool], out: Tensor) -> None:
    grid, codes = grid_of(A.n), A.lattice.codes
    found = torch.empty(grid[0], dtype=torch.int32, device=A.device)
    exist = (int(n > 1) for n in A.lattice.shape)
    launch(
        _contrary_kernel, grid, A.planes, found, *sizes_of(A), *exist, *(int(h) for h in halved),
        codes, len(codes), BLOCK,
    )  # fmt: skip
    torch.sum(found, 0, dtype=torch.float64, out=out)


def axis_weights(A: Stencil, w: AxisWeights) -> None:
    n, along, codes = w.low.numel(), A.lattice.shape[w.axis], A.lattice.codes
    if n:
        launch(
            _weights_kernel, grid_of(n), A.planes, w.low, w.high, n, A.planes.stride(0),
            A.lattice.stride(w.axis), along, along // 2, codes, len(codes), 3**w.axis, BLOCK,
        )  # fmt: skip


def galerkin(A: Stencil, w: AxisWeights, C: Stencil) -> None:
    along, coarse, odd = A.lattice.shape[w.axis], C.lattice.shape[w.axis], A.lattice.odd(w.axis)
    across = w.across
    launch(
        _galerkin_kernel, grid_of(C.n), A.planes, w.low, w.high, C.planes, C.n, A.planes.stride(0),
        C.planes.stride(0), A.lattice.stride(w.axis), along, coarse, along // 2, w.low.numel(), odd[0],
        odd[0] * odd[1], across, len(across), 3**w.axis, A.lattice.slots, C.lattice.slots,
        coarse == 1, BLOCK,
    )  # fmt: skip
