"""A lattice in parts: a box each, kept with the points around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.lazy import cached_property
from torch_sla.linalg.distributed.halo import Halo
from torch_sla.linalg.distributed.layout import Layout

if TYPE_CHECKING:
    from torch_sla.linalg.distributed.communicator import Communicator
    from torch_sla.linalg.distributed.lattice.boxes import Box, Triple

__all__ = ["Exchange", "Grid", "move"]


class Grid:
    """Points of a lattice, which part owns which, and what this process keeps of them.

    What is kept of each part is an array over a box that contains its own; arrays of several parts follow each other.

    Parameters
    ----------
    comm
        The processes.
    shape
        Points of the whole along each axis, fastest first.
    boxes
        What each part owns, of all parts.
    kept
        Box of the array of each part of this process.
    device
        Where arrays are.
    """

    def __init__(
        self,
        comm: Communicator,
        shape: Triple,
        boxes: list[Box],
        kept: list[Box],
        device: torch.device,
    ) -> None:
        self.comm, self.shape, self.boxes, self.kept = comm, shape, boxes, kept
        self.device = device
        self.layout = Layout(comm, torch.tensor([box.n for box in boxes]), device=device)
        self.own = [boxes[p] for p in comm.held]
        self.starts = [0]
        for box in kept:
            self.starts.append(self.starts[-1] + box.n)
        self._halved: dict[int, Grid] = {}

    @property
    def n(self) -> int:
        """Points of the whole."""
        return self.layout.n

    @property
    def size(self) -> int:
        """Length of the arrays of this process."""
        return self.starts[-1]

    @cached_property
    def padded(self) -> Grid:
        """The same parts, kept with one or two layers around them; see `Box.padded`."""
        kept = [box.padded(self.shape) for box in self.own]
        return Grid(self.comm, self.shape, self.boxes, kept, self.device)

    @cached_property
    def bare(self) -> Grid:
        """The same parts, with nothing around them."""
        return Grid(self.comm, self.shape, self.boxes, self.own, self.device)

    def halved(self, axis: int) -> Grid:
        """Even points of an axis: of the whole, of every part, of what is kept."""
        if axis not in self._halved:
            n = list(self.shape)
            n[axis] = (n[axis] + 1) // 2
            boxes, kept = ([b.halved((axis,)) for b in some] for some in (self.boxes, self.kept))
            shape = (n[0], n[1], n[2])
            self._halved[axis] = Grid(self.comm, shape, boxes, kept, self.device)
        return self._halved[axis]

    @cached_property
    def around(self) -> Exchange:
        """Brings everything that is kept and owned elsewhere."""
        return Exchange(self, self.kept)

    @cached_property
    def near(self) -> Exchange:
        """Brings the points next to the own ones."""
        grown = (box.grown(self.shape) for box in self.own)
        return Exchange(self, [g.within(kept) for g, kept in zip(grown, self.kept, strict=True)])

    def pieces(self, x: Tensor) -> list[Tensor]:
        """Arrays of the parts held here, of ``[*, size]``."""
        return [x[..., a:b] for a, b in zip(self.starts, self.starts[1:], strict=False)]

    def owned(self, x: Tensor) -> list[Tensor]:
        """Return views ``[*, axis 2, axis 1, axis 0]`` of what each part owns, of arrays ``[*, size]``."""
        return [
            kept.view(piece)[(..., *own.slices(kept))]
            for own, kept, piece in zip(self.own, self.kept, self.pieces(x), strict=True)
        ]

    @cached_property
    def rims(self) -> list[Tensor]:
        """Numbers, in the array of each part, of the points that it does not own."""
        out = []
        for own, kept in zip(self.own, self.kept, strict=True):
            outside = torch.ones(kept.n, dtype=torch.bool, device=self.device)
            kept.view(outside)[own.slices(kept)] = False
            out.append(outside.nonzero().squeeze(1))
        return out

    def positions(self, numbers: Tensor) -> Tensor:
        """Where owned points are in the arrays, given by their number among all that are held here."""
        out = torch.empty_like(numbers)
        begin = 0
        for own, kept, start in zip(self.own, self.kept, self.starts, strict=False):
            here = (numbers >= begin) & (numbers < begin + own.n)
            local = numbers[here] - begin
            n0, n1 = max(own.shape[0], 1), max(own.shape[1], 1)
            row = torch.div(local, n0, rounding_mode="floor")
            z = torch.div(row, n1, rounding_mode="floor")
            x, y = local - row * n0, row - z * n1
            dx, dy, dz = (o - k for o, k in zip(own.low, kept.low, strict=True))
            m0, m1, _ = kept.shape
            out[here] = start + (x + dx) + m0 * ((y + dy) + m1 * (z + dz))
            begin += own.n
        return out


def move(source: Grid, x: Tensor, target: Grid, y: Tensor) -> None:
    """Copy what is owned from arrays ``[*, size]`` over one grid to those over another of the same parts."""
    for there, here in zip(target.owned(y), source.owned(x), strict=True):
        there.copy_(here)


class Exchange:
    """Copies points that other parts own into the arrays of a grid.

    Parameters
    ----------
    grid
        Whose arrays.
    wanted
        For each part of this process, a box inside what it keeps.
    """

    def __init__(self, grid: Grid, wanted: list[Box]) -> None:
        comm = grid.comm
        places, parts, into = [], [], []
        empty = torch.empty(0, dtype=torch.int64, device=grid.device)
        for part, box, kept, start in zip(comm.held, wanted, grid.kept, grid.starts, strict=False):
            for owner, other in enumerate(grid.boxes):
                shared = box.within(other)
                if owner == part or not shared.n:
                    continue
                places.append(int(grid.layout.offsets[owner]) + shared.places(other, grid.device))
                into.append(start + shared.places(kept, grid.device))
                parts.append(torch.full_like(places[-1], part))
        halo = Halo(grid.layout, *(torch.cat([empty, *some]) for some in (places, parts)))
        self.halo = halo.reading(grid.positions)
        self._into = torch.cat([empty, *into])

    def __call__(self, x: Tensor) -> None:
        """Bring arrays ``[size]`` or ``[k, size]`` up to date, in place."""
        new = self.halo.fetch(x if x.ndim == 1 else x.T)
        if self.halo.size:
            x.index_copy_(-1, self._into, new if x.ndim == 1 else new.T)
