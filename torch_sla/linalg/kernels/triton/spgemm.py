"""Products of two matrices in compressed rows: their positions, and their entries on given ones.

Positions come from merging rows. Each entry of a row of the left factor keeps a cursor in the row of the
right one that it names; in every round the cursors on the smallest column go on. All of a tile of rows
stays in registers: a pass reads each elementary term once and stores nothing but the result.

For entries each lane owns one entry of the result, walks the row of the left factor and looks its column up in
the sorted rows of the right one. No two lanes write to one place and every sum has the order of the
left row, hence the same bits every time; nothing is sorted and nothing but the result is stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

from torch_sla.linalg.kernels.patterns import expand_rows
from torch_sla.linalg.kernels.triton.csr import ACCUMULATED, MOST
from torch_sla.linalg.kernels.triton.launch import blocks, launch
from torch_sla.linalg.kernels.triton.rows import rows_of_entries

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["WIDEST", "masked_product", "union_rows"]

_LANES = 256
_TILE = 512  # entries of the left factor that a program merges
WIDEST = 1024  # entries of a row of the left factor that are merged at once


@triton.jit(do_not_specialize=["n_rows"])
def _union(crow_a, ccol_a, crow_b, ccol_b, crow_c, out, n_rows, FILL: tl.constexpr,
           NONE: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = row < n_rows
    start = tl.load(crow_a + row, mask=inside, other=0).to(tl.int64)
    length = (tl.load(crow_a + row + 1, mask=inside, other=0).to(tl.int64) - start).to(tl.int32)
    lane = tl.arange(0, WIDTH)
    live = lane[None, :] < length[:, None]
    k = tl.load(ccol_a + start[:, None] + lane[None, :], mask=live, other=0).to(tl.int64)
    at = tl.load(crow_b + k, mask=live, other=0)
    end = tl.load(crow_b + k + 1, mask=live, other=0)
    head = tl.load(ccol_b + at, mask=at < end, other=NONE)
    smallest = tl.min(head, 1)
    count = tl.zeros([ROWS], tl.int32)
    if FILL:
        first = tl.load(crow_c + row, mask=inside, other=0)
    while tl.min(smallest, 0) < NONE:
        more = smallest < NONE
        if FILL:
            tl.store(out + first + count, smallest, mask=more)
        count += more.to(tl.int32)
        on = (head == smallest[:, None]) & (at < end)
        at += on.to(at.dtype)
        following = tl.load(ccol_b + at, mask=on & (at < end), other=NONE)
        head = tl.where(on, following, head)
        smallest = tl.min(head, 1)
    if not FILL:
        tl.store(out + row, count, mask=inside)


def union_rows(
    a_pattern: tuple[Tensor, Tensor], b_pattern: tuple[Tensor, Tensor], longest: int
) -> tuple[Tensor, Tensor, int]:
    """Positions of ``A B`` and the length of the longest row: two passes, and one look by the host.

    Where rows are wider than `WIDEST` all are cut into pieces, and what these reach is merged in turn: ``A`` is the
    product of ones where pieces belong to rows, and the pieces.

    Parameters
    ----------
    a_pattern, b_pattern
        ``(crow, ccol)`` of each, one index dtype, columns sorted in each row of ``B``.
    longest
        Entries of the longest row of ``A``.

    Returns
    -------
    tuple
        ``crow`` int64, ``ccol`` sorted in each row, and the number.
    """
    (crow_a, ccol_a), (crow_b, ccol_b) = a_pattern, b_pattern
    n_rows = crow_a.numel() - 1
    if longest > WIDEST:
        size = WIDEST // 4  # the other rows are narrow
        crow = torch.zeros_like(crow_a)
        torch.cumsum((crow_a.diff() + size - 1) // size, 0, out=crow[1:])
        count, most = torch.stack([crow[-1], crow.diff().amax()]).tolist()
        piece = torch.arange(count, dtype=crow_a.dtype, device=crow_a.device)
        row = expand_rows(crow, count)
        start = crow_a[row] + size * (piece - crow[row])
        pieces = (torch.cat([start, crow_a[-1:]]), ccol_a)
        crow_p, ccol_p, _ = union_rows(pieces, b_pattern, size)
        wide = torch.int64 if ccol_p.numel() > torch.iinfo(torch.int32).max else crow_a.dtype
        reached = (crow_p.to(wide), ccol_p.to(wide))
        crow, ccol, most = union_rows((crow.to(wide), piece.to(wide)), reached, most)
        return crow, ccol.to(ccol_b.dtype), most
    width = max(triton.next_power_of_2(longest), 4)
    rows = max(_TILE // width, 1)
    grid, given = (blocks(n_rows, rows),), (crow_a, ccol_a, crow_b, ccol_b)
    none = torch.iinfo(ccol_b.dtype).max
    counts = torch.empty(n_rows, dtype=torch.int32, device=crow_a.device)
    launch(_union, grid, *given, crow_a, counts, n_rows, False, none, rows, width)
    crow = torch.zeros(n_rows + 1, dtype=torch.int64, device=crow_a.device)
    torch.cumsum(counts, 0, out=crow[1:])
    total, most = torch.stack([crow[-1], counts.amax()]).tolist()
    ccol = ccol_b.new_empty(total)
    launch(_union, grid, *given, crow, ccol, n_rows, True, none, rows, width)
    return crow, ccol, most


@triton.jit(do_not_specialize=["n_rows", "nnz", "a_stride", "b_stride"])
def _masked(
    crow_a, ccol_a, a, crow_b, ccol_b, b, crow_c, ccol_c, out,
    n_rows, nnz, a_stride, b_stride,
    BR: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr, COMPLEX: tl.constexpr,
    DTYPE: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    member = tl.program_id(1).to(tl.int64)
    first = tl.program_id(0).to(tl.int64) * LANES
    lane = first + tl.arange(0, LANES)
    total_lanes = tl.cast(nnz, tl.int64) * (BR * BC)
    live = lane < total_lanes
    e = lane // (BR * BC)  # block of the result
    r = (lane // BC) % BR
    c = lane % BC
    final = tl.minimum(first + LANES, total_lanes) - 1
    row = rows_of_entries(crow_c, n_rows, first // (BR * BC), final // (BR * BC), e)
    j = tl.load(ccol_c + e, mask=live, other=0)
    start = tl.load(crow_a + row, mask=live, other=0).to(tl.int64)
    length = (tl.load(crow_a + row + 1, mask=live, other=0).to(tl.int64) - start).to(tl.int32)
    total = tl.zeros([LANES], DTYPE)
    imaginary = tl.zeros([LANES], DTYPE) if COMPLEX else total
    for step in range(tl.max(length, 0)):
        walking = step < length
        k = tl.load(ccol_a + start + step, mask=walking, other=0).to(tl.int64)
        low = tl.load(crow_b + k, mask=walking, other=0).to(tl.int64)
        top = tl.load(crow_b + k + 1, mask=walking, other=0).to(tl.int64) - 1
        some = walking & (low <= top)
        width = tl.max(tl.where(some, top - low, 0), 0)
        while width > 0:
            middle = (low + top + 1) // 2
            before = tl.load(ccol_b + middle, mask=some, other=0) <= j
            low = tl.where(before, middle, low)
            top = tl.where(before, top, tl.maximum(middle - 1, low))
            width = width // 2
        some = some & (tl.load(ccol_b + low, mask=some, other=0) == j)
        left = member * a_stride + ((start + step) * BR + r) * BM
        right = member * b_stride + low * (BM * BC) + c
        for m in tl.static_range(BM):
            if COMPLEX:
                ar = tl.load(a + 2 * (left + m), mask=some, other=0.0)
                ai = tl.load(a + 2 * (left + m) + 1, mask=some, other=0.0)
                br = tl.load(b + 2 * (right + m * BC), mask=some, other=0.0)
                bi = tl.load(b + 2 * (right + m * BC) + 1, mask=some, other=0.0)
                total += ar * br - ai * bi
                imaginary += ar * bi + ai * br
            else:
                ar = tl.load(a + left + m, mask=some, other=0.0)
                total += ar * tl.load(b + right + m * BC, mask=some, other=0.0)
    at = member * total_lanes + lane
    if COMPLEX:
        tl.store(out + 2 * at, total, mask=live)
        tl.store(out + 2 * at + 1, imaginary, mask=live)
    else:
        tl.store(out + at, total, mask=live)


def masked_product(
    a_pattern: tuple[Tensor, Tensor],
    a: Tensor,
    b_pattern: tuple[Tensor, Tensor],
    b: Tensor,
    out_pattern: tuple[Tensor, Tensor],
) -> Tensor:
    """Entries of ``A B`` on sorted positions.

    Parameters
    ----------
    a_pattern, b_pattern, out_pattern
        ``(crow, ccol)`` of each, columns sorted in each row, one index dtype.
    a, b
        ``[A, nnz_a, r, m]`` and ``[B, nnz_b, m, c]`` of one dtype; a batch of one is shared.

    Returns
    -------
    Tensor
        ``[max(A, B), nnz_out, r, c]``.
    """
    crow_c, ccol_c = out_pattern
    members, nnz = b.shape[0] if a.shape[0] == 1 else a.shape[0], ccol_c.numel()
    br, bm, bc = a.shape[2], a.shape[3], b.shape[3]
    out = a.new_empty(members, nnz, br, bc)
    if not out.numel():
        return out
    a_stride = a[0].numel() if a.shape[0] > 1 else 0
    b_stride = b[0].numel() if b.shape[0] > 1 else 0
    for first in range(0, members, MOST):
        part = slice(first, first + MOST)
        shown = [a[part] if a_stride else a, b[part] if b_stride else b, out[part]]
        if a.is_complex():
            shown = [torch.view_as_real(t) for t in shown]
        grid = (blocks(nnz * br * bc, _LANES), out[part].shape[0])
        launch(
            _masked, grid, *a_pattern, shown[0], *b_pattern, shown[1], crow_c, ccol_c, shown[2],
            crow_c.numel() - 1, nnz, a_stride, b_stride,
            br, bm, bc, a.is_complex(), ACCUMULATED[shown[2].dtype], _LANES,
        )  # fmt: skip
    return out
