"""What lattice kernels share: one program per `BLOCK` consecutive rows, planes and offsets of a stencil."""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

from torch_sla.linalg.kernels.lattice_fallback import BLOCK
from torch_sla.linalg.kernels.triton.launch import blocks

if TYPE_CHECKING:
    from torch_sla.linalg.kernels.stencils import Stencil

__all__ = ["SIZES", "block_rows", "grid_of", "offset_of", "plane_of", "sizes_of"]

SIZES = ["n", "s1", "s2"]


@triton.jit
def offset_of(code: tl.constexpr, s1, s2):
    """Column minus row of a neighbour."""
    return (code % 3 - 1) + (code // 3 % 3 - 1) * s1 + (code // 9 - 1) * s2


@triton.jit
def block_rows(n, BLOCK: tl.constexpr):
    """Rows of a program, and which of them are there."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    return i, i < n


@triton.jit
def plane_of(A, k, ld):
    """Where the coefficients of a neighbour begin."""
    return A + tl.cast(k, tl.int64) * ld


def grid_of(n: int) -> tuple[int]:
    """Programs for `n` rows."""
    return (blocks(n, BLOCK),)


def sizes_of(A: Stencil) -> tuple[int, int, int, int]:
    """Rows, distance of planes, strides of the second and third axis."""
    shape = A.lattice.shape
    return A.n, A.planes.stride(0), shape[0], shape[0] * shape[1]
