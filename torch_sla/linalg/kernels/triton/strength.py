"""The strong part of a scalar matrix in three passes; `precond.multigrid.device.strength` says what is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import triton
import triton.language as tl

from torch_sla.linalg.kernels.triton.csr import plan_tile, tile_entries, tile_rows
from torch_sla.linalg.kernels.triton.launch import blocks, launch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Chosen", "choose", "take"]


@triton.jit
def _coarse(size, HALF: tl.constexpr):
    """Round to float32 without the bits below twice HALF."""
    bits = size.to(tl.float32).to(tl.int32, bitcast=True)
    return ((bits + HALF) & (-2 * HALF)).to(tl.float32, bitcast=True)


@triton.jit(do_not_specialize=["n_rows"])
def _measure(crow, ccol, values, own, largest, found, n_rows, DECOUPLED: tl.constexpr,
             HALF: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr):  # fmt: skip
    row, inside, start, length = tile_rows(crow, n_rows, ROWS)
    none = tl.zeros([ROWS, WIDTH], values.dtype.element_ty)
    diagonal, total, high, low = none, none, none, none
    for step in range(0, tl.max(length, 0), WIDTH):
        at, live = tile_entries(start, length, step, WIDTH)
        j = tl.load(ccol + at, mask=live, other=-1).to(tl.int64)
        a = tl.load(values + at, mask=live, other=0.0)
        on = live & (j == row[:, None])
        diagonal += tl.where(on, a, 0.0)
        a = tl.where(on, 0.0, a)
        total += tl.abs(a)
        high = tl.maximum(high, a)
        low = tl.minimum(low, a)
    d = tl.sum(diagonal, 1)
    size = tl.sum(total, 1)
    # A coupling is -a_ij sign(a_ii): where rounding is monotone, the largest one is rounded alike.
    most = _coarse(tl.where(d < 0, tl.max(high, 1), -tl.min(low, 1)), HALF)
    most = tl.where(size > DECOUPLED * tl.abs(d), most, 0.0)
    tl.store(own + row, d, mask=inside)
    tl.store(largest + row, _coarse(tl.sqrt_rn(most), HALF), mask=inside)
    hole = tl.max(tl.where(inside & (d == 0) & (size > 0), n_rows - row, 0), 0)
    tl.atomic_max(found, hole, mask=hole > 0)


@triton.jit(do_not_specialize=["n_rows", "theta"])
def _choose(crow, ccol, values, own, largest, keep, count, diagonal, found, n_rows, theta,
            GIVEN: tl.constexpr, HALF: tl.constexpr, KEPT: tl.constexpr, TIED: tl.constexpr,
            CARRIED: tl.constexpr, STRONG: tl.constexpr, ROWS: tl.constexpr,
            WIDTH: tl.constexpr):  # fmt: skip
    row, inside, start, length = tile_rows(crow, n_rows, ROWS)
    d = tl.load(own + row, mask=inside, other=0.0)
    here = tl.load(largest + row, mask=inside, other=0.0)
    weak = tl.zeros([ROWS, WIDTH], values.dtype.element_ty)
    taken = tl.zeros([ROWS, WIDTH], tl.int32)
    tied = tl.zeros([ROWS, WIDTH], tl.int32)
    apart = tl.zeros([ROWS, WIDTH], tl.int32)
    for step in range(0, tl.max(length, 0), WIDTH):
        at, live = tile_entries(start, length, step, WIDTH)
        j = tl.load(ccol + at, mask=live, other=0).to(tl.int64)
        a = tl.load(values + at, mask=live, other=0.0)
        on = live & (j == row[:, None])
        other = tl.load(own + j, mask=live, other=0.0)
        limit = (TIED * tl.abs(d))[:, None] * tl.abs(other)
        tied += (live & (on == 0) & (a * a >= limit) & (limit > 0)).to(tl.int32)
        if GIVEN:
            code = tl.load(keep + at, mask=live, other=0).to(tl.int32)
        else:
            size = _coarse(tl.where((d < 0)[:, None], a, -a), HALF)
            there = tl.load(largest + j, mask=live, other=0.0)
            coupled = (size > 0) & (here[:, None] > 0) & (there > 0)
            limit = (theta * here)[:, None]
            strong = on | (coupled & (size >= limit * there))
            carried = coupled & (size >= limit * here[:, None])
            code = tl.where(strong, STRONG, tl.where(carried, CARRIED, 0))
            tl.store(keep + at, code.to(tl.uint8), mask=live)
        chosen = live & (code != 0)
        apart += (chosen & (code != STRONG)).to(tl.int32)
        weak += tl.where(live & (chosen == 0), a, 0.0)
        taken += chosen.to(tl.int32)
    filtered = d + tl.sum(weak, 1)
    usable = filtered * d > KEPT * d * d
    tl.store(diagonal + row, tl.where(usable, filtered, d), mask=inside)
    tl.store(count + row, tl.sum(taken, 1), mask=inside)
    pairs = tl.sum(tl.sum(tied, 1), 0)
    tl.atomic_max(found + 1, (pairs > 0).to(tl.int64), mask=pairs > 0)
    others = tl.sum(tl.sum(apart, 1), 0)
    tl.atomic_max(found + 2, (others > 0).to(tl.int64), mask=others > 0)


@triton.jit(do_not_specialize=["n_rows", "damping"])
def _take(crow, ccol, values, own, diagonal, keep, crow_s, ccol_s, joined, size_s, values_s, n_rows,
          damping, APART: tl.constexpr, STRONG: tl.constexpr, HALF: tl.constexpr,
          ROWS: tl.constexpr, WIDTH: tl.constexpr):  # fmt: skip
    row, inside, start, length = tile_rows(crow, n_rows, ROWS)
    d = tl.load(own + row, mask=inside, other=0.0)
    f = tl.load(diagonal + row, mask=inside, other=0.0)
    step_size = tl.where(f != 0, damping / tl.where(f != 0, f, 1.0), 0.0)
    place = tl.load(crow_s + row, mask=inside, other=0).to(tl.int64)
    for step in range(0, tl.max(length, 0), WIDTH):
        at, live = tile_entries(start, length, step, WIDTH)
        code = tl.load(keep + at, mask=live, other=0)
        chosen = live & (code != 0)
        j = tl.load(ccol + at, mask=chosen, other=-1)
        a = tl.load(values + at, mask=chosen, other=0.0)
        on = chosen & (j.to(tl.int64) == row[:, None])
        one = chosen.to(tl.int32)
        to = place[:, None] + tl.cumsum(one, 1) - one
        size = _coarse(tl.where((d < 0)[:, None], a, -a), HALF)
        v = -step_size[:, None] * tl.where(on, f[:, None], a)
        tl.store(ccol_s + to, j, mask=chosen)
        alone = on
        if APART:
            alone = on | (code != STRONG)
            tl.store(joined + to, tl.where(alone, row[:, None].to(j.dtype), j), mask=chosen)
        tl.store(size_s + to, tl.where(alone, float("-inf"), size), mask=chosen)
        tl.store(values_s + to, tl.where(on, v + 1.0, v), mask=chosen)
        place += tl.sum(one, 1)


class Chosen(NamedTuple):
    """What is strong in a matrix, and what else carries transfers.

    Parameters
    ----------
    own
        Its diagonal ``[n]``.
    diagonal
        That of the part that is taken, other couplings added.
    keep
        uint8 ``[nnz]``, 0 for what is not taken.
    crow, total
        Row pointers of that part, and its entries.
    tied
        Whether any coupling is strong enough to tie its rows.
    apart
        Whether something is taken that is not strong.
    hole
        A row with couplings and without a diagonal, -1 where there is none.
    """

    own: Tensor
    diagonal: Tensor
    keep: Tensor
    crow: Tensor
    total: int
    tied: bool
    apart: bool
    hole: int


def choose(
    crow: Tensor, ccol: Tensor, values: Tensor, theta: float, keep: Tensor | None, *,
    bits: int, decoupled: float, kept: float, tied: float, codes: tuple[int, int],
) -> Chosen:  # fmt: skip
    """Tell what is carried and what is strong, by these `codes`, and look once.

    A mask `keep` decides instead of `theta`, where there is one.
    """
    n, half = crow.numel() - 1, 1 << (bits - 1)
    rows, width, _ = plan_tile(n, ccol.numel(), 1)
    grid, given = (blocks(n, rows),), (crow, ccol, values)
    own, diagonal = values.new_empty(n), values.new_empty(n)
    largest = torch.empty(n, dtype=torch.float32, device=values.device)
    count = torch.empty(n, dtype=torch.int32, device=values.device)
    found = torch.zeros(4, dtype=torch.int64, device=values.device)
    launch(_measure, grid, *given, own, largest, found, n, decoupled, half, rows, width)
    fresh = keep is None
    if keep is None:
        keep = torch.empty(ccol.numel(), dtype=torch.uint8, device=values.device)
    launch(
        _choose, grid, *given, own, largest, keep, count, diagonal, found, n, float(theta),
        not fresh, half, kept, tied, *codes, rows, width,
    )  # fmt: skip
    crow_s = torch.zeros_like(crow)
    torch.cumsum(count, 0, dtype=crow.dtype, out=crow_s[1:])
    found[3:].copy_(crow_s[-1:])
    hole, pairs, apart, total = found.tolist()
    row = n - hole if hole else -1
    return Chosen(own, diagonal, keep, crow_s, total, pairs > 0, apart > 0, row)


def take(
    crow: Tensor, ccol: Tensor, values: Tensor, chosen: Chosen, damping: float, *, bits: int, strong: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Columns, those of the graph, sizes of couplings and entries of ``I - damping D⁻¹ S`` on the part ``S`` taken.

    Of what has not the code `strong`, the graph has the row itself. `damping` is a number of single precision.
    """
    n = crow.numel() - 1
    rows, width, _ = plan_tile(n, ccol.numel(), 1)
    columns = ccol.new_empty(chosen.total)
    joined = torch.empty_like(columns) if chosen.apart else columns
    size = torch.empty(chosen.total, dtype=torch.float32, device=values.device)
    out = values.new_empty(chosen.total)
    launch(
        _take, (blocks(n, rows),), crow, ccol, values, chosen.own, chosen.diagonal, chosen.keep,
        chosen.crow, columns, joined, size, out, n, damping,
        chosen.apart, strong, 1 << (bits - 1), rows, width,
    )  # fmt: skip
    return columns, joined, size, out
