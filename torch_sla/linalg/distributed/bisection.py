"""Recursive coordinate bisection of points that nobody has all of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch_sla.linalg.distributed.communicator import Communicator

__all__ = ["bisected", "smallest"]

_BITS = 8  # of a coordinate that one reduction settles
_SIGN = torch.iinfo(torch.int64).min


def bisected(comm: Communicator, x: Tensor, parts: int, device: torch.device | str) -> Tensor:
    """Cut points along their longest extent again and again; all processes call it together.

    Parameters
    ----------
    x
        Points of this process ``[m, dim]``, float64, on the host.
    parts
        Number of parts.
    device
        Through which messages go.

    Returns
    -------
    Tensor
        Part of each point ``[m]``: that of one process which has all points, those of lower ranks first.
        It takes one reduction for each byte of a coordinate and each halving, of 2 kB for each piece there is by then.

    Examples
    --------
    >>> from torch_sla.linalg.distributed.communicator import InProcess
    >>> bisected(InProcess(3), torch.tensor([[4.0], [1.0], [2.0], [0.0]]).double(), 3, "cpu")
    tensor([2, 1, 1, 0])
    """
    # Of each piece the first part and how many it will be cut into.
    pieces, piece = [(0, parts)], torch.zeros(len(x), dtype=torch.int64)
    while any(count > 1 for _, count in pieces):
        n = len(pieces)
        ends = x.new_full((n, 2 * x.shape[1]), -torch.inf)
        both = torch.cat([x, -x], 1)
        ends.scatter_reduce_(0, piece[:, None].expand_as(both), both, "amax")
        ends = comm.reduce(ends.to(device), "max").cpu()
        along = (ends[:, : x.shape[1]] + ends[:, x.shape[1] :]).argmax(1)
        total = comm.reduce(torch.bincount(piece, minlength=n).to(device)).cpu().tolist()
        # One that is whole keeps all it has.
        low = torch.tensor(
            [
                round(size * (count // 2) / count) if count > 1 else size
                for size, (_, count) in zip(total, pieces, strict=True)
            ]
        )
        value = x.gather(1, along[piece][:, None])[:, 0]
        lower = smallest(comm, value, piece, low, device)
        halves: list[tuple[int, int]] = []
        place = torch.empty(n, 2, dtype=torch.int64)
        for i, (first, count) in enumerate(pieces):
            place[i] = torch.tensor([len(halves) + (count > 1), len(halves)])
            half = count // 2
            halves += [(first, half), (first + half, count - half)] if half else [(first, count)]
        piece, pieces = place[piece, lower.long()], halves
    return torch.tensor([first for first, _ in pieces])[piece]


def smallest(
    comm: Communicator, x: Tensor, group: Tensor, count: Tensor, device: torch.device | str
) -> Tensor:
    """Return whether each number is among so many smallest of its group, of equal ones the first.

    Parameters
    ----------
    x, group
        Numbers of this process, and the group of each ``[m]``.
    count
        How many of each group ``[groups]``, the same on every process.
    """
    n = len(count)
    key = (x + 0.0).view(torch.int64)  # no zero is negative
    # As whole numbers of the order of the coordinates, from their bits.
    key = torch.where(key < 0, ~key, key ^ _SIGN)
    undecided = torch.ones(len(x), dtype=torch.bool)
    taken = torch.zeros(len(x), dtype=torch.bool)
    left = count.clone()
    for shift in range(64 - _BITS, -1, -_BITS):
        digit = (key >> shift) & ((1 << _BITS) - 1)
        counts = torch.bincount(
            (group * (1 << _BITS) + digit)[undecided], minlength=n * (1 << _BITS)
        )
        upto = comm.reduce(counts.to(device)).cpu().reshape(n, -1).cumsum(1)
        # The digit of the last one that is taken, or of the first that is not.
        edge = (upto <= left[:, None]).sum(1)
        below = torch.where(
            edge > 0, upto.gather(1, (edge - 1).clamp(min=0)[:, None])[:, 0], torch.zeros_like(left)
        )
        taken |= undecided & (digit < edge[group])
        undecided &= digit == edge[group]
        left = left - below
    # Those that are left are equal.
    mine = torch.bincount(group[undecided], minlength=n)
    each = torch.stack(comm.gather(mine[None].to(device))).reshape(-1, n).cpu()
    left = left - each[: comm.rank].sum(0)
    at = torch.nonzero(undecided)[:, 0]
    order = at[group[at].argsort(stable=True)]
    start = mine.cumsum(0) - mine
    rank = torch.arange(len(order)) - start[group[order]]
    taken[order] = rank < left[group[order]]
    return taken
