"""Boxes of points of a lattice, and cutting a lattice into them.

The numbering is that of `torch_sla.linalg.kernels.stencils.Lattice`: axis 0 is the fastest.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import prod

import torch
from torch import Tensor

from torch_sla.linalg.kernels.stencils import step

__all__ = ["Box", "Triple", "box_ids", "cut", "neighbours", "slabs"]

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Box:
    """Points ``low <= x < high`` along each axis; empty where an axis has none.

    Examples
    --------
    >>> box = Box((2, 0, 0), (5, 1, 1))
    >>> box.n, box.padded((9, 1, 1)), box.halved((0,))
    (3, Box(low=(0, 0, 0), high=(7, 1, 1)), Box(low=(1, 0, 0), high=(3, 1, 1)))
    """

    low: Triple
    high: Triple

    @property
    def shape(self) -> Triple:
        """Points along each axis."""
        a, b, c = (max(h - l, 0) for l, h in zip(self.low, self.high, strict=True))
        return a, b, c

    @property
    def n(self) -> int:
        """Points."""
        return prod(self.shape)

    def grown(self, whole: Triple) -> Box:
        """Return the box with the points around it, inside the lattice."""
        return _boxed([(max(l - 1, 0), min(h + 1, n)) for l, h, n in self._axes(whole)])

    def padded(self, whole: Triple) -> Box:
        """Return the box with one or two layers around it.

        It begins and ends with a point of even number, so that halving it keeps what halving the whole keeps, and has
        three points along every axis that does, so that it has the neighbours of the whole. An empty box stays.
        """
        return _boxed([_padded(*axis) for axis in self._axes(whole)]) if self.n else self

    def halved(self, axes: tuple[int, ...]) -> Box:
        """Return the even points along some axes, by their new numbers."""
        return _boxed(
            [
                ((l + 1) // 2, (h + 1) // 2) if axis in axes else (l, h)
                for axis, (l, h) in enumerate(zip(self.low, self.high, strict=True))
            ]
        )

    def within(self, other: Box) -> Box:
        """Return the points that are in both."""
        return _boxed(
            [
                (max(a, c), min(b, d))
                for a, b, c, d in zip(self.low, self.high, other.low, other.high, strict=True)
            ]
        )

    def slices(self, outer: Box) -> tuple[slice, slice, slice]:
        """Where it lies in an array ``[axis 2, axis 1, axis 0]`` over a box that contains it."""
        c, b, a = (
            slice(l - o, h - o)
            for l, h, o in zip(self.low[::-1], self.high[::-1], outer.low[::-1], strict=True)
        )
        return c, b, a

    def places(self, outer: Box, device: torch.device) -> Tensor:
        """Numbers of its points in a box that contains it ``[n]``, int64, ascending."""
        n0, n1, _ = outer.shape
        x, y, z = (
            torch.arange(l - o, h - o, device=device)
            for l, h, o in zip(self.low, self.high, outer.low, strict=True)
        )
        return (x + n0 * (y.unsqueeze(1) + n1 * z[:, None, None])).reshape(-1)

    def view(self, x: Tensor) -> Tensor:
        """View ``[*, n]`` as ``[*, axis 2, axis 1, axis 0]``."""
        return x.unflatten(-1, self.shape[::-1])

    def _axes(self, whole: Triple) -> list[Triple]:
        return list(zip(self.low, self.high, whole, strict=True))


def _boxed(axes: list[tuple[int, int]]) -> Box:
    (a, b), (c, d), (e, f) = axes
    return Box((a, c, e), (b, d, f))


def _padded(low: int, high: int, n: int) -> tuple[int, int]:
    first = max((low - 1) // 2 * 2, 0)
    last = min((high + 1) // 2 * 2, n - 1)
    while last - first < 2 and first > 0:
        first -= 2
    return first, last + 1


def cut(shape: Triple, parts: int) -> list[Box]:
    """Cut a lattice into as many boxes as there are parts, with the least surface between them.

    Parameters
    ----------
    shape
        Points along each axis.
    parts
        Number of boxes; some are empty where a lattice has too few lines.

    Examples
    --------
    >>> [box.shape for box in cut((9, 4, 1), 2)]
    [(4, 4, 1), (5, 4, 1)]
    """
    best: tuple[float, Triple] | None = None
    for a in _divisors(parts):
        for b in _divisors(parts // a):
            counts = (a, b, parts // a // b)
            if any(c > max(n, 1) for c, n in zip(counts, shape, strict=True)):
                continue
            surface = sum(
                (c - 1) * prod(shape) / n for c, n in zip(counts, shape, strict=True) if n
            )
            if best is None or surface < best[0]:
                best = surface, counts
    if best is None:  # too many parts for this lattice
        return slabs(shape, [round(prod(shape) * p / parts) for p in range(parts + 1)])
    edges = [[n * p // c for p in range(c + 1)] for n, c in zip(shape, best[1], strict=True)]
    return [
        _boxed([(x[0], x[1]), (y[0], y[1]), (z[0], z[1])])
        for z in pairwise(edges[2])
        for y in pairwise(edges[1])
        for x in pairwise(edges[0])
    ]


def slabs(shape: Triple, offsets: list[int]) -> list[Box]:
    """Return layers across the slowest axis, each nearest to a run of points ``offsets[p] .. offsets[p + 1]``.

    Examples
    --------
    >>> [box.high[1] for box in slabs((10, 9, 1), [0, 31, 62, 90])]
    [3, 6, 9]
    """
    axis = max((a for a in range(3) if shape[a] > 1), default=0)
    layer = max(prod(shape[:axis]), 1)
    ends = [min((o + layer // 2) // layer, shape[axis]) for o in offsets]
    ends[0], ends[-1] = 0, shape[axis]
    out = []
    for first, last in pairwise(ends):
        axes = [(0, n) for n in shape]
        axes[axis] = (first, max(first, last))
        out.append(_boxed(axes))
    return out


def box_ids(shape: Triple, boxes: list[Box], device: torch.device) -> Tensor:
    """Return which box each point is in ``[n]``, int64."""
    out = torch.empty(prod(shape), dtype=torch.int64, device=device)
    whole = Box((0, 0, 0), shape)
    for p, box in enumerate(boxes):
        whole.view(out)[box.slices(whole)] = p
    return out


def neighbours(
    own: Box, whole: Triple, kept: Box, code: int
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where the points of a box that have a neighbour are in an array over `kept`, and where the neighbours are."""
    d = step(code)
    low = tuple(max(l, -s) for l, s in zip(own.low, d, strict=True))
    high = tuple(min(h, n - s) for h, n, s in zip(own.high, whole, d, strict=True))
    here = Box((low[0], low[1], low[2]), (high[0], high[1], high[2]))
    low, high = (tuple(a + s for a, s in zip(ends, d, strict=True)) for ends in (low, high))
    there = Box((low[0], low[1], low[2]), (high[0], high[1], high[2]))
    return here.slices(kept), there.slices(kept)


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]
