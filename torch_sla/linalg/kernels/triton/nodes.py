"""Steps of smoothers whose weights are a block for each node, fused with the product of the matrix.

A program owns a few nodes and all of their rows, read as a tile ``[nodes * lanes, width]`` as in `csr`; lanes are the
rows of a node and what is missing to a power of two. What the rows leave is multiplied by the blocks before it is
stored, so that a step is one pass over the matrix, as with one weight for each row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

from torch_sla.linalg.kernels.triton.csr import (
    ACCUMULATED,
    MOST,
    plan_tile,
    tile_entries,
)
from torch_sla.linalg.kernels.triton.launch import blocks, launch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FINISHES", "step"]

FINISHES = {"plain": 0, "scaled": 1, "relax": 2}  # and 3, relax with `z`

_SIZES = ["n_nodes", "n_rows", "k", "finish", "alpha", "gamma", "delta"]


@triton.jit(do_not_specialize=_SIZES)
def _node_steps(
    crow, ccol, values, weight, x, b, z, size, y,
    n_nodes, n_rows, k, finish, alpha, gamma, delta,
    EDGE: tl.constexpr, LANES: tl.constexpr, DTYPE: tl.constexpr,
    ROWS: tl.constexpr, WIDTH: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Program (tile of nodes, tile of columns); no rows stand for no matrix."""
    NODES: tl.constexpr = ROWS // LANES
    first = tl.program_id(0).to(tl.int64) * NODES
    t = tl.arange(0, ROWS)
    lane = t % LANES
    row = (first + t // LANES) * EDGE + lane
    inside = (lane < EDGE) & (first + t // LANES < n_nodes)
    tile = tl.program_id(1).to(tl.int64)  # the third axis takes what the second has no room for
    tile += tl.program_id(2).to(tl.int64) * tl.num_programs(1)
    c = tile * COLUMNS + tl.arange(0, COLUMNS)
    wanted = inside[:, None] & (c < k)[None, :]
    at = row[:, None] * k + c[None, :]
    read = inside & (row < n_rows)
    start = tl.load(crow + row, mask=read, other=0).to(tl.int64)
    length = (tl.load(crow + row + 1, mask=read, other=0).to(tl.int64) - start).to(tl.int32)
    if COLUMNS == 1:
        total = tl.zeros([ROWS, WIDTH], DTYPE)
        for s in range(0, tl.max(length, 0), WIDTH):
            e, live = tile_entries(start, length, s, WIDTH)
            j = tl.load(ccol + e, mask=live, other=0).to(tl.int64)
            v = tl.load(values + e, mask=live, other=0.0).to(DTYPE)
            total += v * tl.load(x + j, mask=live, other=0.0).to(DTYPE)
        r = tl.sum(total, 1)[:, None]
    else:
        r = tl.zeros([ROWS, COLUMNS], DTYPE)
        for s in range(tl.max(length, 0)):
            live = s < length
            j = tl.load(ccol + start + s, mask=live, other=0).to(tl.int64) * k
            v = tl.load(values + start + s, mask=live, other=0.0).to(DTYPE)
            there = live[:, None] & (c < k)[None, :]
            r += v[:, None] * tl.load(x + j[:, None] + c[None, :], mask=there, other=0.0).to(DTYPE)
    # Decided at run time: one compiled kernel serves all finishes.
    if finish != 1:
        r = tl.load(b + at, mask=wanted, other=0.0).to(DTYPE) - r
    if finish == 1:
        norm = tl.load(size).to(DTYPE)
        r = r / tl.where(norm > 0, norm, 1.0)
    n, i = tl.arange(0, NODES), tl.arange(0, LANES)
    place = ((first + n)[:, None, None] * EDGE + i[None, :, None]) * EDGE + i[None, None, :]
    there = ((first + n) < n_nodes)[:, None, None] & (i < EDGE)[None, :, None]
    there = there & (i < EDGE)[None, None, :]
    m = tl.load(weight + place, mask=there, other=0.0).to(DTYPE)
    r = tl.reshape(r, [NODES, 1, LANES, COLUMNS])
    out = tl.reshape(tl.sum(m[:, :, :, None] * r, 2), [ROWS, COLUMNS]) * alpha
    if finish >= 2:
        out += gamma * tl.load(x + at, mask=wanted, other=0.0).to(DTYPE)
    if finish == 3:
        out += delta * tl.load(z + at, mask=wanted, other=0.0).to(DTYPE)
    tl.store(y + at, out, mask=wanted)


def step(
    crow: Tensor,
    ccol: Tensor,
    values: Tensor | None,
    weight: Tensor,
    y: Tensor,
    *,
    x: Tensor | None = None,
    b: Tensor | None = None,
    z: Tensor | None = None,
    size: Tensor | None = None,
    finish: str = "plain",
    alpha: float = 1.0,
    gamma: float = 1.0,
    delta: float = 0.0,
) -> Tensor:
    """Write ``W r``, finished, to `y` and return it, with ``r = b - A x``.

    Parameters
    ----------
    crow, ccol, values
        The matrix, whose rows are all short (`csr.long_from`); no `values` stand for none, then ``r = b``.
    weight
        ``W`` ``[n / edge, edge, edge]``.
    x, b, z, y
        ``[n, k]``, all contiguous; `y` none of the others.
    size
        One number.
    finish
        ``"plain"`` ``α W r``, ``"scaled"`` ``α W A x / size``, ``"relax"`` ``γ x + δ z + α W r``.
    """
    (n, k), (n_nodes, edge) = y.shape, weight.shape[:2]
    if not y.numel():
        return y
    lanes = triton.next_power_of_2(edge)
    rows, width, together = plan_tile(n, ccol.numel(), k)
    rows = max(rows, lanes)
    tiles = blocks(k, together)
    grid = (blocks(n_nodes, rows // lanes), min(tiles, MOST), blocks(tiles, MOST))
    launch(
        _node_steps, grid, crow, ccol, y if values is None else values, weight,
        *(y if t is None else t for t in (x, b, z, size)), y,
        n_nodes, 0 if values is None else n, k, FINISHES[finish] + (z is not None),
        alpha, gamma, delta, edge, lanes, ACCUMULATED[y.dtype], rows, width, together,
    )  # fmt: skip
    return y
