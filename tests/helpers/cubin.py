"""Compiling Triton kernels for a card that is not here: everything but running them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

__all__ = ["compile_for_hopper"]

_NAMES = {
    "float32": "fp32", "float64": "fp64", "int32": "i32", "int64": "i64", "bool": "i1",
    "uint8": "u8",
}  # fmt: skip


def compile_for_hopper(
    kernel: Any, grid: tuple[int, ...], *args: Any, num_warps: int | None = None
) -> bytes:
    """Take the place of `torch_sla.linalg.kernels.triton.launch.launch`; return the binary."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile as compiled

    assert 1 <= len(grid) <= 3
    signature, constants, aligned = {}, {}, {}
    for i, (name, a) in enumerate(zip(kernel.arg_names, args, strict=True)):
        if i in kernel.constexprs:
            signature[name], constants[(i,)] = "constexpr", a
        elif isinstance(a, Tensor):
            signature[name] = "*" + _NAMES[str(a.dtype)[6:]]
            aligned[(i,)] = [["tt.divisibility", 16]]
        else:
            signature[name] = "fp32" if isinstance(a, float) else "i32"
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=aligned)
    made = compiled(source, GPUTarget("cuda", 90, 32), {"num_warps": num_warps or 4})
    binary: bytes = made.asm["cubin"]
    return binary
