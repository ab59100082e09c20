"""Lattice kernels in Triton; `torch_sla.linalg.kernels.lattice_fallback` says what each computes.

One program per `BLOCK` consecutive rows. Planes are read as streams; neighbours of a vector come
from cache. Sizes are not specialised on, so that one compilation serves all levels. Partial sums are
one per program, in float64: the same bits every time. A program returns at once while the flag is
set, which is how iterations that were queued beyond convergence cost nothing.
"""

from __future__ import annotations

from math import frexp
from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor

from torch_sla.linalg.kernels.lattice_fallback import BLOCK
from torch_sla.linalg.kernels.triton.dense import invert
from torch_sla.linalg.kernels.triton.launch import blocks, launch
from torch_sla.linalg.kernels.triton.patterns import codes_on

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch_sla.linalg.kernels.stencils import AxisWeights, Lattice, Stencil

__all__ = [
    "axis_weights",
    "contrary",
    "correct",
    "dense_apply",
    "galerkin",
    "invert",
    "load",
    "matvec_dot",
    "relax",
    "residual",
    "residual_after_first",
    "restrict",
    "survey",
]

_SIZES = ["n", "s1", "s2"]


@triton.jit
def _offset(code: tl.constexpr, s1, s2):
    return (code % 3 - 1) + (code // 3 % 3 - 1) * s1 + (code // 9 - 1) * s2


@triton.jit
def _rows(n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    return i, i < n


@triton.jit
def _plane(A, k, ld):
    return A + tl.cast(k, tl.int64) * ld


@triton.jit(do_not_specialize=["n", "s1", "s2", "count", "exponent"])
def _load_kernel(
    crow, ccol, values, codes, planes, exponent, n, ld, s1, s2, count,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    # A row of the tile is a row of the matrix, so that entries are read as they lie.
    i, inside = _rows(n, BLOCK)
    start = tl.load(crow + i, mask=inside, other=0)
    stop = tl.load(crow + i + 1, mask=inside, other=0)
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
        tl.store(_plane(planes, k, ld) + i, own.to(planes.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=[*_SIZES, "programs"])
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
    i, inside = _rows(n, BLOCK)
    zero = tl.zeros([BLOCK], dtype=A.dtype.element_ty)
    squares, own = zero, zero
    l0, h0, l1, h1, l2, h2 = zero, zero, zero, zero, zero, zero
    for k in tl.static_range(COUNT):
        a = tl.load(_plane(A, k, ld) + i, mask=inside, other=0.0)
        squares += a * a
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
    tl.store(M + i, tl.where(some, own / tl.where(some, squares, 1.0), 0.0), mask=inside)
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


@triton.jit(do_not_specialize=[*_SIZES, "x0", "x1", "x2", "g0", "g1", "g2"])
def _contrary_kernel(
    A, found, n, ld, s1, s2, x0, x1, x2, g0, g1, g2,
    CODES: tl.constexpr, COUNT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    i, inside = _rows(n, BLOCK)
    zero = tl.zeros([BLOCK], dtype=A.dtype.element_ty)
    own = zero
    l0, h0, l1, h1, l2, h2 = zero, zero, zero, zero, zero, zero
    for k in tl.static_range(COUNT):
        a = tl.load(_plane(A, k, ld) + i, mask=inside, other=0.0)
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
    o, inside = _rows(n, BLOCK)
    rest = o // stride
    inner = o - rest * stride
    line = rest // nodd
    i = (line * along + 2 * (rest - line * nodd) + 1) * stride + inner
    zero = tl.zeros([BLOCK], dtype=A.dtype.element_ty)
    below, here, above, own = zero, zero, zero, zero
    for k in tl.static_range(COUNT):
        a = tl.load(_plane(A, k, ld) + i, mask=inside, other=0.0)
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
    g, inside = _rows(n, BLOCK)
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
        shift = _offset(ACROSS[t], o1, o2)
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


@triton.jit(do_not_specialize=_SIZES)
def _first_kernel(
    A, M, f, out, flag, n, ld, s1, s2, CODES: tl.constexpr, COUNT: tl.constexpr, BLOCK: tl.constexpr
):
    if tl.load(flag) != 0:
        return
    i, inside = _rows(n, BLOCK)
    r = tl.load(f + i, mask=inside, other=0.0).to(A.dtype.element_ty)
    for k in tl.static_range(COUNT):
        j = i + _offset(CODES[k], s1, s2)
        here = inside & (j >= 0) & (j < n)
        a = tl.load(_plane(A, k, ld) + i, mask=inside, other=0.0)
        m = tl.load(M + j, mask=here, other=0.0)
        r -= a * (m * tl.load(f + j, mask=here, other=0.0).to(A.dtype.element_ty))
    tl.store(out + i, r, mask=inside)


@triton.jit(do_not_specialize=_SIZES)
def _relax_kernel(
    A, M, f, x, out, dots, flag, n, ld, s1, s2,
    CODES: tl.constexpr, COUNT: tl.constexpr, SMOOTH: tl.constexpr, DOT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    if tl.load(flag) != 0:
        return
    i, inside = _rows(n, BLOCK)
    given = tl.load(f + i, mask=inside, other=0.0)
    r = given.to(A.dtype.element_ty)
    for k in tl.static_range(COUNT):
        j = i + _offset(CODES[k], s1, s2)
        a = tl.load(_plane(A, k, ld) + i, mask=inside, other=0.0)
        r -= a * tl.load(x + j, mask=inside & (j >= 0) & (j < n), other=0.0)
    if SMOOTH:
        r = tl.load(x + i, mask=inside, other=0.0) + tl.load(M + i, mask=inside, other=0.0) * r
    tl.store(out + i, r, mask=inside)
    if DOT:
        tl.store(dots + tl.program_id(0), tl.sum(given.to(tl.float64) * r.to(tl.float64)))


@triton.jit(do_not_specialize=_SIZES)
def _matvec_kernel(
    A,
    p,
    q,
    dots,
    flag,
    n,
    ld,
    s1,
    s2,
    CODES: tl.constexpr,
    COUNT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    if tl.load(flag) != 0:
        return
    i, inside = _rows(n, BLOCK)
    total = tl.zeros([BLOCK], dtype=A.dtype.element_ty)
    for k in tl.static_range(COUNT):
        j = i + _offset(CODES[k], s1, s2)
        a = tl.load(_plane(A, k, ld) + i, mask=inside, other=0.0)
        total += a * tl.load(p + j, mask=inside & (j >= 0) & (j < n), other=0.0)
    tl.store(q + i, total, mask=inside)
    own = tl.load(p + i, mask=inside, other=0.0)
    tl.store(dots + tl.program_id(0), tl.sum(own.to(tl.float64) * total.to(tl.float64)))


@triton.jit(do_not_specialize=["n", "n0", "n1", "n2"])
def _restrict_kernel(
    r, out, low0, high0, low1, high1, low2, high2, flag, n, n0, n1, n2,
    H0: tl.constexpr, H1: tl.constexpr, H2: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    if tl.load(flag) != 0:
        return
    g, inside = _rows(n, BLOCK)
    c0 = (n0 + 1) // 2 if H0 else n0
    c1 = (n1 + 1) // 2 if H1 else n1
    o0, o1 = n0 // 2, n1 // 2
    row = g // c0
    X = g - row * c0
    Z = row // c1
    Y = row - Z * c1
    total = tl.zeros([BLOCK], dtype=out.dtype.element_ty)
    for tz in tl.static_range(3):
        if H2 or tz == 1:
            z = 2 * Z + (tz - 1) if H2 else Z
            mz = inside & (z >= 0) & (z < n2)
            plane = tl.zeros([BLOCK], dtype=out.dtype.element_ty)
            for ty in tl.static_range(3):
                if H1 or ty == 1:
                    y = 2 * Y + (ty - 1) if H1 else Y
                    my = mz & (y >= 0) & (y < n1)
                    at = y + n1 * z
                    x = 2 * X if H0 else X
                    line = tl.load(r + x + n0 * at, mask=my, other=0.0)
                    if H0:
                        odd = X + o0 * at
                        m = my & (X > 0)
                        line += tl.load(high0 + odd - 1, mask=m, other=0.0) * tl.load(
                            r + x - 1 + n0 * at, mask=m, other=0.0
                        )
                        m = my & (X < o0)
                        line += tl.load(low0 + odd, mask=m, other=0.0) * tl.load(
                            r + x + 1 + n0 * at, mask=m, other=0.0
                        )
                    if ty == 0:
                        line *= tl.load(high1 + X + c0 * (Y - 1 + o1 * z), mask=my, other=0.0)
                    if ty == 2:
                        line *= tl.load(low1 + X + c0 * (Y + o1 * z), mask=my, other=0.0)
                    plane += line
            if tz == 0:
                plane *= tl.load(high2 + X + c0 * (Y + c1 * (Z - 1)), mask=mz, other=0.0)
            if tz == 2:
                plane *= tl.load(low2 + X + c0 * (Y + c1 * Z), mask=mz, other=0.0)
            total += plane
    tl.store(out + g, total, mask=inside)


@triton.jit(do_not_specialize=["n", "n0", "n1", "n2"])
def _correct_kernel(
    e, M, f, out, low0, high0, low1, high1, low2, high2, flag, n, n0, n1, n2,
    FIRST: tl.constexpr, H0: tl.constexpr, H1: tl.constexpr, H2: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    if tl.load(flag) != 0:
        return
    i, inside = _rows(n, BLOCK)
    row = i // n0
    x = i - row * n0
    z = row // n1
    y = row - z * n1
    c0 = (n0 + 1) // 2 if H0 else n0
    c1 = (n1 + 1) // 2 if H1 else n1
    c2 = (n2 + 1) // 2 if H2 else n2
    o0, o1 = n0 // 2, n1 // 2
    X0 = x // 2 if H0 else x
    Y0 = y // 2 if H1 else y
    Z0 = z // 2 if H2 else z
    total = tl.load(f + i, mask=inside, other=0.0).to(out.dtype.element_ty)
    if FIRST:
        total *= tl.load(M + i, mask=inside, other=0.0)
    for tx in tl.static_range(2):
        if H0 or tx == 0:
            X = X0 + tx
            mx = inside & (X < c0)
            wx = tl.full([BLOCK], 1.0, dtype=out.dtype.element_ty)
            if H0:
                odd = X0 + o0 * row
                if tx == 0:
                    wx = tl.load(low0 + odd, mask=mx & (x % 2 == 1), other=1.0)
                else:
                    mx = mx & (x % 2 == 1)
                    wx = tl.load(high0 + odd, mask=mx, other=0.0)
            for ty in tl.static_range(2):
                if H1 or ty == 0:
                    Y = Y0 + ty
                    my = mx & (Y < c1)
                    wy = wx
                    if H1:
                        odd = X + c0 * (Y0 + o1 * z)
                        if ty == 0:
                            wy = wx * tl.load(low1 + odd, mask=my & (y % 2 == 1), other=1.0)
                        else:
                            my = my & (y % 2 == 1)
                            wy = wx * tl.load(high1 + odd, mask=my, other=0.0)
                    for tz in tl.static_range(2):
                        if H2 or tz == 0:
                            Z = Z0 + tz
                            mz = my & (Z < c2)
                            wz = wy
                            if H2:
                                odd = X + c0 * (Y + c1 * Z0)
                                if tz == 0:
                                    wz = wy * tl.load(low2 + odd, mask=mz & (z % 2 == 1), other=1.0)
                                else:
                                    mz = mz & (z % 2 == 1)
                                    wz = wy * tl.load(high2 + odd, mask=mz, other=0.0)
                            total += wz * tl.load(e + X + c0 * (Y + c1 * Z), mask=mz, other=0.0)
    tl.store(out + i, total, mask=inside)


@triton.jit(do_not_specialize=["n"])
def _dense_kernel(
    inverse, f, out, flag, n, TRANSPOSE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    if tl.load(flag) != 0:
        return
    i = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    total = tl.zeros([ROWS], dtype=inverse.dtype.element_ty)
    for first in range(0, n, COLUMNS):
        j = first + tl.arange(0, COLUMNS)
        mask = (i[:, None] < n) & (j[None, :] < n)
        at = j[None, :] * n + i[:, None] if TRANSPOSE else i[:, None] * n + j[None, :]
        a = tl.load(inverse + at, mask=mask, other=0.0)
        x = tl.load(f + j, mask=j < n, other=0.0).to(inverse.dtype.element_ty)
        total += tl.sum(a * x[None, :], axis=1)
    tl.store(out + i, total, mask=i < n)


# --- launching --------------------------------------------------------------------------------------


def _grid(n: int) -> tuple[int]:
    return (blocks(n, BLOCK),)


def _shape(A: Stencil) -> tuple[int, int, int, int]:
    """Rows, distance of planes, strides of the second and third axis."""
    shape = A.lattice.shape
    return A.n, A.planes.stride(0), shape[0], shape[0] * shape[1]


def load(A: Stencil, crow: Tensor, ccol: Tensor, values: Tensor, scale: float) -> None:
    count = len(A.lattice.codes)
    width = triton.next_power_of_2(count)
    block = max(32, 2048 // width)
    launch(
        _load_kernel, (blocks(A.n, block),), crow, ccol, values, codes_on(A.lattice, values.device),
        A.planes, frexp(scale)[1] - 1, *_shape(A), count, width, block,
    )  # fmt: skip


def survey(A: Stencil, smoother: Tensor, out: Tensor) -> None:
    grid, codes = _grid(A.n), A.lattice.codes
    found = out  # of one program that is all
    if grid[0] > 1:
        found = torch.empty(6, grid[0], dtype=torch.float64, device=A.device)
    launch(
        _survey_kernel, grid, A.planes, smoother, found, *_shape(A), grid[0], codes, len(codes), BLOCK
    )  # fmt: skip
    if grid[0] > 1:
        launch(_summary_kernel, (6,), found, out, grid[0], BLOCK)


def contrary(A: Stencil, halved: tuple[bool, bool, bool], out: Tensor) -> None:
    grid, codes = _grid(A.n), A.lattice.codes
    found = torch.empty(grid[0], dtype=torch.int32, device=A.device)
    exist = (int(n > 1) for n in A.lattice.shape)
    launch(
        _contrary_kernel, grid, A.planes, found, *_shape(A), *exist, *(int(h) for h in halved),
        codes, len(codes), BLOCK,
    )  # fmt: skip
    torch.sum(found, 0, dtype=torch.float64, out=out)


def axis_weights(A: Stencil, w: AxisWeights) -> None:
    n, along, codes = w.low.numel(), A.lattice.shape[w.axis], A.lattice.codes
    if n:
        launch(
            _weights_kernel, _grid(n), A.planes, w.low, w.high, n, A.planes.stride(0),
            A.lattice.stride(w.axis), along, along // 2, codes, len(codes), 3**w.axis, BLOCK,
        )  # fmt: skip


def galerkin(A: Stencil, w: AxisWeights, C: Stencil) -> None:
    along, coarse, odd = A.lattice.shape[w.axis], C.lattice.shape[w.axis], A.lattice.odd(w.axis)
    across = w.across
    launch(
        _galerkin_kernel, _grid(C.n), A.planes, w.low, w.high, C.planes, C.n, A.planes.stride(0),
        C.planes.stride(0), A.lattice.stride(w.axis), along, coarse, along // 2, w.low.numel(), odd[0],
        odd[0] * odd[1], across, len(across), 3**w.axis, A.lattice.slots, C.lattice.slots,
        coarse == 1, BLOCK,
    )  # fmt: skip


def residual_after_first(A: Stencil, M: Tensor, f: Tensor, out: Tensor, flag: Tensor) -> None:
    codes = A.lattice.codes
    launch(
        _first_kernel, _grid(A.n), A.planes, M, f, out, flag, *_shape(A), codes, len(codes), BLOCK
    )  # fmt: skip


def residual(A: Stencil, f: Tensor, x: Tensor, out: Tensor, flag: Tensor) -> None:
    codes = A.lattice.codes
    launch(
        _relax_kernel, _grid(A.n), A.planes, x, f, x, out, x, flag, *_shape(A), codes, len(codes),
        False, False, BLOCK,
    )  # fmt: skip


def relax(
    A: Stencil, M: Tensor, f: Tensor, x: Tensor, out: Tensor, dots: Tensor | None, flag: Tensor
) -> None:
    codes, room = A.lattice.codes, x if dots is None else dots
    launch(
        _relax_kernel, _grid(A.n), A.planes, M, f, x, out, room, flag, *_shape(A), codes, len(codes),
        True, dots is not None, BLOCK,
    )  # fmt: skip


def matvec_dot(A: Stencil, p: Tensor, q: Tensor, dots: Tensor, flag: Tensor) -> None:
    codes = A.lattice.codes
    launch(
        _matvec_kernel, _grid(A.n), A.planes, p, q, dots, flag, *_shape(A), codes, len(codes), BLOCK
    )  # fmt: skip


def _transfers(
    weights: Sequence[AxisWeights], unused: Tensor
) -> tuple[list[Tensor], tuple[bool, bool, bool]]:
    """Weights of all axes, and which are halved; `unused` stands for weights that are not there."""
    arrays, halved = [unused] * 6, [False] * 3
    for w in weights:
        arrays[2 * w.axis : 2 * w.axis + 2] = w.low, w.high
        halved[w.axis] = True
    return arrays, (halved[0], halved[1], halved[2])


def restrict(
    lattice: Lattice, weights: Sequence[AxisWeights], r: Tensor, out: Tensor, flag: Tensor
) -> None:
    arrays, halved = _transfers(weights, r)
    n = out.numel()
    launch(_restrict_kernel, _grid(n), r, out, *arrays, flag, n, *lattice.shape, *halved, BLOCK)


def correct(
    lattice: Lattice,
    weights: Sequence[AxisWeights],
    e: Tensor,
    M: Tensor | None,
    f: Tensor,
    out: Tensor,
    flag: Tensor,
) -> None:
    arrays, halved = _transfers(weights, e)
    launch(
        _correct_kernel, _grid(lattice.n), e, e if M is None else M, f, out, *arrays, flag,
        lattice.n, *lattice.shape, M is not None, *halved, BLOCK,
    )  # fmt: skip


def dense_apply(inverse: Tensor, f: Tensor, out: Tensor, flag: Tensor, transpose: bool) -> None:
    n, rows = f.numel(), 8
    launch(_dense_kernel, (blocks(n, rows),), inverse, f, out, flag, n, transpose, rows, 128)
