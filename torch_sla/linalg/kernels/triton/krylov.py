"""Steps of conjugate gradients in Triton; `torch_sla.linalg.kernels.krylov` says what each one does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import triton
import triton.language as tl

from torch_sla.linalg.kernels.lattice_fallback import BLOCK
from torch_sla.linalg.kernels.triton.launch import blocks, launch

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.kernels.krylov import Scalars

_SUM = 2048  # partial sums added at a time


@triton.jit
def _total(dots, count, SUM: tl.constexpr):
    parts = tl.zeros([SUM], dtype=tl.float64)
    for first in range(0, count, SUM):
        k = first + tl.arange(0, SUM)
        parts += tl.load(dots + k, mask=k < count, other=0.0)
    return tl.sum(parts)


@triton.jit
def _finite(x):
    return (x - x) == 0.0


@triton.jit
def _double(high, low):
    return tl.cast(high, tl.float64) + tl.cast(low, tl.float64)


@triton.jit(do_not_specialize=["count", "rtol_high", "rtol_low", "atol_high", "atol_low"])
def _begin_kernel(
    numbers, flag, steps, history, dots, b_dots, count, rtol_high, rtol_low, atol_high, atol_low,
    SUM: tl.constexpr,
):  # fmt: skip
    rr = _total(dots, count, SUM)
    norm = tl.sqrt(_total(b_dots, count, SUM))
    target = tl.maximum(_double(rtol_high, rtol_low) * norm, _double(atol_high, atol_low))
    target *= target
    for k in tl.static_range(3):
        tl.store(numbers + k, 0.0)
    tl.store(numbers + 3, rr)
    tl.store(numbers + 4, target)
    tl.store(numbers + 5, norm)
    tl.store(steps, 0)
    tl.store(history, tl.sqrt(rr))
    finite = _finite(rr)
    tl.store(flag, tl.where(rr <= target, 1, tl.where(finite, 0, 3)))


@triton.jit(do_not_specialize=["n"])
def _residual_kernel(b, q, r, p, dots, b_dots, n, SUBTRACT: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n
    given = tl.load(b + i, mask=inside, other=0.0)
    left = given
    if SUBTRACT:
        left -= tl.load(q + i, mask=inside, other=0.0)
    tl.store(r + i, left, mask=inside)
    tl.store(p + i, tl.zeros_like(left), mask=inside)
    wide, whole = left.to(tl.float64), given.to(tl.float64)
    tl.store(dots + tl.program_id(0), tl.sum(wide * wide))
    tl.store(b_dots + tl.program_id(0), tl.sum(whole * whole))


@triton.jit(do_not_specialize=["n"])
def _dot_kernel(x, y, dots, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    left = tl.load(x + i, mask=i < n, other=0.0).to(tl.float64)
    right = tl.load(y + i, mask=i < n, other=0.0).to(tl.float64)
    tl.store(dots + tl.program_id(0), tl.sum(left * right))


@triton.jit(do_not_specialize=["count"])
def _start_kernel(numbers, flag, dots, count, SUM: tl.constexpr):
    if tl.load(flag) != 0:
        return
    rz = _total(dots, count, SUM)
    tl.store(numbers + 1, tl.load(numbers))
    tl.store(numbers, rz)
    tl.store(flag, 3, mask=(_finite(rz) == 0))


@triton.jit(do_not_specialize=["count"])
def _curvature_kernel(numbers, flag, dots, count, SUM: tl.constexpr):
    if tl.load(flag) != 0:
        return
    pq = _total(dots, count, SUM)
    finite = _finite(pq)
    tl.store(flag, 2, mask=pq <= 0.0)
    tl.store(flag, 3, mask=(finite == 0))
    tl.store(numbers + 2, tl.load(numbers) / tl.where(pq > 0.0, pq, 1.0))


@triton.jit(do_not_specialize=["count"])
def _test_kernel(numbers, flag, steps, history, dots, count, SUM: tl.constexpr):
    if tl.load(flag) != 0:
        return
    rr = _total(dots, count, SUM)
    tl.store(numbers + 3, rr)
    step = tl.load(steps) + 1
    tl.store(steps, step)
    tl.store(history + step, tl.sqrt(rr))
    tl.store(flag, 3, mask=(_finite(rr) == 0))
    tl.store(flag, 1, mask=rr <= tl.load(numbers + 4))


@triton.jit(do_not_specialize=["n"])
def _direction_kernel(numbers, flag, z, p, n, BLOCK: tl.constexpr):
    if tl.load(flag) != 0:
        return
    before = tl.load(numbers + 1)
    beta = tl.where(before == 0.0, 0.0, tl.load(numbers) / tl.where(before == 0.0, 1.0, before))
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n
    old = tl.load(p + i, mask=inside, other=0.0)
    new = tl.load(z + i, mask=inside, other=0.0).to(old.dtype)
    tl.store(p + i, new + beta.to(old.dtype) * old, mask=inside)


@triton.jit(do_not_specialize=["n"])
def _update_kernel(numbers, flag, p, q, x, r, dots, n, BLOCK: tl.constexpr):
    if tl.load(flag) != 0:
        return
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n
    step = tl.load(p + i, mask=inside, other=0.0)
    alpha = tl.load(numbers + 2).to(step.dtype)
    tl.store(x + i, tl.load(x + i, mask=inside, other=0.0) + alpha * step, mask=inside)
    left = tl.load(r + i, mask=inside, other=0.0)
    left -= alpha * tl.load(q + i, mask=inside, other=0.0)
    tl.store(r + i, left, mask=inside)
    wide = left.to(tl.float64)
    tl.store(dots + tl.program_id(0), tl.sum(wide * wide))


def _halves(x: float) -> tuple[float, float]:
    """Two numbers of single precision, in which kernels take them, with this sum, or that of the largest."""
    x = min(x, float(np.finfo(np.float32).max))
    high = float(np.float32(x))
    return high, x - high


def begin(s: Scalars, dots: Tensor, b_dots: Tensor, rtol: float, atol: float) -> None:
    launch(
        _begin_kernel, (1,), s.numbers, s.flag, s.steps, s.history, dots, b_dots, dots.numel(),
        *_halves(rtol), *_halves(atol), _SUM, num_warps=8,
    )  # fmt: skip


def residual(
    b: Tensor, q: Tensor | None, r: Tensor, p: Tensor, dots: Tensor, b_dots: Tensor
) -> None:
    n, subtract = b.numel(), q is not None
    grid = (blocks(n, BLOCK),)
    launch(_residual_kernel, grid, b, b if q is None else q, r, p, dots, b_dots, n, subtract, BLOCK)


def store_dots(dots: Tensor, x: Tensor, y: Tensor) -> None:
    n = x.numel()
    launch(_dot_kernel, (blocks(n, BLOCK),), x, y, dots, n, BLOCK)


def start(s: Scalars, dots: Tensor) -> None:
    launch(_start_kernel, (1,), s.numbers, s.flag, dots, dots.numel(), _SUM, num_warps=8)


def curvature(s: Scalars, dots: Tensor) -> None:
    launch(_curvature_kernel, (1,), s.numbers, s.flag, dots, dots.numel(), _SUM, num_warps=8)


def test(s: Scalars, dots: Tensor) -> None:
    launch(
        _test_kernel, (1,), s.numbers, s.flag, s.steps, s.history, dots, dots.numel(), _SUM,
        num_warps=8,
    )  # fmt: skip


def direction(s: Scalars, z: Tensor, p: Tensor) -> None:
    n = p.numel()
    launch(_direction_kernel, (blocks(n, BLOCK),), s.numbers, s.flag, z, p, n, BLOCK)


def update(s: Scalars, p: Tensor, q: Tensor, x: Tensor, r: Tensor, dots: Tensor) -> None:
    n = p.numel()
    grid = (blocks(n, BLOCK),)
    launch(_update_kernel, grid, s.numbers, s.flag, p, q, x, r, dots, n, BLOCK)
