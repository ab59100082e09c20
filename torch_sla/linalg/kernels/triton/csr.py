"""Products of matrices in compressed rows with vectors and columns.

A program owns a few rows and reads them as a tile ``[rows, width]``, the width near the average
length of a row, so that neighbouring lanes read neighbouring entries. Rows far longer than that
would hold up their tile: they are left out and summed by a second kernel with a whole program for
each. Every sum has a fixed order, hence the same bits every time. Bell and Garland, Implementing
sparse matrix-vector multiplication on throughput-oriented processors, SC 2009.

What is done with a sum ``s = (A x)_i`` before it is stored is the *finish*: ``"plain"`` ``s``,
``"affine"`` ``b + α s``, ``"relax"`` ``γ x_i + δ z_i + α w_i (b_i - s)``,
``"scaled"`` ``w_i s / b`` with one number ``b``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

from torch_sla.linalg.kernels.triton.launch import blocks, launch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "ACCUMULATED",
    "FINISHES",
    "MOST",
    "long_from",
    "plan_tile",
    "product",
    "tile_entries",
    "tile_rows",
]

FINISHES = {"plain": 0, "affine": 1, "relax": 2, "scaled": 4}  # and 3, relax with `z`

_TILE = 512  # entries of a tile
_WIDTHS = (4, 8, 16, 32)
_STEPS = 32  # tiles after which a row counts as long
_WIDE = 1024  # entries of a long row read at a time
MOST = 65535  # programs along the second and third axis of a launch
_SCAN = 64  # rows looked at by one program in search of long ones
ACCUMULATED = {
    torch.float16: tl.float32,
    torch.bfloat16: tl.float32,
    torch.float32: tl.float32,
    torch.float64: tl.float64,
}

# Strides and sizes change with every matrix: no kernel is compiled again for them.
_SIZES = ["n_rows", "columns", "k", "a_stride", "x_stride", "y_stride", "member", "row_member"]
_SIZES += ["limit", "finish", "alpha", "gamma", "delta"]


@triton.jit
def tile_rows(crow, n_rows, ROWS: tl.constexpr):
    """Rows of a program, which of them are there, where their entries begin, and how many there are."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = row < n_rows
    start = tl.load(crow + row, mask=inside, other=0).to(tl.int64)
    length = (tl.load(crow + row + 1, mask=inside, other=0).to(tl.int64) - start).to(tl.int32)
    return row, inside, start, length


@triton.jit
def tile_entries(start, length, step, WIDTH: tl.constexpr):
    """Entries of rows from one step on, and which of them are there ``[rows, WIDTH]``."""
    lane = step + tl.arange(0, WIDTH)
    return start[:, None] + lane[None, :], lane[None, :] < length[:, None]


@triton.jit
def _entries(values, slots, at, live, a_stride, SLOTS: tl.constexpr, UNIT: tl.constexpr,
             COMPLEX: tl.constexpr, CONJ: tl.constexpr, DTYPE: tl.constexpr):  # fmt: skip
    """Matrix entries at `at`, of batch member program_id(2): real and imaginary part."""
    if UNIT:
        re = live.to(DTYPE)
        im = re * 0
    else:
        if SLOTS:
            at = tl.load(slots + at, mask=live, other=0).to(tl.int64)
        at = at + tl.program_id(2).to(tl.int64) * a_stride
        if COMPLEX:
            re = tl.load(values + 2 * at, mask=live, other=0.0).to(DTYPE)
            im = tl.load(values + 2 * at + 1, mask=live, other=0.0).to(DTYPE)
            if CONJ:
                im = -im
        else:
            re = tl.load(values + at, mask=live, other=0.0).to(DTYPE)
            im = re
    return re, im


@triton.jit
def _add_products(total, imaginary, re, im, x, at, live, UNIT: tl.constexpr, COMPLEX: tl.constexpr,
                  DTYPE: tl.constexpr):  # fmt: skip
    """Add products of matrix entries with entries of `x` to sums."""
    if COMPLEX:
        xr = tl.load(x + 2 * at, mask=live, other=0.0).to(DTYPE)
        xi = tl.load(x + 2 * at + 1, mask=live, other=0.0).to(DTYPE)
        total += re * xr - im * xi
        imaginary += re * xi + im * xr
    else:
        xr = tl.load(x + at, mask=live, other=0.0).to(DTYPE)
        total += xr if UNIT else re * xr
    return total, imaginary


