"""Putting a matrix together from what each process has, without any of them seeing the whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.linalg.adjoint.exchange import exchange
from torch_sla.linalg.distributed.halo import Halo
from torch_sla.linalg.distributed.layout import Layout

if TYPE_CHECKING:
    from torch_sla.linalg.distributed.communicator import Communicator


__all__ = ["Moved", "entry_halo", "layout_of_owned", "place_of", "redistributed"]

_RUN = 1 << 14  # names that are looked for at a time, at least


def layout_of_owned(comm: Communicator, owned: list[Tensor], n: int) -> tuple[Layout, Directory]:
    """Make a layout from the names that each part of this process owns.

    Parameters
    ----------
    owned
        Names for each held part.
    n
        Number of names in all; every one must be owned once.

    Raises
    ------
    ArgumentError
        On every process, when a name is owned twice or not at all.
    """
    device = owned[0].device if owned else torch.device("cpu")
    names = [part.long().sort().values for part in owned]
    counts = torch.tensor([len(part) for part in names], dtype=torch.int64, device=device)
    sizes = torch.cat(comm.gather(counts))
    together = torch.cat(names) if names else torch.empty(0, dtype=torch.int64, device=device)
    layout = Layout(comm, sizes, together, device)
    inside = bool(((together >= 0) & (together < n)).all())
    bad = torch.tensor([0.0 if inside else 1.0], device=device)
    if float(comm.reduce(bad, "max")) > 0:
        raise ArgumentError(f"`owned` must hold names in [0, {n})")
    directory = Directory(layout, n)
    holes = comm.reduce(torch.tensor([float(directory.faults)], device=device), "max")
    if float(holes) > 0 or layout.n != n:
        raise ArgumentError(
            f"every one of the {n} rows must be owned by exactly one part; {layout.n} are, some twice or never"
        )
    return layout, directory


class Directory:
    """Tells the place of any name: a table of names that is itself in parts, in equal runs.

    Parameters
    ----------
    layout
        Its names.
    n
        Number of names.
    """

    def __init__(self, layout: Layout, n: int) -> None:
        comm = layout.comm
        self._comm, self._chunk = comm, max(-(-n // comm.parts), 1)
        begin = comm.held.start * self._chunk
        end = min(comm.held.stop * self._chunk, n)
        self._begin, size = begin, max(end - begin, 0)
        places = torch.arange(layout.start, layout.start + layout.n_held, device=layout.device)
        _, (names, found) = comm.route(self._keeper(layout.names), [layout.names, places])
        self._layout = layout
        self._table = torch.full((size,), -1, dtype=torch.int64, device=layout.device)
        self._table[names - begin] = found
        listed = torch.bincount(names - begin, minlength=size) if size else names
        self.faults = int((listed != 1).sum()) if size else 0

    def _keeper(self, names: Tensor) -> Tensor:
        return torch.div(names, self._chunk, rounding_mode="floor")

    def places(self, names: Tensor) -> Tensor:
        """Return the place of each name ``[m]``; all processes call it together."""
        layout = self._layout
        own, order = layout.names.sort()
        found = names.new_full(names.shape, -1, dtype=layout.index)
        if len(own):
            # In runs, because most names are of this process and what it takes to find them is many times their size.
            run = max(_RUN, len(names) // 64)
            for begin in range(0, len(names), run):
                some = names[begin : begin + run].long()
                at = torch.searchsorted(own, some).clamp_(max=len(own) - 1)
                here = torch.where(own[at] == some, layout.start + order[at], -1)
                found[begin : begin + run] = here.to(layout.index)
        missing = (found < 0).nonzero().squeeze(1)
        found[missing] = self._asked(names[missing].long()).to(layout.index)
        return found

    def _asked(self, names: Tensor) -> Tensor:
        """Ask the keepers."""
        unique, back = torch.unique(names, return_inverse=True)
        keeper = self._keeper(unique)
        sender, (asked,) = self._comm.route(keeper, [unique])
        firsts = torch.tensor(
            [self._comm.first_part(r) for r in range(self._comm.world)], device=unique.device
        )
        # Answers come back in the order of the questions to each process, and those were sorted.
        _, (found,) = self._comm.route(firsts[sender], [self._table[asked - self._begin]])
        return found[back]


def place_of(names: Tensor, place: Tensor | Directory) -> Tensor:
    """Return places of names from a table that is known whole, or from a directory."""
    return place.places(names) if isinstance(place, Directory) else place.index_select(0, names)


class Moved:
    """Entries that stay on their process, then those that arrive from others; a `Swap`.

    Parameters
    ----------
    count
        Entries of this process before.
    kept
        Which of them stay, None for all.
    halo
        Fetches the others.
    """

    def __init__(self, count: int, kept: Tensor | None, halo: Halo) -> None:
        self._count, self._kept, self._halo = count, kept, halo

    def fetch(self, x: Tensor) -> Tensor:
        """Return what is here after the move, of ``x`` ``[count, *]``."""
        there = self._halo.fetch(x)
        return torch.cat([x if self._kept is None else x.index_select(0, self._kept), there])

    def give_back(self, h: Tensor) -> Tensor:
        """Add ``h`` where it came from: ``[count, *]``."""
        stay = len(h) - self._halo.size
        out = self._halo.give_back(h[stay:])
        if self._kept is None:
            return out + h[:stay]
        return out.index_add_(0, self._kept, h[:stay])


def entry_halo(
    comm: Communicator, to: Tensor, payloads: list[Tensor]
) -> tuple[Moved | None, list[Tensor]]:
    """Plan to move entries to parts, so that their values can follow at any time.

    Parameters
    ----------
    to
        Part that gets each entry of this process ``[m]``.
    payloads
        What is told about each entry ``[m]``.

    Returns
    -------
    Moved or None, list of Tensor
        Fetches the values of the entries that are here then, in the order in which `payloads` are returned. None
        where no process sends any.
    """
    away = ((to < comm.held.start) | (to >= comm.held.stop)).nonzero().squeeze(1)
    sizes = torch.zeros(comm.parts + 1, dtype=torch.int64, device=to.device)
    sizes[comm.held.start], sizes[-1] = len(to), len(away)
    sizes = comm.reduce(sizes)
    if not int(sizes[-1]):
        return None, payloads
    layout = Layout(comm, sizes[:-1], device=to.device)
    there = to[away].long()
    sent = [layout.start + away, *(t[away] for t in payloads)]
    _, (part, place, *told) = comm.route(there, [there, *sent])
    order = (part * max(layout.n, 1) + place).argsort()
    halo = Halo(layout, place[order], part[order])
    kept = None
    if len(away):
        stays = torch.ones(len(to), dtype=torch.bool, device=to.device)
        stays[away] = False
        kept = stays.nonzero().squeeze(1).to(layout.index)
        payloads = [t.index_select(0, kept) for t in payloads]
    return Moved(len(to), kept, halo), [
        torch.cat([t, new[order].to(t.dtype)]) for t, new in zip(payloads, told, strict=True)
    ]


def redistributed(x: Tensor, source: Layout, target: Layout) -> Tensor:
    """Send entries to the processes that own them in another layout; all call it together; differentiable.

    Parameters
    ----------
    x
        What is held here in `source` ``[n_held, *]``.

    Returns
    -------
    Tensor
        What is held here in `target` ``[n_held, *]``.
    """
    comm = source.comm
    if (source.n, comm.world) != (target.n, target.comm.world):
        raise ArgumentError(
            f"a vector of {source.n} entries on {comm.world} processes cannot become one of {target.n} on "
            f"{target.comm.world}"
        )
    differs = torch.tensor(float(not source.same(target)), device=x.device)
    if not float(comm.reduce(differs, "max")):
        return x
    place = Directory(source, source.n).places(target.names).long()
    part = target.owner(target.start + torch.arange(target.n_held, device=place.device)).long()
    order = (part * source.n + place).argsort()
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order), device=order.device)
    return exchange(x, Halo(source, place[order], part[order])).index_select(0, back)
