"""Finding the lattice behind a matrix in parts, and its stencils."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.linalg.distributed.lattice.boxes import Box, Triple, slabs
from torch_sla.linalg.distributed.lattice.grid import Grid
from torch_sla.linalg.distributed.lattice.rearranged import Rearranged, nearest_boxes, numbered
from torch_sla.linalg.kernels.lattice_detect import candidates
from torch_sla.linalg.kernels.stencils import Lattice, step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch_sla.linalg.distributed.layout import Layout
    from torch_sla.linalg.distributed.sharding import Sharding

__all__ = ["LatticeOfParts", "find_lattice_of_parts"]

_RUN = 1 << 17  # entries that are looked at in one go, at least
_NEIGHBOURS = 27


@dataclass(frozen=True)
class LatticeOfParts:
    """A matrix in parts whose entries join neighbours of a lattice.

    Parameters
    ----------
    lattice
        Points and neighbours of the whole.
    grid
        The box of each part, with nothing around it.
    shift
        Between the rows of the matrix and the boxes, where these are not the same.
    names
        Numbers of all columns of the pattern.
    """

    lattice: Lattice
    grid: Grid
    shift: Rearranged | None
    names: Tensor

    def stencils(
        self, sharding: Sharding, values: Tensor, dtype: torch.dtype, scale: float
    ) -> tuple[Grid, Tensor]:
        """Return the coefficients of a matrix, slot values times `scale`, over boxes with what is around them.

        Returns
        -------
        grid
            Padded.
        planes
            ``[codes, grid.size]``.
        """
        count, n = len(self.lattice.codes), sharding.rows.n_held
        rows = values.new_zeros(n * count, dtype=dtype)
        known = torch.tensor(self.lattice.offsets, device=values.device)
        for entries, row, offset in _entries(sharding, self.names):
            slot = torch.searchsorted(known, offset)
            rows[row * count + slot] = (values[entries] * scale).to(dtype)
        rows = self.enter(rows.view(n, count))
        grid = self.grid.padded
        planes = rows.new_zeros(count, grid.size)
        begin = 0
        for own, there in zip(grid.own, grid.owned(planes), strict=True):
            there.copy_(own.view(rows[begin : begin + own.n].T))
            begin += own.n
        del rows
        grid.around(planes)
        return grid, planes

    def enter(self, x: Tensor) -> Tensor:
        """Bring ``[rows held here, *]`` to the boxes of this process, one after the other."""
        return x if self.shift is None else self.shift.there(x)

    def leave(self, x: Tensor) -> Tensor:
        """Bring it back."""
        return x if self.shift is None else self.shift.back(x)


def find_lattice_of_parts(sharding: Sharding) -> LatticeOfParts | None:
    """Return the lattice whose neighbours the entries join; None where there is no such lattice.

    Boxes are those of the parts, where these own boxes; layers for parts that own runs of points; else boxes near to
    what parts own. All processes call it together and come to the same answer.
    """
    rows, comm = sharding.rows, sharding.rows.comm
    if rows.n < 3 or not sharding.square:
        return None
    names = torch.cat([rows.names, sharding.halo.fetch(rows.names)])
    offsets = _offsets(sharding, names)
    if offsets is None:
        return None
    for lattice in candidates(offsets, rows.n):
        outside = torch.tensor([float(_leaves(lattice, sharding, names))], device=names.device)
        if float(comm.reduce(outside, "max")) > 0:
            continue
        return _cut(sharding.rows, lattice, names)
    return None


def _cut(rows: Layout, lattice: Lattice, names: Tensor) -> LatticeOfParts | None:
    """Give every part a box of a lattice."""
    comm, boxes = rows.comm, _boxes(rows, lattice.shape)
    own, in_order = boxes is not None, boxes is None and _in_order(rows)
    if boxes is None and not in_order and not numbered(rows):
        return None
    if boxes is None:
        offsets = rows.offsets.tolist()
        boxes = slabs(lattice.shape, offsets) if in_order else nearest_boxes(rows, lattice.shape)
    grid = Grid(comm, lattice.shape, boxes, [boxes[p] for p in comm.held], rows.device)
    shift = None
    if not own:
        shift = Rearranged.runs(rows, grid.layout) if in_order else Rearranged.boxed(rows, grid)
    return LatticeOfParts(lattice, grid, shift, names)


def _entries(sharding: Sharding, names: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Yield entries, the row of each ``[m]`` and the difference of its names, some rows at a time."""
    pattern, n = sharding.pattern, sharding.rows.n_held
    run = max(_RUN, pattern.nnz_csr // 256)
    step_ = max(1, run * max(n, 1) // max(pattern.nnz_csr, 1))
    for begin in range(0, n, step_):
        crow = pattern.crow[begin : begin + step_ + 1].long()
        first, last = int(crow[0]), int(crow[-1])
        row = torch.repeat_interleave(
            torch.arange(begin, begin + len(crow) - 1, device=crow.device),
            crow.diff(),
            output_size=last - first,
        )
        col = pattern.ccol[first:last]
        yield slice(first, last), row, names.index_select(0, col) - names.index_select(0, row)


def _offsets(sharding: Sharding, names: Tensor) -> list[int] | None:
    """Differences of names that occur anywhere, ascending; None where there are too many."""
    seen = names.new_empty(0)
    for _, _, offset in _entries(sharding, names):
        seen = torch.unique(torch.cat([seen, torch.unique(offset)]))
        if len(seen) > _NEIGHBOURS:
            break
    found = torch.unique(torch.cat(sharding.rows.comm.gather(seen[: _NEIGHBOURS + 1])))
    out: list[int] = found.tolist()
    return out if len(out) <= _NEIGHBOURS else None


def _leaves(lattice: Lattice, sharding: Sharding, names: Tensor) -> bool:
    """Whether an entry joins points that are no neighbours, though their numbers differ as those of neighbours do."""
    known = torch.tensor(lattice.offsets, device=names.device)
    steps = torch.tensor([step(code) for code in lattice.codes], device=names.device)
    for _, row, offset in _entries(sharding, names):
        moved = steps[torch.searchsorted(known, offset)]
        name = names[row]
        for axis, n in enumerate(lattice.shape):
            if n == 1:
                continue
            x = torch.div(name, lattice.stride(axis), rounding_mode="floor") % n + moved[:, axis]
            if bool(((x < 0) | (x >= n)).any()):
                return True
    return False


def _boxes(rows: Layout, shape: Triple) -> list[Box] | None:
    """Box of every part, where all own boxes, their points ascending."""
    found = []
    for here in rows.slices:
        names = rows.names[here]
        ends = [0, 0, 0, 0, 0, 0]
        exact = True
        if len(names):
            stride = 1
            for axis, n in enumerate(shape):
                x = torch.div(names, stride, rounding_mode="floor") % n
                ends[axis], ends[3 + axis] = int(x.min()), int(x.max()) + 1
                stride *= n
            box = Box((ends[0], ends[1], ends[2]), (ends[3], ends[4], ends[5]))
            exact = box.n == len(names) and bool((names.diff() > 0).all())
        found.append([*ends, int(exact)])
    table = torch.cat(rows.comm.gather(torch.tensor(found, device=rows.device).reshape(-1, 7)))
    if not bool(table[:, 6].all()):
        return None
    return [Box((a, b, c), (d, e, f)) for a, b, c, d, e, f, _ in table.tolist()]


def _in_order(rows: Layout) -> bool:
    """Whether names are places."""
    place = torch.arange(rows.start, rows.start + rows.n_held, device=rows.device)
    differ = torch.tensor([float(not torch.equal(place, rows.names))], device=rows.device)
    return float(rows.comm.reduce(differ, "max")) == 0.0
