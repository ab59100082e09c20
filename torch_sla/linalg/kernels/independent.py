"""Maximal sets of rows that are far from each other: the roots of aggregates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from torch_sla.linalg.kernels import triton as device
from torch_sla.linalg.kernels.rows import row_max

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ROOT", "UNDECIDED", "independent_rows"]

UNDECIDED, ROOT = 1 << 60, 2 << 60  # added to a priority, which is below both


def independent_rows(crow: Tensor, ccol: Tensor, free: Tensor) -> Tensor:
    """Mark a maximal set of free rows no two of which are within two steps in a graph.

    A row is marked when its priority, a hash of its number, is the largest within two steps of it
    (Luby's algorithm; Bell, Dalton and Olson, SIAM J. Sci. Comput. 34, 2012). Nothing depends on the
    order of execution.

    Parameters
    ----------
    crow, ccol
        A symmetric graph, each row joined to itself.
    free
        bool ``[n]``.

    Returns
    -------
    Tensor
        bool ``[n]``.

    Examples
    --------
    >>> import torch
    >>> crow, ccol = torch.tensor([0, 2, 5, 7]), torch.tensor([0, 1, 0, 1, 2, 1, 2])
    >>> int(independent_rows(crow, ccol, torch.ones(3, dtype=torch.bool)).sum())
    1
    """
    key = torch.where(free, _priority(free.numel(), free.device) | UNDECIDED, 0)
    if device.runs(crow, key):
        from torch_sla.linalg.kernels.triton.rows import decide

        decide(crow, ccol, key)
    else:
        while _decide(crow, ccol, row_max(crow, key, ccol, 0), key):
            pass
    return key >= ROOT


def _priority(n: int, where: torch.device) -> Tensor:
    """Hash each row number, unique by carrying it in the low bits."""
    i = torch.arange(n, device=where)
    h = i * 0x1E3779B97F4A7C15
    h = (h ^ (h >> 31)) * 0x3F58476D1CE4E5B9
    h = (h ^ (h >> 27)) & 0xFFFFFFF
    return (h << 32) | i


def _decide(crow: Tensor, ccol: Tensor, near: Tensor, key: Tensor) -> bool:
    """Mark rows that are largest, drop those near a marked one, in place; whether some are left.

    `near` are the largest keys within one step.
    """
    largest = row_max(crow, near, ccol, 0)
    undecided = (key >= UNDECIDED) & (key < ROOT)
    chosen = undecided & (largest == key)
    beaten = undecided & (largest >= ROOT)
    key.copy_(torch.where(chosen, key + UNDECIDED, torch.where(beaten, 0, key)))
    return bool((undecided & ~chosen & ~beaten).any())
