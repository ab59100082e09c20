"""Aggregates found in parallel: roots no two of which are within two steps, and their neighbours.

Roots are a maximal set of rows no two of which are within two steps. A second set, among rows that
are left over, makes aggregates of those that have enough free neighbours (Kelley and Rajamanickam,
Parallel, portable algorithms for distance-2 maximal independent set and graph coarsening, IPDPS
2022), and the rest joins the aggregate to which it is coupled most strongly. Nothing depends on the
order of execution.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from torch_sla.linalg.kernels import triton
from torch_sla.linalg.kernels.independent import independent_rows
from torch_sla.linalg.kernels.pointers import kept_pointers
from torch_sla.linalg.kernels.rows import row_max
from torch_sla.linalg.kernels.sparse import expand_rows

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.precond.multigrid.device.strength import Strong

__all__ = ["aggregate"]

_LEAST = 3  # rows of an aggregate of the second kind
_ROUNDS = 3  # of joining, before what is left becomes aggregates of its own


def aggregate(S: Strong) -> tuple[Tensor, int]:
    """Group rows by strong couplings.

    Parameters
    ----------
    S
        The graph of strong couplings.

    Returns
    -------
    group
        ``[n]`` int64 aggregate of each row; -1 for rows without strong couplings, which the smoother
        solves.
    count
        Number of aggregates.
    """
    n = S.crow.numel() - 1
    device = S.crow.device
    group = torch.full((n,), -1, dtype=torch.int64, device=device)
    if not n or not S.ccol.numel():
        return group, 0
    coupled = row_max(S.crow, S.size, None, -torch.inf) > -torch.inf
    if triton.runs(S.crow, S.size):
        from torch_sla.linalg.kernels.triton.aggregate import aggregates

        return aggregates(S.crow, S.ccol, S.size, coupled, _LEAST, _ROUNDS)
    if not bool(coupled.any()):
        return group, 0
    count = 0
    free = coupled
    for least in (1, _LEAST):
        root = independent_rows(S.crow, S.ccol, free)
        if least > 1:
            neighbours = _count_free(S, free)
            root &= neighbours >= least
        fresh = torch.where(root, torch.cumsum(root, 0) - 1 + count, -1)
        joined = row_max(S.crow, fresh, S.ccol, -1)
        group = torch.where(free & (joined >= 0), joined, group)
        group = torch.where(root, fresh, group)
        count += int(root.sum())
        free = coupled & (group < 0)
    row = expand_rows(S.crow, S.ccol.numel())
    for _ in range(_ROUNDS):
        if not bool(free.any()):
            break
        group = _strongest(S, row, group, free)
        free = coupled & (group < 0)
    alone = torch.where(free, torch.cumsum(free, 0) - 1 + count, group)
    return alone, count + int(free.sum())


def _count_free(S: Strong, free: Tensor) -> Tensor:
    """Count the free rows within one step of each row, itself included; it may be joined to itself several times."""
    others = free.index_select(0, S.ccol) & (S.ccol != expand_rows(S.crow, S.ccol.numel()))
    return kept_pointers(S.crow, others).diff() + free


def _strongest(S: Strong, row: Tensor, group: Tensor, free: Tensor) -> Tensor:
    """Let each free row join the aggregate to which it is coupled most strongly, if there is one."""
    entry = free.index_select(0, row).nonzero().squeeze(1)
    row, to = row[entry].long(), group[S.ccol[entry].long()]
    weight = torch.where(to >= 0, S.size[entry], -torch.inf)
    most = weight.new_full((group.numel(),), -torch.inf).scatter_reduce_(0, row, weight, "amax")
    best = torch.where((weight == most[row]) & (weight > 0), to, -1)
    return torch.where(free, -1, group).scatter_reduce_(0, row, best, "amax")
