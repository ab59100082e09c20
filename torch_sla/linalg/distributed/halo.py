"""The exchange of entries between parts: planned once, started and finished, in both directions."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch_sla.linalg.distributed.layout import Layout

__all__ = ["Halo"]


class Halo:
    """Copies of entries that other parts own, of a vector in parts.

    Parameters
    ----------
    layout
        The vector.
    places
        What is wanted here ``[n]``.
    parts
        Which part of this process wants each; entries are sorted by part, and by place in each.

    Attributes
    ----------
    sends
        For each process, which held entries it gets.
    messages, items
        Between parts of this process, for the counts.
    """

    def __init__(self, layout: Layout, places: Tensor, parts: Tensor) -> None:
        comm = layout.comm
        self.layout, self.places, self.parts = layout, places, parts
        owner = layout.owner(places).long()
        rank = comm.rank_of(owner)
        order = rank.argsort(stable=True)
        # The buffer has the entries of each process together; None: so has the halo.
        self._order = None if bool((order[1:] > order[:-1]).all()) else order
        counts = torch.bincount(rank, minlength=comm.world).tolist()
        self._counts: list[int] = counts
        sender, (asked,) = comm.route(owner, [places])
        # What is held is counted in 32 bits where that does.
        index = torch.int32 if layout.n_held <= torch.iinfo(torch.int32).max else torch.int64
        given = (asked - layout.start).to(index)
        amounts = torch.bincount(sender, minlength=comm.world).tolist()
        self.sends: list[Tensor] = list(given.split(amounts))
        here = (owner >= comm.held.start) & (owner < comm.held.stop) & (owner != parts)
        pairs = torch.unique(torch.stack([owner[here], parts[here]]), dim=1)
        self.messages, self.items = pairs.shape[1], int(here.sum())
        self._others = [r for r in range(comm.world) if r != comm.rank]

    def reading(self, positions: Callable[[Tensor], Tensor]) -> Halo:
        """Return the same exchange for vectors that are kept otherwise.

        Parameters
        ----------
        positions
            Where entries of what is held here, given by number, are in such a vector. `give_back` adds there.
        """
        out = copy(self)
        out.sends = [positions(send) if send.numel() else send for send in self.sends]
        return out

    @property
    def size(self) -> int:
        """Entries wanted here."""
        return self.places.numel()

    @property
    def nbytes(self) -> int:
        """Bytes of the plan."""
        held = [self.places, self.parts, *self.sends]
        if self._order is not None:
            held.append(self._order)
        return sum(t.numel() * t.element_size() for t in held)

    def start(self, x: Tensor) -> Callable[[], Tensor]:
        """Start fetching the halo of ``x`` ``[n_held, *]``; the function returned waits and gives it."""
        comm, x = self.layout.comm, x.detach().resolve_conj()
        buffer = x.new_empty((self.size, *x.shape[1:]))
        pieces = list(buffer.split(self._counts))
        wait = comm.post(
            {r: x.index_select(0, self.sends[r]) for r in self._others},
            {r: pieces[r] for r in self._others},
        )
        own = self.sends[comm.rank]
        if own.numel():
            torch.index_select(x, 0, own, out=pieces[comm.rank])
        self._count(x)

        def finish() -> Tensor:
            wait()
            if self._order is None:
                return buffer
            return torch.empty_like(buffer).index_copy_(0, self._order, buffer)

        return finish

    def start_back(self, h: Tensor) -> Callable[[Tensor], Tensor]:
        """Start sending ``h`` ``[size, *]`` back; the function returned waits and adds it in place."""
        comm, h = self.layout.comm, h.detach().resolve_conj()
        buffer = h.contiguous() if self._order is None else h.index_select(0, self._order)
        pieces = buffer.split(self._counts)
        arriving = {r: h.new_empty((len(self.sends[r]), *h.shape[1:])) for r in self._others}
        wait = comm.post({r: pieces[r] for r in self._others}, arriving)
        self._count(h)

        def finish(x: Tensor) -> Tensor:
            wait()
            # One process after the other: the order of additions is fixed.
            for rank, index in enumerate(self.sends):
                piece = pieces[rank] if rank == comm.rank else arriving[rank]
                if index.numel():
                    x.index_add_(0, index, piece)
            return x

        return finish

    def _count(self, x: Tensor) -> None:
        size = x.shape[1:].numel() * x.element_size()
        self.layout.comm.count(self.messages if size else 0, self.items * size)

    def fetch(self, x: Tensor) -> Tensor:
        """Return the halo ``[size, *]`` of ``x`` ``[n_held, *]``."""
        return self.start(x)()

    def give_back(self, h: Tensor) -> Tensor:
        """Add ``h`` ``[size, *]`` where it came from: ``[n_held, *]``."""
        return self.start_back(h)(h.new_zeros((self.layout.n_held, *h.shape[1:])))
