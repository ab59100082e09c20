"""Small dense matrices in Triton: the inverse of the coarsest level, held in the registers of one program.

`torch_sla.linalg.kernels.lattice_fallback.invert` says what is computed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

from torch_sla.linalg.kernels.triton.launch import launch
from torch_sla.linalg.kernels.triton.patterns import codes_on

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.kernels.stencils import Stencil

_WARPS = {16: 2, 32: 4, 64: 8}  # by the edge of the tile
_ROWS = 8  # written out at a time


@triton.jit
def _root(A, centre, ld, at, inside):
    """Square root of the diagonal, 1 where it is zero."""
    d = tl.abs(tl.load(A + centre * ld + at, mask=inside, other=0.0).to(tl.float64))
    return tl.sqrt(tl.where(d > 0, d, 1.0))


@triton.jit(do_not_specialize=["n", "s1", "s2", "count", "centre"])
def _invert_kernel(
    A, codes, scratch, inverse, found, n, ld, s1, s2, count, centre,
    EDGE: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    line = tl.arange(0, EDGE)
    inside = line < n
    root = _root(A, centre, ld, line, inside)
    # The matrix scaled to a unit diagonal, and how far it is from its mirror image.
    asymmetry = tl.zeros([], dtype=tl.float64)
    for first in range(0, n, ROWS):
        at = first + tl.arange(0, ROWS)
        there = at < n
        i, j = at[:, None], line[None, :]
        a = tl.zeros([ROWS, EDGE], dtype=tl.float64)
        mirror = tl.zeros([ROWS, EDGE], dtype=tl.float64)
        for k in range(count):
            code = tl.load(codes + k)
            offset = (code % 3 - 1) + (code // 3 % 3 - 1) * s1 + (code // 9 - 1) * s2
            own = tl.load(A + k * ld + at, mask=there, other=0.0).to(tl.float64)
            others = tl.load(A + k * ld + line, mask=inside, other=0.0).to(tl.float64)
            a += tl.where(j - i == offset, own[:, None], 0.0)
            mirror += tl.where(i - j == offset, others[None, :], 0.0)
        scale = _root(A, centre, ld, at, there)[:, None] * root[None, :]
        where = there[:, None] & inside[None, :]
        gap = tl.where(where, tl.abs(a - mirror) / scale, 0.0)
        asymmetry = tl.maximum(asymmetry, tl.max(tl.max(gap, axis=1), axis=0))
        tl.store(scratch + i * n + j, a / scale, mask=where)
    tl.debug_barrier()
    # Gauss-Jordan steps; of a positive definite matrix the pivots are those of Cholesky, squared.
    i, j = line[:, None], line[None, :]
    a = tl.load(scratch + i * n + j, mask=(i < n) & (j < n), other=0.0)
    pivot = tl.full([], float("inf"), dtype=tl.float64)
    for k in range(n):
        row = tl.sum(tl.where(i == k, a, 0.0), axis=0)
        column = tl.sum(tl.where(j == k, a, 0.0), axis=1)
        own = tl.sum(tl.where(line == k, row, 0.0), axis=0)
        pivot = tl.where((own < pivot) | (own != own), own, pivot)
        row = tl.where(line == k, 1.0, row) / tl.where(own == 0.0, 1.0, own)
        a = tl.where(j == k, 0.0, a)
        a = tl.where(i == k, row[None, :], a - column[:, None] * row[None, :])
    a /= root[:, None] * root[None, :]
    tl.store(inverse + i * n + j, a.to(inverse.dtype.element_ty), mask=(i < n) & (j < n))
    tl.store(found, pivot)
    tl.store(found + 1, asymmetry)


def invert(A: Stencil, inverse: Tensor, found: Tensor) -> None:
    lattice, n = A.lattice, A.n
    edge = next(edge for edge in _WARPS if n <= edge)
    scratch = torch.empty(n, n, dtype=torch.float64, device=A.device)
    codes = codes_on(lattice, A.device)
    strides = A.planes.stride(0), lattice.stride(1), lattice.stride(2)
    launch(
        _invert_kernel, (1,), A.planes, codes, scratch, inverse, found, n, *strides, codes.numel(),
        lattice.slots[13], edge, _ROWS, num_warps=_WARPS[edge],
    )  # fmt: skip
