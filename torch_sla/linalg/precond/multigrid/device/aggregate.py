"""Aggregates found in parallel: roots no two of which are within two steps, and their neighbours.

Roots are a maximal independent set of distance two: a row is one when its priority, a hash of its
number, is the largest within two steps (Luby's algorithm; Bell, Dalton and Olson, SIAM J. Sci.
Comput. 34, 2012). A second set among rows that are left over makes aggregates of those that have
enough free neighbours (Kelley and Rajamanickam, Parallel, portable algorithms for distance-2 maximal
independent set and graph coarsening, IPDPS 2022), and the rest joins the aggregate to which it is
coupled most strongly. Nothing depends on the order of execution.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from torch_sla.linalg.kernels.rows import row_max

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.precond.multigrid.device.strength import Strong

__all__ = ["aggregate"]

_UNDECIDED, _ROOT = 1 << 60, 2 << 60  # above any priority
_PRIORITY = (1 << 60) - 1
_LEAST = 3  # rows of an aggregate of the second kind
_ROUNDS = 3  # of joining, before what is left becomes aggregates of its own


def _priority(n: int, device: torch.device) -> Tensor:
    """Hash each row number, unique by carrying it in the low bits."""
    i = torch.arange(n, device=device)
    h = i * 0x1E3779B97F4A7C15
    h = (h ^ (h >> 31)) * 0x3F58476D1CE4E5B9
    h = (h ^ (h >> 27)) & 0xFFFFFFF
    return (h << 32) | i


def _independent(S: Strong, priority: Tensor, free: Tensor) -> Tensor:
    """Mark a maximal set of free rows no two of which are within two steps."""
    key = torch.where(free, priority | _UNDECIDED, 0)
    while True:
        near = row_max(S.crow, key, S.ccol, 0)
        near = torch.maximum(row_max(S.crow, near, S.ccol, 0), near)
        undecided = (key >= _UNDECIDED) & (key < _ROOT)
        chosen = undecided & (near == key)
        beaten = undecided & (near >= _ROOT)
        key = torch.where(chosen, priority | _ROOT, torch.where(beaten, 0, key))
        if not bool((undecided & ~chosen & ~beaten).any()):
            return key >= _ROOT


def aggregate(S: Strong, size: Tensor) -> tuple[Tensor, int]:
    """Group rows by strong couplings.

    Parameters
    ----------
    S
        The strong part of a matrix.
    size
        ``[nnz]`` size of the coupling of each of its entries, -inf on the diagonal.

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
    present = (S.diagonal >= 0).to(S.crow.dtype)
    coupled = S.crow.diff() > present
    if not n or not bool(coupled.any()):
        return group, 0
    priority = _priority(n, device)
    count = 0
    free = coupled
    for least in (1, _LEAST):
        root = _independent(S, priority, free)
        if least > 1:
            neighbours = _count_free(S, free)
            root &= neighbours >= least
        fresh = torch.where(root, torch.cumsum(root, 0) - 1 + count, -1)
        joined = row_max(S.crow, fresh, S.ccol, -1)
        group = torch.where(free & (joined >= 0), joined, group)
        group = torch.where(root, fresh, group)
        count += int(root.sum())
        free = coupled & (group < 0)
    for _ in range(_ROUNDS):
        if not bool(free.any()):
            break
        group = torch.where(free, _strongest(S, size, group), group)
        free = coupled & (group < 0)
    alone = torch.where(free, torch.cumsum(free, 0) - 1 + count, group)
    return alone, count + int(free.sum())


def _count_free(S: Strong, free: Tensor) -> Tensor:
    """Count the free rows within one step of each row, itself included."""
    inside = torch.zeros(S.ccol.numel() + 1, dtype=torch.int64, device=S.ccol.device)
    torch.cumsum(free[S.ccol.long()], 0, out=inside[1:])
    return inside[S.crow.long()].diff()


def _strongest(S: Strong, size: Tensor, group: Tensor) -> Tensor:
    """Aggregate to which each row is coupled most strongly, -1 where to none."""
    to = group[S.ccol.long()]
    weight = torch.where(to >= 0, size, -torch.inf)
    most = row_max(S.crow, weight, None, -torch.inf)
    best = torch.where((weight == most[S.row.long()]) & (weight > 0), to, -1)
    return row_max(S.crow, best, None, -1)
