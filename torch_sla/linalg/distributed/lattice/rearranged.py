"""Moving vectors between the parts of a matrix and boxes of the lattice behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.linalg.distributed.halo import Halo
from torch_sla.linalg.distributed.lattice.boxes import Box, cut
from torch_sla.linalg.distributed.pieces import Directory

if TYPE_CHECKING:
    from torch_sla.linalg.distributed.lattice.boxes import Triple
    from torch_sla.linalg.distributed.lattice.grid import Grid
    from torch_sla.linalg.distributed.layout import Layout

__all__ = ["Rearranged", "nearest_boxes", "numbered"]

_RUN = 1 << 20  # points that are looked at in one go
_Places = slice | Tensor


class Rearranged:
    """Entries of a vector in another order, most of which stay on their process.

    Parameters
    ----------
    halo
        Brings what other parts have.
    n
        Entries here afterwards.
    stays, remains
        Which entries stay, and where.
    into
        Where those that are brought go.
    """

    def __init__(self, halo: Halo, n: int, stays: _Places, remains: _Places, into: _Places) -> None:
        self._halo, self._n = halo, n
        self._stays, self._remains, self._into = stays, remains, into

    @classmethod
    def runs(cls, rows: Layout, boxes: Layout) -> Rearranged:
        """Between layouts of one order: at their ends, processes own different entries."""
        a, b = rows.start, rows.start + rows.n_held
        c, d = boxes.start, boxes.start + boxes.n_held
        first, last = min(max(a, c), d), max(min(b, d), c)
        if last <= first:  # nothing stays
            first = last = d
        places = torch.cat([torch.arange(c, first), torch.arange(last, d)]).to(rows.device)
        part = min(rows.comm.held.start, rows.comm.parts - 1)
        stays = slice(first - a, last - a) if last > first else slice(0, 0)
        halo = Halo(rows, places, torch.full_like(places, part))
        return cls(halo, boxes.n_held, stays, slice(first - c, last - c), places - c)

    @classmethod
    def boxed(cls, rows: Layout, grid: Grid) -> Rearranged:
        """From rows whose names are numbers of points, in any parts, to the boxes of a grid."""
        whole = Box((0, 0, 0), grid.shape)
        names = [box.places(whole, grid.device) for box in grid.own]
        parts = [torch.full_like(t, p) for p, t in zip(rows.comm.held, names, strict=True)]
        none = torch.empty(0, dtype=torch.int64, device=grid.device)
        name, part = torch.cat([none, *names]), torch.cat([none, *parts])
        place = Directory(rows, rows.n).places(name).long()
        own = rows.owner(place) == part
        remains, moved = own.nonzero().squeeze(1), (~own).nonzero().squeeze(1)
        order = (part[moved] * max(rows.n, 1) + place[moved]).argsort()
        into = moved[order]
        halo = Halo(rows, place[into], part[into])
        return cls(halo, len(name), place[remains] - rows.start, remains, into)

    def there(self, x: Tensor) -> Tensor:
        """Return what is here in the new order, of ``[n_held, *]``."""
        finish = self._halo.start(x)
        out = x.new_empty((self._n, *x.shape[1:]))
        out[self._remains] = x[self._stays]
        out[self._into] = finish()
        return out

    def back(self, y: Tensor) -> Tensor:
        """Undo it, which is its adjoint."""
        finish = self._halo.start_back(y[self._into])
        out = y.new_zeros((self._halo.layout.n_held, *y.shape[1:]))
        out[self._stays] = y[self._remains]
        return finish(out)


def numbered(rows: Layout) -> bool:
    """Whether names are the numbers of all rows, each once; all processes ask together."""
    names = rows.names
    inside = not names.numel() or 0 <= int(names.min()) <= int(names.max()) < rows.n
    if not _all(rows, inside):
        return False
    return _all(rows, not Directory(rows, rows.n).faults)


def _all(rows: Layout, here: bool) -> bool:
    wrong = torch.tensor([float(not here)], device=rows.device)
    return float(rows.comm.reduce(wrong, "max")) == 0.0


def nearest_boxes(rows: Layout, shape: Triple) -> list[Box]:
    """Cut a lattice into boxes, one for each part, so that parts keep as many of their points as can be."""
    from scipy.optimize import linear_sum_assignment

    comm, boxes = rows.comm, cut(shape, rows.comm.parts)
    shared = torch.zeros(comm.parts, comm.parts, dtype=torch.int64, device=rows.device)
    for part, here in zip(comm.held, rows.slices, strict=True):
        names = rows.names[here]
        for begin in range(0, len(names), _RUN):
            some, stride, axes = names[begin : begin + _RUN], 1, []
            for n in shape:
                axes.append(torch.div(some, stride, rounding_mode="floor") % n)
                stride *= n
            for q, box in enumerate(boxes):
                inside = torch.ones_like(some, dtype=torch.bool)
                for x, low, high in zip(axes, box.low, box.high, strict=True):
                    inside &= (x >= low) & (x < high)
                shared[part, q] += inside.sum()
    _, chosen = linear_sum_assignment(comm.reduce(shared).cpu().numpy(), maximize=True)
    return [boxes[q] for q in chosen]