@triton.jit
def _store(y, total, imaginary, at, row, live, x, b, w, z, finish, alpha, gamma, delta,
           COMPLEX: tl.constexpr, DTYPE: tl.constexpr):  # fmt: skip
    """Finish sums and store them; complex ones are stored as they are."""
    if COMPLEX:
        tl.store(y + 2 * at, total, mask=live)
        tl.store(y + 2 * at + 1, imaginary, mask=live)
    else:
        # Decided at run time: one compiled kernel serves all finishes.
        if finish == 1:
            total = tl.load(b + at, mask=live, other=0.0).to(DTYPE) + alpha * total
        if finish == 4:
            size = tl.load(b).to(DTYPE)
            total = total * tl.load(w + row, mask=live, other=0.0).to(DTYPE)
            total = total / tl.where(size > 0, size, 1.0)
        if (finish == 2) | (finish == 3):
            r = tl.load(b + at, mask=live, other=0.0).to(DTYPE) - total
            total = alpha * tl.load(w + row, mask=live, other=0.0).to(DTYPE) * r
            total += gamma * tl.load(x + at, mask=live, other=0.0).to(DTYPE)
        if finish == 3:
            total += delta * tl.load(z + at, mask=live, other=0.0).to(DTYPE)
        tl.store(y + at, total, mask=live)


