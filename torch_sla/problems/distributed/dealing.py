"""Reading a mesh by shares and dealing its cells out; no process has more than its parts and a share of the file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from torch_sla.assembly.mesh.checks import Called, check_corners, check_points, oriented
from torch_sla.assembly.mesh.files import check_flat
from torch_sla.assembly.mesh.mesh import CELL_TYPES
from torch_sla.assembly.mesh.share import check_places, merged
from torch_sla.assembly.reference.cell import reference_cell
from torch_sla.linalg.distributed.bisection import bisected
from torch_sla.linalg.distributed.everywhere import agreed
from torch_sla.linalg.distributed.keepers import Keepers

if TYPE_CHECKING:
    from pathlib import Path

    from torch_sla.assembly.mesh.share import MeshIndex, MeshShare
    from torch_sla.linalg.distributed.communicator import Communicator

__all__ = ["Cells", "Dealt", "deal"]


class Cells(NamedTuple):
    """Some cells, ascending.

    Parameters
    ----------
    number
        Of each in the whole ``[m]``.
    points
        Numbers of its points in the whole ``[m, k]``.
    part
        Part it belongs to ``[m]``.
    groups
        Groups it is in, as bits ``[m, bytes]``.
    """

    number: Tensor
    points: Tensor
    part: Tensor
    groups: Tensor

    def at(self, index: Tensor) -> Cells:
        """Return some of the cells."""
        return Cells(*(column[index] for column in self))

    def joined(self, *others: Cells) -> Cells:
        """Return these and others, each once."""
        every = Cells(*map(torch.cat, zip(self, *others, strict=True)))
        every = every.at(every.number.argsort(stable=True))
        fresh = torch.ones_like(every.number, dtype=torch.bool)
        fresh[1:] = every.number[1:] != every.number[:-1]
        return every.at(fresh)


@dataclass(frozen=True, eq=False)
class Dealt:
    """A mesh in parts.

    Parameters
    ----------
    cells
        Those of the parts of this process.
    n_cells
        How many there are in all.
    keepers, x
        Of the points; and coordinates ``[kept, dim]`` of those that this process keeps.
    facets, facet_groups
        Corners ``[m, kf]`` of facets in groups whose lowest corner this process keeps; and their groups.
    """

    cells: Cells
    n_cells: int
    keepers: Keepers
    x: Tensor
    facets: Tensor
    facet_groups: Tensor


def deal(
    path: Path, index: MeshIndex, comm: Communicator, device: torch.device, scale: float = 1.0
) -> Dealt:
    """Read a share of a mesh, and get the cells of the parts held here; all processes call it together.

    Points and cells have the numbers that `read_mesh` gives them. Cells are cut by recursive bisection of their
    centres, where coordinates are those in the file times `scale`.

    Raises
    ------
    MeshError, ArgumentError
        On every process, if the file is damaged or the mesh unsound.
    """
    held = comm.held

    share = agreed(comm, device, lambda: index.read(held.start, held.stop, comm.parts))
    share = replace(share, points=share.points * scale)
    listed = Keepers(comm, index.n_points, device)
    if share.names is not None:
        share = _by_place(share, torch.from_numpy(share.names), listed, comm, device)
    before, _ = listed.before(len(share.cells))

    def check() -> None:
        check_places(share, index.n_points, before)
        check_corners(share.cells, before)

    agreed(comm, device, check)
    cells, facets = torch.from_numpy(share.cells), torch.from_numpy(share.facets)
    keepers, x, number = _used(path, index, share, listed, comm, device)
    if number is not None:  # some points are none
        cells, facets = (
            listed.fetch(rows.flatten(), number)[0].reshape(rows.shape) for rows in (cells, facets)
        )
        # Nor are facets of construction lines that bound no cell.
        present = (facets >= 0).all(1)
        facets, share = (
            facets[present],
            replace(share, facet_groups=share.facet_groups[present.numpy()]),
        )
    number, cells, groups, n_cells = _different(cells, torch.from_numpy(share.cell_groups), keepers)
    facets, facet_groups = _sent(facets, torch.from_numpy(share.facet_groups), keepers)
    mine, local = cells.unique(return_inverse=True)
    (at,) = keepers.fetch(mine, x)

    def turned() -> Tensor:
        called = Called(number.numpy(), mine.numpy())
        right = (
            oriented(at.numpy(), local.numpy(), index.cell, called=called)
            if len(local)
            else local.numpy()
        )
        return torch.from_numpy(right)

    local = agreed(comm, device, turned)
    corners = reference_cell(CELL_TYPES[index.cell][0]).n_vertices
    centres = at[local[:, :corners]].mean(1)
    part = bisected(comm, centres, min(comm.parts, n_cells), device)
    sent = Cells(number, mine[local], part, groups)
    _, arrived = keepers.send(part, *sent)
    own = Cells(*arrived)
    return Dealt(own.at(own.number.argsort()), n_cells, keepers, x, facets, facet_groups)


def _by_place(
    share: MeshShare, names: Tensor, listed: Keepers, comm: Communicator, device: torch.device
) -> MeshShare:
    """Call points by their places in the file; -1 where a name is of none."""
    most = torch.tensor([int(names.max()) if len(names) else 0], device=device)
    phone = Keepers(comm, int(comm.reduce(most, "max")) + 1, device)
    places = torch.arange(listed.begin, listed.end)
    book = phone.tell(names, torch.full((phone.end - phone.begin,), -1), places)
    found = []
    for rows in (share.cells, share.facets):
        asked = torch.from_numpy(rows)
        known = (asked >= 0) & (asked < phone.n)
        place = torch.full(rows.shape, -1)
        place[known] = phone.fetch(asked[known], book)[0]
        found.append(place.numpy())
    return replace(share, names=None, cells=found[0], facets=found[1])


def _used(
    path: Path,
    index: MeshIndex,
    share: MeshShare,
    listed: Keepers,
    comm: Communicator,
    device: torch.device,
) -> tuple[Keepers, Tensor, Tensor | None]:
    """Give the points that cells use numbers, and drop coordinates beyond the dimension of the cells.

    Returns
    -------
    keepers, x
        Of the points that are used.
    number
        Of those listed that this process keeps, -1 where no cell uses them; None where all are used.
    """
    mine = torch.from_numpy(share.cells).unique()
    used = listed.tell(mine, torch.zeros(len(share.points), dtype=torch.bool), mine >= 0)
    x = torch.from_numpy(share.points)
    low = x.new_full((1, 2 * x.shape[1]), -torch.inf)
    ends = torch.cat([low, torch.cat([x[used], -x[used]], 1)]).amax(0)
    spread = sum(comm.reduce(ends.to(device), "max").cpu().split(x.shape[1]))
    dim = reference_cell(CELL_TYPES[index.cell][0]).dim
    before, n = listed.before(int(used.sum()))
    number = torch.where(used, used.cumsum(0) - 1 + before, -1)

    def check() -> None:
        check_points(x[used].numpy(), before)
        check_flat(path, spread.numpy(), dim)

    agreed(comm, device, check)
    x = x[:, :dim].contiguous()
    if n == index.n_points:
        return listed, x, None
    keepers = Keepers(comm, n, device)
    room = x.new_zeros(keepers.end - keepers.begin, dim)
    return keepers, keepers.tell(number[used], room, x[used]), number


def _different(
    cells: Tensor, groups: Tensor, keepers: Keepers
) -> tuple[Tensor, Tensor, Tensor, int]:
    """Take cells that are listed more than once out but for the first, which is in the groups of all.

    Returns
    -------
    number, cells, groups, count
        Of the cells of this process that stay, and how many do in all.
    """
    before, total = keepers.before(len(cells))
    place = torch.arange(len(cells)) + before
    rows = cells.sort(1).values
    sender, (rows, where, bits) = keepers.send(keepers.of(rows[:, 0]), rows, place, groups)
    kept, every = _merged(rows, bits)
    _, fewer = keepers.before(len(kept))
    if fewer == total:
        return place, cells, groups, total
    _, (stays, union) = keepers.send(keepers.part_of_rank(sender[kept]), where[kept], every)
    order = stays.argsort()
    at = stays[order] - before
    first, _ = keepers.before(len(at))
    return torch.arange(len(at)) + first, cells[at], union[order], fewer


def _sent(facets: Tensor, groups: Tensor, keepers: Keepers) -> tuple[Tensor, Tensor]:
    """Send facets to the keepers of their lowest corners, each once."""
    _, (rows, bits) = keepers.send(keepers.of(facets.sort(1).values[:, 0]), facets, groups)
    kept, every = _merged(rows, bits)
    return rows[kept], every


def _merged(rows: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
    """Do what `merged` does without room for all points of the whole."""
    names, local = rows.unique(return_inverse=True)
    kept, every = merged(local.numpy(), groups.numpy(), max(len(names), 1))
    return torch.from_numpy(kept), torch.from_numpy(every)
