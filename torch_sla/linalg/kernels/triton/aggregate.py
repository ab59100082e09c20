"""Aggregates of rows in a graph, found without the host: it looks once for each set of roots, and at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

from torch_sla.linalg.kernels.triton.csr import plan_tile, tile_entries
from torch_sla.linalg.kernels.triton.launch import blocks, launch
from torch_sla.linalg.kernels.triton.rows import decide, hashed_keys

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["aggregates"]

_ROOT = 2 << 60


@triton.jit
def _rows_of(crow, n_rows, wanted, ROWS: tl.constexpr):
    """Rows of a program, where their entries begin, and how many there are; none of unwanted rows."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = row < n_rows
    chosen = inside & (tl.load(wanted + row, mask=inside, other=0) < 0)
    start = tl.load(crow + row, mask=chosen, other=0).to(tl.int64)
    length = (tl.load(crow + row + 1, mask=chosen, other=0).to(tl.int64) - start).to(tl.int32)
    return row, chosen, start, length


@triton.jit(do_not_specialize=["n_rows", "least"])
def _crowded(crow, ccol, group, key, n_rows, least, ROOT: tl.constexpr,
             ROWS: tl.constexpr, WIDTH: tl.constexpr):  # fmt: skip
    """Roots with fewer free rows within one step than `least` are none."""
    row, chosen, start, length = _rows_of(crow, n_rows, group, ROWS)
    own = tl.load(key + row, mask=chosen, other=0)
    length = tl.where(own >= ROOT, length, 0)
    count = tl.zeros([ROWS, WIDTH], tl.int32)
    for step in range(0, tl.max(length, 0), WIDTH):
        at, live = tile_entries(start, length, step, WIDTH)
        j = tl.load(ccol + at, mask=live, other=0).to(tl.int64)
        # A row may be joined to itself several times.
        other = (tl.load(group + j, mask=live, other=0) == -1) & (j != row[:, None])
        count += other.to(tl.int32)
    tl.store(key + row, 0, mask=chosen & (own >= ROOT) & (tl.sum(count, 1) + 1 < least))


@triton.jit(do_not_specialize=["n_rows"])
def _spread(crow, ccol, group, key, number, before, n_rows, ROOT: tl.constexpr,
            ROWS: tl.constexpr, WIDTH: tl.constexpr):  # fmt: skip
    """Roots keep their number, other free rows take that of the root within one step.

    Of a graph that is not symmetric several may be there, of which the last is taken, and roots may see others.
    """
    row, chosen, start, length = _rows_of(crow, n_rows, group, ROWS)
    found = tl.full([ROWS, WIDTH], 0, tl.int64)
    for step in range(0, tl.max(length, 0), WIDTH):
        at, live = tile_entries(start, length, step, WIDTH)
        j = tl.load(ccol + at, mask=live, other=0)
        j = j.to(tl.int64)
        root = live & (tl.load(key + j, mask=live, other=0) >= ROOT)
        found = tl.maximum(found, tl.load(number + j, mask=root, other=0))
    own = chosen & (tl.load(key + row, mask=chosen, other=0) >= ROOT)
    mine = tl.where(own, tl.load(number + row, mask=own, other=0), tl.max(found, 1))
    tl.store(group + row, mine - 1 + tl.load(before), mask=chosen & (mine > 0))


@triton.jit(do_not_specialize=["n_rows"])
def _join(crow, ccol, size, group, joined, n_rows, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """Free rows join the aggregate they are coupled to most strongly, of equals the last."""
    row, chosen, start, length = _rows_of(crow, n_rows, group, ROWS)
    most = tl.zeros([ROWS], tl.float32)
    best = tl.full([ROWS], -1, tl.int64)
    for step in range(0, tl.max(length, 0), WIDTH):
        at, live = tile_entries(start, length, step, WIDTH)
        j = tl.load(ccol + at, mask=live, other=0).to(tl.int64)
        to = tl.load(group + j, mask=live, other=-1)
        # What couples to nothing has no aggregate; in a graph that is not symmetric others may couple to it.
        there_is = live & (to >= 0) & (to < n_rows)
        weight = tl.load(size + at, mask=there_is, other=0.0)
        here = tl.max(weight, 1)
        top = tl.maximum(most, here)
        last = tl.max(tl.where((weight == top[:, None]) & (weight > 0), to, -1), 1)
        best = tl.where(here > most, last, tl.maximum(best, last))
        most = top
    inside = row < n_rows
    own = tl.load(group + row, mask=inside, other=0)
    tl.store(joined + row, tl.where(chosen & (best >= 0), best, own), mask=inside)


def aggregates(
    crow: Tensor, ccol: Tensor, size: Tensor, coupled: Tensor, least: int, rounds: int
) -> tuple[Tensor, int]:
    """As `torch_sla.linalg.precond.multigrid.device.aggregate.aggregate` says.

    Parameters
    ----------
    crow, ccol, size
        The graph, and the size of each coupling.
    coupled
        bool ``[n]``: rows that have any.
    least
        Rows of an aggregate around a root of the second set.
    rounds
        Of joining.
    """
    n = coupled.numel()
    rows, width, _ = plan_tile(n, ccol.numel(), 1)
    grid, tile = (blocks(n, rows),), (rows, width)
    # Free rows are -1; those without couplings stay out, as n_rows until the end.
    group = torch.where(coupled, -1, n)
    count = torch.zeros(1, dtype=torch.int64, device=crow.device)
    for second in (False, True):
        key = hashed_keys(group)
        decide(crow, ccol, key)
        if second:
            launch(_crowded, grid, crow, ccol, group, key, n, least, _ROOT, *tile)
        number = torch.cumsum(key >= _ROOT, 0)
        launch(_spread, grid, crow, ccol, group, key, number, count, n, _ROOT, *tile)
        count = count + number[-1:]
    for _ in range(rounds):
        joined = torch.empty_like(group)
        launch(_join, grid, crow, ccol, size, group, joined, n, *tile)
        group = joined
    number = torch.cumsum(group < 0, 0)
    group = torch.where(group < 0, number + (count - 1), group)
    return torch.where(coupled, group, -1), int(count + number[-1:])
