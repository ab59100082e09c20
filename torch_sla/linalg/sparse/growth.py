"""How fast neighbourhoods of a graph grow: the dimension that fill-in and iteration counts depend on."""

from __future__ import annotations

from math import comb, log
from typing import TYPE_CHECKING

import numpy as np
import torch

from torch_sla.linalg.kernels.rows import row_max
from torch_sla.linalg.kernels.structure import breadth_first

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.sparse.pattern import Pattern

__all__ = ["growth_dimension", "mean_spread"]

# Entries that are looked at.
_SAMPLE = 4096
# Steps to the rim of a small neighbourhood.
_NEAR = 8
# Entries up to which the indices of a device are brought to the host, and places that are looked at where they stay.
_BROUGHT, _PLACES = 1 << 18, 7


def growth_dimension(pattern: Pattern) -> float:
    """Estimate the dimension d of the graph: 1 for a chain, 2 for a surface, 3 for a solid.

    Two breadth-first sweeps give the number of levels L between far ends; a d-dimensional lattice
    of n nodes has about ``n^(1/d)`` levels up to a factor that depends on the stencil. Where few
    levels may come from a few long edges, as those along the rim of scattered points or between nodes
    at random, what counts is how neighbourhoods grow when their radius doubles: a large one of a far
    end, and small ones at three places, most of which such edges do not reach. The estimate
    is rounded to 2 or 3 where it is near enough, so that equal graphs of other sizes give equal
    plans. Of a large graph on a device, where it stays, only small neighbourhoods of a few places count: a plate or
    a bar of more than two nodes across tends to a solid there.

    Examples
    --------
    >>> import torch
    >>> from torch_sla.linalg.sparse.pattern import Pattern
    >>> i = torch.arange(5000)
    >>> chain = Pattern.from_coo(
    ...     torch.cat([i[1:], i[:-1]]), torch.cat([i[:-1], i[1:]]), (5000, 5000)
    ... )
    >>> growth_dimension(chain)
    1.0
    """
    n = pattern.shape[0]
    if pattern.shape[0] != pattern.shape[1] or n < 1000:
        return 2.0
    if pattern.device.type != "cpu" and pattern.lattice is not None:
        return float(pattern.lattice.dimension)  # without bringing the indices to the host
    if pattern.device.type != "cpu" and pattern.nnz_csr > _BROUGHT:
        return _by_places(pattern.crow, pattern.ccol)
    limit = int(8 * n**0.5)
    crow, ccol = pattern.crow.cpu(), pattern.ccol.cpu()
    _, _, last = _search(crow, ccol, 0, limit)
    levels, reached, other = _search(crow, ccol, last, limit)
    if levels <= 2:
        return 3.0
    raw = log(max(reached, 2)) / log(levels)
    if raw < 1.4:
        return 1.0
    # 5-point grids come out near 1.8, triangulations near 1.9, 7-point grids between 2.2 and 2.4.
    by_levels = min(3.0, max(2.0, 2.0 + (raw - 2.05) / 0.15))
    radius = max(2, levels // 6)
    if by_levels == 2.0 or 2 * radius > levels:
        return by_levels
    small = sorted(
        _by_doubling(crow, ccol, start, min(radius, _NEAR)) for start in (last, other, n // 2)
    )
    return min(by_levels, max(2.0, min(_by_doubling(crow, ccol, last, radius), small[1])))


def _by_doubling(crow: Tensor, ccol: Tensor, start: int, radius: int) -> float:
    """Estimate the dimension from how the neighbourhood of a node grows when its radius doubles.

    In the corner of a lattice of d dimensions ``C(r + d, d)`` nodes lie within r steps. Within surfaces neighbourhoods
    grow by up to a fifth more than in their corners.
    """
    near, far = (_search(crow, ccol, start, r - 1)[1] for r in (radius, 2 * radius))
    surface, solid = (comb(2 * radius - 1 + d, d) / comb(radius - 1 + d, d) for d in (2, 3))
    surface *= 1.2
    return 2.0 + log(far / near / surface) / log(solid / surface)


def _by_places(crow: Tensor, ccol: Tensor) -> float:
    """Estimate from small neighbourhoods of a few places, in passes over all rows without waiting in between.

    Of a node that is reached, the mark tells from which place and after how many steps.
    """
    n = crow.numel() - 1
    place = torch.arange(_PLACES, device=crow.device)
    mark = torch.zeros(n, dtype=torch.int32, device=crow.device)
    mark[(2 * place + 1) * n // (2 * _PLACES)] = (_NEAR * (place + 1)).to(torch.int32)
    for _ in range(_NEAR - 1):
        mark = torch.where(mark > 0, mark, row_max(crow, mark, ccol, 1) - 1)
    last = _NEAR * _PLACES
    reached = torch.bincount(last - mark[mark > 0], minlength=last).cpu()
    sizes = reached.view(_PLACES, _NEAR).cumsum(1)
    sizes = sizes[sizes[:, 1] > 1]  # rows by themselves tell nothing
    # Where a few steps reach much of the graph, neighbourhoods are in each other's way.
    far = int((8 * sizes.sum(0) <= n).sum()) - 1
    if far < 3:
        return 3.0
    if not len(sizes):
        return 1.0
    near = (far - 1) // 2
    # Of a lattice about ``(r + 1/2)^d`` nodes lie within r steps, fewer near its rim.
    grown = (sizes[:, far] / sizes[:, near]).log() / log((far + 0.5) / (near + 0.5))
    raw = float(grown.quantile(0.7))
    if raw < 1.4:
        return 1.0
    return min(3.0, max(2.0, 2.0 + (raw - 2.15) / 0.4))


def mean_spread(pattern: Pattern) -> float:
    """Estimate the mean distance ``|i - j|`` of the entries of a square pattern, to two digits.

    Examples
    --------
    >>> import torch
    >>> from torch_sla.linalg.sparse.pattern import Pattern
    >>> i = torch.arange(10)
    >>> mean_spread(Pattern.from_coo(i, i.flip(0), (10, 10)))
    5.0
    """
    if pattern.shape[0] != pattern.shape[1] or not pattern.nnz_csr:
        return 0.0
    if pattern.device.type != "cpu":
        return 0.0  # nothing on a device asks for it
    at = torch.arange(0, pattern.nnz_csr, -(-pattern.nnz_csr // _SAMPLE))
    row = torch.searchsorted(pattern.crow, at.to(pattern.crow.dtype), right=True) - 1
    found = float((pattern.ccol[at].long() - row).abs().double().mean())
    return float(f"{found:.2g}")


def _search(crow: Tensor, ccol: Tensor, start: int, limit: int) -> tuple[int, int, int]:
    found = breadth_first(crow, ccol, start, limit)
    if found is not None:
        return found
    return _levels(crow.numpy(), ccol.numpy(), start, limit)


def _levels(
    crow: np.ndarray[tuple[int], np.dtype[np.integer]],
    ccol: np.ndarray[tuple[int], np.dtype[np.integer]],
    start: int,
    limit: int,
) -> tuple[int, int, int]:
    """Levels, nodes reached and a node of the last level of a breadth-first search from `start`."""
    seen = np.zeros(len(crow) - 1, dtype=bool)
    seen[start] = True
    writer = np.empty(len(seen), dtype=np.int64)
    front = np.array([start])
    levels, reached = 0, 1
    while levels < limit:
        counts = crow[front + 1] - crow[front]
        ends = counts.cumsum()
        offsets = np.arange(ends[-1]) - np.repeat(ends - counts, counts)
        near = ccol[np.repeat(crow[front], counts) + offsets]
        near = near[~seen[near]]
        if not len(near):
            break
        # Of equal nodes, the one that wrote last stays.
        place = np.arange(len(near))
        writer[near] = place
        near = near[writer[near] == place]
        seen[near] = True
        front, levels, reached = near, levels + 1, reached + len(near)
    return levels, reached, int(front[0])
