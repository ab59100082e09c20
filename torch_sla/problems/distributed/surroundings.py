"""Getting the cells around those of a process from the processes that have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from torch_sla.linalg.distributed.keepers import matches

if TYPE_CHECKING:
    from torch_sla.linalg.distributed.communicator import Communicator
    from torch_sla.problems.distributed.dealing import Cells, Dealt

__all__ = ["surrounded"]


def surrounded(
    mesh: Dealt,
    layers: int,
    comm: Communicator,
    device: torch.device,
) -> Cells:
    """Return the cells of this process and some layers around them; all processes call it together.

    A process without cells gets those around the first cell.

    Parameters
    ----------
    layers
        How often the cells that touch those which are there are added.
    """
    own, keepers = mesh.cells, mesh.keepers
    width = own.points.shape[1]
    # Which of its cells are at which point, and which processes have any.
    at = own.points.flatten()
    order = at.argsort(stable=True)
    at, cell_at = at[order], order // width
    points = at.unique()
    sender, (told,) = keepers.send(keepers.of(points), points)
    order = told.argsort(stable=True)
    told, holder = told[order], sender[order]
    first = torch.zeros(width, dtype=torch.int64, device=device)
    if len(own.number) and int(own.number[0]) == 0:
        first = own.points[0].to(device)
    first = comm.reduce(first).cpu()
    known, touched = own, points if len(points) else first.unique()
    asked = touched[:0]
    for _ in range(layers):
        fresh = touched[~torch.isin(touched, asked, assume_unique=True)]
        asked = touched
        # Whoever keeps a point passes the question on to those who have cells there.
        asking, (wanted,) = keepers.send(keepers.of(fresh), fresh)
        which, there = matches(wanted, told)
        foreign = holder[there] != asking[which]
        which, there = which[foreign], there[foreign]
        to = keepers.part_of_rank(holder[there])
        _, (point, who) = keepers.send(to, wanted[which], asking[which])
        which, there = matches(point, at)
        pairs = torch.stack([who[which], cell_at[there]], 1)
        pairs = pairs.unique(dim=0) if len(pairs) else pairs
        _, found = keepers.send(keepers.part_of_rank(pairs[:, 0]), *own.at(pairs[:, 1]))
        known = known.joined(type(own)(*found))
        touched = known.points.unique()
    return known
