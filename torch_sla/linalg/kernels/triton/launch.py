"""Launching a kernel that was launched before, without asking Triton again what it is.

Triton's own dispatch binds, types and hashes every argument at every launch, which takes longer than
most kernels of small systems run. What decides which binary runs is little: the dtypes of the tensors
and the compile-time constants, because sizes are not specialised on.
"""

from __future__ import annotations

from typing import Any

import triton
from torch import Tensor
from triton.runtime.jit import JITFunction

__all__ = ["launch"]

_INT32_MAX = 2**31 - 1
# Before 3.3 a compiled kernel took its arguments without the compile-time constants.
_DIRECT = tuple(int(part) for part in triton.__version__.split(".")[:2]) >= (3, 3)
_known: dict[tuple[Any, ...], Any] = {}


WARPS = 4  # of a program, unless its launch says otherwise


def launch(kernel: Any, grid: tuple[int, ...], *args: Any, num_warps: int | None = None) -> None:
    """Run `kernel` on `grid`, arguments in order, compile-time constants last.

    Integer arguments are declared ``do_not_specialize`` by the kernel, or always are multiples of 16.
    """
    num_warps = num_warps or WARPS
    if not (_DIRECT and isinstance(kernel, JITFunction)):
        kernel[grid](*args, num_warps=num_warps)
        return
    runtime = len(args) - len(kernel.constexprs)
    key: list[Any] = [kernel, num_warps, args[runtime:]]
    usual = True
    for a in args[:runtime]:
        if isinstance(a, Tensor):
            key.append(a.dtype)
            usual = usual and not a.data_ptr() & 15
        elif isinstance(a, int):
            usual = usual and a <= _INT32_MAX
    if not usual:
        kernel[grid](*args, num_warps=num_warps)
        return
    key.append(args[0].get_device())
    whole = tuple(key)
    compiled = _known.get(whole)
    if compiled is None:
        _known[whole] = kernel[grid](*args, num_warps=num_warps)
        return
    compiled[grid if len(grid) == 3 else (*grid, 1, 1)[:3]](*args)
