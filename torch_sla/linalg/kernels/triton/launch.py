"""Launching a kernel that was launched before, without asking Triton again what it is.

Triton's own dispatch binds, types and hashes every argument at every launch, and its launcher asks
the driver about every pointer: together longer than most kernels of small systems run. What decides
which binary runs is little: the dtypes of the tensors and the compile-time constants, because sizes
are not specialised on. Addresses go to the launcher as numbers, which it takes as they are.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
import triton
from torch import Tensor
from triton.runtime.jit import JITFunction

__all__ = ["OPTIONS", "blocks", "launch"]

_INT32_MAX = 2**31 - 1
# Before 3.3 a compiled kernel took its arguments without the compile-time constants.
_DIRECT = tuple(int(part) for part in triton.__version__.split(".")[:2]) >= (3, 3)
_stream = getattr(torch._C, "_cuda_getCurrentRawStream", None)
_device = getattr(torch._C, "_cuda_getDevice", None)
_runtime: dict[int, int] = {}
_known: dict[tuple[Any, ...], Any] = {}


WARPS = 4  # of a program, unless its launch says otherwise
# Products and sums become one rounding; from 3.10 on Triton wants to be asked, and 3.9 warns of it.
OPTIONS = {"enable_fp_fusion": True}


def blocks(n: int, size: int) -> int:
    """Blocks of `size` that cover `n`; Triton's own costs as much as a launch.

    Examples
    --------
    >>> blocks(9, 4)
    3
    """
    return (n + size - 1) // size


def launch(kernel: Any, grid: tuple[int, ...], *args: Any, num_warps: int | None = None) -> None:
    """Run `kernel` on `grid`, arguments in order, compile-time constants last.

    Integer arguments are declared ``do_not_specialize`` by the kernel, or always are multiples of 16.
    All tensors are on the device of the first argument, which is one.
    """
    where = args[0].get_device()
    num_warps = num_warps or WARPS
    runtime = _runtime.get(id(kernel))
    if runtime is None:
        direct = _DIRECT and _stream is not None and isinstance(kernel, JITFunction)
        runtime = len(args) - len(kernel.constexprs) if direct else -1
        _runtime[id(kernel)] = runtime  # kernels live as long as their modules
    if runtime < 0:
        with torch.cuda.device(where) if where >= 0 else nullcontext():
            kernel[grid](*args, num_warps=num_warps, **OPTIONS)
        return
    if where >= 0 and where != _device():  # type: ignore[misc]
        with torch.cuda.device(where):
            launch(kernel, grid, *args, num_warps=num_warps)
        return
    constants = args[runtime:]
    key: list[Any] = [id(kernel), num_warps, where, constants]
    numbers: list[Any] = []
    bits = largest = 0
    for a in args[:runtime]:
        if isinstance(a, Tensor):
            pointer = a.data_ptr()
            bits |= pointer
            key.append(a.dtype)
            numbers.append(pointer)
        else:
            if a.__class__ is int and a > largest:
                largest = a
            numbers.append(a)
    if bits & 15 or largest > _INT32_MAX:
        kernel[grid](*args, num_warps=num_warps, **OPTIONS)
        return
    compiled = _known.get(whole := tuple(key))
    if compiled is None:
        _known[whole] = kernel[grid](*args, num_warps=num_warps, **OPTIONS)
        return
    x, y, z = grid if len(grid) == 3 else (*grid, 1, 1)[:3]
    compiled.run(
        x, y, z, _stream(where), compiled.function, compiled.packed_metadata,  # type: ignore[misc]
        None, None, None, *numbers, *constants,
    )  # fmt: skip
