"""Lattice kernels in Triton that run in every cycle; `torch_sla.linalg.kernels.lattice_fallback` defines them.

A program returns at once while the flag is set, which is how iterations that were queued beyond
convergence cost nothing. Partial sums are one per program, in float64: the same bits every time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

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

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from torch_sla.linalg.kernels.stencils import AxisWeights, Lattice, Stencil

__all__ = [
    "correct",
    "dense_apply",
    "matvec_dot",
    "relax",
    "residual",
    "residual_after_first",
    "restrict",
]


@triton.jit(do_not_specialize=SIZES)
def _first_kernel(
    A, M, f, out, flag, n, ld, s1, s2, CODES: tl.constexpr, COUNT: tl.constexpr, BLOCK: tl.constexpr
):
    if tl.load(flag) != 0:
        return
    i, inside = block_rows(n, BLOCK)
    r = tl.load(f + i, mask=inside, other=0.0).to(A.dtype.element_ty)
    for k in tl.static_range(COUNT):
        j = i + offset_of(CODES[k], s1, s2)
        here = inside & (j >= 0) & (j < n)
        a = tl.load(plane_of(A, k, ld) + i, mask=inside, other=0.0)
        m = tl.load(M + j, mask=here, other=0.0)
        r -= a * (m * tl.load(f + j, mask=here, other=0.0).to(A.dtype.element_ty))
    tl.store(out + i, r, mask=inside)


@triton.jit(do_not_specialize=SIZES)
def _relax_kernel(
    A, M, f, x, out, dots, flag, n, ld, s1, s2,
    CODES: tl.constexpr, COUNT: tl.constexpr, SMOOTH: tl.constexpr, DOT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    if tl.load(flag) != 0:
        return
    i, inside = block_rows(n, BLOCK)
    given = tl.load(f + i, mask=inside, other=0.0)
    r = given.to(A.dtype.element_ty)
    for k in tl.static_range(COUNT):
        j = i + offset_of(CODES[k], s1, s2)
        a = tl.load(plane_of(A, k, ld) + i, mask=inside, other=0.0)
        r -= a * tl.load(x + j, mask=inside & (j >= 0) & (j < n), other=0.0)
    if SMOOTH:
        r = tl.load(x + i, mask=inside, other=0.0) + tl.load(M + i, mask=inside, other=0.0) * r
    tl.store(out + i, r, mask=inside)
    if DOT:
        tl.store(dots + tl.program_id(0), tl.sum(given.to(tl.float64) * r.to(tl.float64)))


@triton.jit(do_not_specialize=SIZES)
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
    i, inside = block_rows(n, BLOCK)
    total = tl.zeros([BLOCK], dtype=A.dtype.element_ty)
    for k in tl.static_range(COUNT):
        j = i + offset_of(CODES[k], s1, s2)
        a = tl.load(plane_of(A, k, ld) + i, mask=inside, other=0.0)
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
    g, inside = block_rows(n, BLOCK)
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
    i, inside = block_rows(n, BLOCK)
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


def residual_after_first(A: Stencil, M: Tensor, f: Tensor, out: Tensor, flag: Tensor) -> None:
    codes = A.lattice.codes
    launch(
        _first_kernel, grid_of(A.n), A.planes, M, f, out, flag, *sizes_of(A), codes, len(codes), BLOCK
    )  # fmt: skip


def residual(A: Stencil, f: Tensor, x: Tensor, out: Tensor, flag: Tensor) -> None:
    codes = A.lattice.codes
    launch(
        _relax_kernel, grid_of(A.n), A.planes, x, f, x, out, x, flag, *sizes_of(A), codes, len(codes),
        False, False, BLOCK,
    )  # fmt: skip


def relax(
    A: Stencil, M: Tensor, f: Tensor, x: Tensor, out: Tensor, dots: Tensor | None, flag: Tensor
) -> None:
    codes, room = A.lattice.codes, x if dots is None else dots
    launch(
        _relax_kernel, grid_of(A.n), A.planes, M, f, x, out, room, flag, *sizes_of(A), codes, len(codes),
        True, dots is not None, BLOCK,
    )  # fmt: skip


def matvec_dot(A: Stencil, p: Tensor, q: Tensor, dots: Tensor, flag: Tensor) -> None:
    codes = A.lattice.codes
    launch(
        _matvec_kernel, grid_of(A.n), A.planes, p, q, dots, flag, *sizes_of(A), codes, len(codes), BLOCK
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
    launch(_restrict_kernel, grid_of(n), r, out, *arrays, flag, n, *lattice.shape, *halved, BLOCK)


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
        _correct_kernel, grid_of(lattice.n), e, e if M is None else M, f, out, *arrays, flag,
        lattice.n, *lattice.shape, M is not None, *halved, BLOCK,
    )  # fmt: skip


def dense_apply(inverse: Tensor, f: Tensor, out: Tensor, flag: Tensor, transpose: bool) -> None:
    n, rows = f.numel(), 8
    launch(_dense_kernel, (blocks(n, rows),), inverse, f, out, flag, n, transpose, rows, 128)
