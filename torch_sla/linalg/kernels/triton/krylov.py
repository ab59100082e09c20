"""Steps of conjugate gradients in Triton; `torch_sla.linalg.kernels.krylov` says what each one does."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