@triton.jit(do_not_specialize=_SIZES)
def _vector(
    crow, ccol, slots, values, x, y, b, w, z,
    n_rows, columns, k, a_stride, x_stride, y_stride, member, row_member, limit,
    finish, alpha, gamma, delta,
    SLOTS: tl.constexpr, UNIT: tl.constexpr, COMPLEX: tl.constexpr, CONJ: tl.constexpr,
    DTYPE: tl.constexpr,
    ROWS: tl.constexpr, WIDTH: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """One column: program (row tile, 0, member of the batch)."""
    x_column = tl.program_id(2).to(tl.int64) * x_stride
    row, inside, start, length = tile_rows(crow, n_rows, ROWS)
    inside = inside & (length <= limit)
    length = tl.where(inside, length, 0)
    total = tl.zeros([ROWS, WIDTH], DTYPE)
    imaginary = tl.zeros([ROWS, WIDTH], DTYPE) if COMPLEX else total
    for step in range(0, tl.max(length, 0), WIDTH):
        at, live = tile_entries(start, length, step, WIDTH)
        j = tl.load(ccol + at, mask=live, other=0).to(tl.int64) + x_column
        re, im = _entries(values, slots, at, live, a_stride, SLOTS, UNIT, COMPLEX, CONJ, DTYPE)
        total, imaginary = _add_products(total, imaginary, re, im, x, j, live, UNIT, COMPLEX, DTYPE)
    at = tl.program_id(2).to(tl.int64) * y_stride + row
    _store(y, tl.sum(total, 1), tl.sum(imaginary, 1), at, row, inside, x, b, w, z, finish, alpha,
           gamma, delta, COMPLEX, DTYPE)  # fmt: skip


@triton.jit(do_not_specialize=_SIZES)
def _several(
    crow, ccol, slots, values, x, y, b, w, z,
    n_rows, columns, k, a_stride, x_stride, y_stride, member, row_member, limit,
    finish, alpha, gamma, delta,
    SLOTS: tl.constexpr, UNIT: tl.constexpr, COMPLEX: tl.constexpr, CONJ: tl.constexpr,
    DTYPE: tl.constexpr,
    ROWS: tl.constexpr, WIDTH: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """COLUMNS columns at once, so that the matrix is read once for all of them."""
    tile = tl.program_id(1).to(tl.int64)
    if y_stride == 0:  # no batch: the third axis takes the columns that the second has no room for
        tile += tl.program_id(2).to(tl.int64) * tl.num_programs(1)
    c = tile * COLUMNS + tl.arange(0, COLUMNS)
    wanted = c < columns
    x_column = tl.program_id(2).to(tl.int64) * x_stride + (c // k) * member + c % k
    row, inside, start, length = tile_rows(crow, n_rows, ROWS)
    inside = inside & (length <= limit)
    length = tl.where(inside, length, 0)
    total = tl.zeros([ROWS, COLUMNS], DTYPE)
    imaginary = tl.zeros([ROWS, COLUMNS], DTYPE) if COMPLEX else total
    for step in range(tl.max(length, 0)):
        live = step < length
        at = start + step
        j = tl.load(ccol + at, mask=live, other=0).to(tl.int64) * k
        re, im = _entries(values, slots, at, live, a_stride, SLOTS, UNIT, COMPLEX, CONJ, DTYPE)
        place = j[:, None] + x_column[None, :]
        both = live[:, None] & wanted[None, :]
        total, imaginary = _add_products(total, imaginary, re[:, None], im[:, None], x, place, both,
                                         UNIT, COMPLEX, DTYPE)  # fmt: skip
    column = tl.program_id(2).to(tl.int64) * y_stride + (c // k) * row_member + c % k
    at = row[:, None] * k + column[None, :]
    stored = inside[:, None] & wanted[None, :]
    rows = tl.broadcast_to(row[:, None], [ROWS, COLUMNS])
    _store(y, total, imaginary, at, rows, stored, x, b, w, z, finish, alpha, gamma, delta, COMPLEX,
           DTYPE)  # fmt: skip


@triton.jit(do_not_specialize=_SIZES)
def _long_rows(
    crow, ccol, slots, values, x, y, b, w, z,
    n_rows, columns, k, a_stride, x_stride, y_stride, member, row_member, limit,
    finish, alpha, gamma, delta,
    SLOTS: tl.constexpr, UNIT: tl.constexpr, COMPLEX: tl.constexpr, CONJ: tl.constexpr,
    DTYPE: tl.constexpr,
    ROWS: tl.constexpr, WIDTH: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Rows above the limit among ROWS, a column at a time: program (rows, column, member)."""
    first = tl.program_id(0).to(tl.int64) * ROWS
    row = first + tl.arange(0, ROWS)
    inside = row < n_rows
    start = tl.load(crow + row, mask=inside, other=0)
    length = tl.load(crow + row + 1, mask=inside, other=0) - start
    if tl.max(length, 0) > limit:
        lane = tl.arange(0, WIDTH)
        for offset in range(ROWS):
            i = first + offset
            known = i < n_rows
            begin = tl.load(crow + i, mask=known, other=0).to(tl.int64)
            count = (tl.load(crow + i + 1, mask=known, other=0).to(tl.int64) - begin).to(tl.int32)
            if count > limit:
                for column in range(tl.program_id(1), columns, tl.num_programs(1)):
                    c = tl.cast(column, tl.int64)
                    x_column = tl.program_id(2).to(tl.int64) * x_stride + (c // k) * member + c % k
                    total = tl.zeros([WIDTH], DTYPE)
                    imaginary = tl.zeros([WIDTH], DTYPE) if COMPLEX else total
                    for step in range(0, count, WIDTH):
                        live = step + lane < count
                        at = begin + step + lane
                        j = tl.load(ccol + at, mask=live, other=0).to(tl.int64) * k + x_column
                        re, im = _entries(values, slots, at, live, a_stride, SLOTS, UNIT, COMPLEX,
                                          CONJ, DTYPE)  # fmt: skip
                        total, imaginary = _add_products(total, imaginary, re, im, x, j, live, UNIT,
                                                         COMPLEX, DTYPE)  # fmt: skip
                    at = tl.program_id(2).to(tl.int64) * y_stride
                    at += (c // k) * row_member + i * k + c % k
                    _store(y, tl.sum(total, 0), tl.sum(imaginary, 0), at, i, known, x, b, w, z, finish,
                           alpha, gamma, delta, COMPLEX, DTYPE)  # fmt: skip


def plan_tile(n_rows: int, nnz: int, columns: int) -> tuple[int, int, int]:
    """Rows, width and columns of a tile: few shapes, because each is compiled once for each dtype."""
    if columns > 1:
        together = min(triton.next_power_of_2(columns), 16)
        return _TILE // together, 1, together
    average = nnz / max(n_rows, 1)
    width = next((w for w in _WIDTHS if average <= 2 * w), 128)  # two reads a row were fastest
    return _TILE // width, width, 1


def long_from(n_rows: int, nnz: int, width: int) -> int:
    """Entries above which a row counts as long, in a tile of this width."""
    return min(max(_STEPS * width, 128, 16 * nnz // max(n_rows, 1)), 2**31 - 1)


def product(
    crow: Tensor,
    ccol: Tensor,
    values: Tensor | None,
    x: Tensor,
    y: Tensor,
    *,
    slots: Tensor | None = None,
    conj: bool = False,
    longest: int | None = None,
    finish: str = "plain",
    b: Tensor | None = None,
    w: Tensor | None = None,
    z: Tensor | None = None,
    alpha: float = 1.0,
    gamma: float = 1.0,
    delta: float = 0.0,
    tile: tuple[int, int, int] | None = None,
    warps: int = 4,
) -> Tensor:
    """Write ``A x``, finished, to `y` and return it.

    Parameters
    ----------
    crow, ccol, slots
        The pattern, one index dtype.
    values
        ``[A, nnz]`` with ``A`` 1 or ``B``; None stands for ones. Its dtype may be narrower than that
        of `y`, in which sums run.
    x
        ``[X, n_cols, k]`` with ``X`` 1 or ``B``.
    y, b, z
        ``[B, n_rows, k]``, all contiguous; `y` none of the others.
    w
        ``[n_rows]``.
    longest
        Length of the longest row where it is known, which can save a launch.
    tile, warps
        Rows, width and columns of a tile and the warps that work on it, for measurements.
    """
    batch, n_rows, k = y.shape
    if not y.numel():
        return y
    n_cols = x.shape[1]
    members = 1 if values is None or values.shape[0] == 1 else batch
    if members > MOST and values is not None:
        for first in range(0, members, MOST):
            part = slice(first, first + MOST)
            product(
                crow, ccol, values[part], x[part] if x.shape[0] > 1 else x, y[part],
                slots=slots, conj=conj, longest=longest, finish=finish,
                b=None if b is None else b[part], w=w, z=None if z is None else z[part],
                alpha=alpha, gamma=gamma, delta=delta,
            )  # fmt: skip
        return y
    shared = members == 1  # one matrix: the batch is more columns
    columns = batch * k if shared else k
    x_step = n_cols * k if x.shape[0] > 1 else 0
    rows, width, together = tile or plan_tile(n_rows, ccol.numel(), columns)
    limit = long_from(n_rows, ccol.numel(), width)
    complex_values = y.is_complex()
    if complex_values:
        values = None if values is None else torch.view_as_real(values)
        x, y_real = torch.view_as_real(x), torch.view_as_real(y)
    else:
        y_real = y
    other = y_real  # stands in for what is absent
    arguments = (
        crow, ccol, other if slots is None else slots, other if values is None else values,
        x, y_real, other if b is None else b, other if w is None else w,
        other if z is None else z,
        n_rows, columns, k, 0 if shared else ccol.numel(), 0 if shared else x_step,
        0 if shared else n_rows * k, x_step, n_rows * k, limit,
        FINISHES[finish] + (z is not None), alpha, gamma, delta,
        slots is not None, values is None, complex_values, conj and complex_values,
        ACCUMULATED[y_real.dtype],
    )  # fmt: skip
    tiles = blocks(columns, together)
    grid = (blocks(n_rows, rows), min(tiles, MOST), blocks(tiles, MOST) if shared else members)
    kernel = _vector if together == 1 else _several
    launch(kernel, grid, *arguments, rows, width, together, num_warps=warps)
    if longest is None or longest > limit:
        grid = (blocks(n_rows, _SCAN), min(columns, MOST), members)
        launch(_long_rows, grid, *arguments, _SCAN, _WIDE, 1)
    return y
