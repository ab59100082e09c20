"""Checks of where points and facets lie, of a mesh that no process has: each looks at a slab of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.assembly.mesh.checks import check_duplicates
from torch_sla.assembly.mesh.hanging import refuse_hanging
from torch_sla.linalg.distributed.bisection import bisected
from torch_sla.linalg.distributed.everywhere import agreed

if TYPE_CHECKING:
    from torch_sla.linalg.distributed.communicator import Communicator
    from torch_sla.linalg.distributed.keepers import Keepers

__all__ = ["refuse_duplicates", "refuse_hanging_nodes"]

_NEAR = 1e-9
"""Beyond what anything is wide, relative to the mesh: what is looked for is nearer."""


class _Slabs:
    """The mesh cut across its longest extent, one slab for each part, with about as many points in each.

    Parameters
    ----------
    x
        Points of this process ``[m, dim]``, by which the slabs are chosen.
    """

    def __init__(self, x: Tensor, comm: Communicator, device: torch.device) -> None:
        low = x.new_full((1, 2 * x.shape[1]), -torch.inf)
        ends = torch.cat([low, torch.cat([x, -x], 1)]).amax(0)
        high, least = comm.reduce(ends.to(device), "max").cpu().split(x.shape[1])
        self._along = int((high + least).argmax())
        self.size = float((high + least).amax())
        value = x[:, self._along]
        slab = bisected(comm, value[:, None], comm.parts, device)
        ends = x.new_full((2, comm.parts), -torch.inf)
        ends[0].scatter_reduce_(0, slab, value, "amax")
        ends[1].scatter_reduce_(0, slab, -value, "amax")
        upper, lower = comm.reduce(ends.to(device), "max").cpu()
        pad = _NEAR * self.size
        # Slabs without points are nowhere.
        self._upper, self._lower = upper.cummax(0).values + pad, -lower - pad
        self._lower = self._lower.flip(0).cummin(0).values.flip(0)

    def across(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return which things ``[m]``, given from where to where they are, lie in which slabs ``[k]``."""
        first = torch.searchsorted(self._upper, low[:, self._along].contiguous())
        last = torch.searchsorted(self._lower, high[:, self._along].contiguous(), right=True)
        count = (last - first).clamp(min=0)
        which = torch.repeat_interleave(torch.arange(len(low)), count)
        start = count.cumsum(0) - count
        return which, torch.arange(len(which)) - start[which] + first[which]


def refuse_duplicates(
    keepers: Keepers, x: Tensor, comm: Communicator, device: torch.device
) -> None:
    """Refuse two points at one place, as `check_duplicates` does; all processes call it together.

    Parameters
    ----------
    keepers, x
        Of the points, and coordinates of those that this process keeps ``[kept, dim]``.
    """
    slabs = _Slabs(x, comm, device)
    which, slab = slabs.across(x, x)
    number = torch.arange(keepers.begin, keepers.end)
    _, (numbers, points) = keepers.send(slab, number[which], x[which])
    order = numbers.argsort()
    numbers, points = _different(numbers[order], points[order])
    agreed(comm, device, lambda: check_duplicates(points.numpy(), slabs.size, numbers.numpy()))


def refuse_hanging_nodes(
    keepers: Keepers,
    facets: Tensor,
    x: Tensor,
    cells: Tensor,
    comm: Communicator,
    device: torch.device,
) -> None:
    """Refuse a node that hangs on a facet of another cell, as `check_hanging` does; all processes call it together.

    Parameters
    ----------
    keepers
        Of the points.
    facets, x, cells
        Boundary facets of the cells of this process: their corners ``[m, k]`` and the cell of each, by number in the
        whole, and coordinates of the corners ``[m, k, dim]``.
    """
    slabs = _Slabs(x.flatten(0, 1), comm, device)
    which, slab = slabs.across(x.amin(1), x.amax(1))
    _, (rows, points, owner) = keepers.send(slab, facets[which], x[which], cells[which])
    # A process may hold several slabs.
    _, at = torch.cat([rows, owner[:, None]], 1).unique(dim=0, return_inverse=True)
    kept = torch.zeros_like(owner[: int(at.max()) + 1 if len(at) else 0])
    kept[at] = torch.arange(len(at))
    rows, points, owner = rows[kept], points[kept], owner[kept]
    numbers, local = rows.unique(return_inverse=True)
    place = points.new_zeros(len(numbers), points.shape[2])
    place[local.flatten()] = points.flatten(0, 1)
    if not len(numbers):
        agreed(comm, device, lambda: None)
        return
    seen = (place.numpy(), local.numpy(), owner.numpy(), numbers.numpy())
    agreed(comm, device, lambda: refuse_hanging(*seen))


def _different(numbers: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Take each point once, where they are ascending."""
    fresh = torch.ones_like(numbers, dtype=torch.bool)
    fresh[1:] = numbers[1:] != numbers[:-1]
    return numbers[fresh], points[fresh]
