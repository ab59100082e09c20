"""Numbers that nobody knows all of: each one has a keeper, whom the others ask."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch_sla.linalg.distributed.communicator import Communicator

__all__ = ["Keepers", "matches"]


class Keepers:
    """The numbers from 0 to `n` in equal runs, one kept by each part; all processes do everything together.

    Parameters
    ----------
    comm
        The processes.
    n
        How many numbers, the same on every process.
    device
        Through which messages go; all else is on the host.

    Attributes
    ----------
    begin, end
        What this process keeps.

    Examples
    --------
    >>> from torch_sla.linalg.distributed.communicator import InProcess
    >>> keepers = Keepers(InProcess(2), 4)
    >>> keepers.fetch(torch.tensor([3, 0, 3]), torch.tensor([5, 6, 7, 8]))
    [tensor([8, 5, 8])]
    """

    def __init__(self, comm: Communicator, n: int, device: torch.device | str = "cpu") -> None:
        self._comm, self._device = comm, device
        self.n = n
        starts = [n * part // comm.parts for part in range(comm.parts + 1)]
        self._starts = torch.tensor(starts[:-1])
        self.begin, self.end = starts[comm.held.start], starts[comm.held.stop]

    def of(self, numbers: Tensor) -> Tensor:
        """Return the part that keeps each number."""
        return torch.searchsorted(self._starts, numbers.contiguous(), right=True) - 1

    def send(self, to: Tensor, *payloads: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Send items to parts as `Communicator.route` does, from and to the host."""
        device = self._device
        # Not every backend sends truth values.
        sent = [x.to(device, torch.uint8 if x.dtype == torch.bool else x.dtype) for x in payloads]
        sender, found = self._comm.route(to.to(device), sent)
        return sender.cpu(), [new.cpu().to(x.dtype) for new, x in zip(found, payloads, strict=True)]

    def part_of_rank(self, rank: Tensor) -> Tensor:
        """Return a part of each process, for answers."""
        comm = self._comm
        return torch.tensor([comm.first_part(r) for r in range(comm.world)])[rank]

    def before(self, count: int) -> tuple[int, int]:
        """Return how many of something the processes before this one have, and how many all have."""
        mine = torch.tensor([count], device=self._device)
        each = torch.cat(self._comm.gather(mine)).cpu()
        return int(each[: self._comm.rank].sum()), int(each.sum())

    def find(self, numbers: Tensor, at: Tensor, *things: Tensor) -> list[Tensor]:
        """Return all things at some numbers ``[m]`` that keepers have: number ``[k]``, then ``[k, *]`` of each.

        Parameters
        ----------
        numbers
            Different ones.
        at, things
            Numbers ``[t]``, ascending, that things of this process are at, and the things ``[t, *]``.
        """
        sender, (asked,) = self.send(self.of(numbers), numbers)
        which, found = matches(asked, at)
        answers = [asked[which], *(thing[found] for thing in things)]
        return self.send(self.part_of_rank(sender[which]), *answers)[1]

    def fetch(self, numbers: Tensor, *tables: Tensor) -> list[Tensor]:
        """Return what keepers know of some numbers ``[m]``: ``[m, *]`` of each table.

        Parameters
        ----------
        tables
            What this process knows ``[end - begin, *]``.
        """
        asked, back = numbers.unique(return_inverse=True)
        sender, (wanted,) = self.send(self.of(asked), asked)
        # Answers come back in the order of the questions to each process, and those were sorted.
        answers = [table[wanted - self.begin] for table in tables]
        _, found = self.send(self.part_of_rank(sender), *answers)
        return [answer[back] for answer in found]

    def tell(self, numbers: Tensor, table: Tensor, values: Tensor) -> Tensor:
        """Return a table in which keepers have set what this process says of some numbers ``[m]``."""
        _, (kept, told) = self.send(self.of(numbers), numbers, values)
        table = table.clone()
        table[kept - self.begin] = told
        return table

    def number(self, rows: Tensor) -> tuple[Tensor, int]:
        """Give rows numbers, equal ones the same: their place among all that are different, sorted.

        Parameters
        ----------
        rows
            ``[m, k]``, first column from 0 to `n`.

        Returns
        -------
        number, count
            ``[m]``, and how many are different.
        """
        mine, back = _distinct(rows)
        sender, (asked,) = self.send(self.of(mine[:, 0]), mine)
        kept, place = _distinct(asked)
        before, count = self.before(len(kept))
        _, (found,) = self.send(self.part_of_rank(sender), place + before)
        return found[back], count


def _distinct(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return different rows, sorted, and which of them each row is."""
    if not len(rows):
        return rows, torch.zeros(0, dtype=torch.int64)
    found, back = rows.unique(dim=0, return_inverse=True)
    return found, back


def matches(wanted: Tensor, among: Tensor) -> tuple[Tensor, Tensor]:
    """Find all pairs of equal numbers.

    Parameters
    ----------
    wanted, among
        ``[m]`` in any order, and ``[n]`` ascending; both may have a number many times.

    Returns
    -------
    Tensor, Tensor
        Where the pairs are in each ``[k]``, in the order of the first.

    Examples
    --------
    >>> matches(torch.tensor([5, 2]), torch.tensor([2, 2, 3, 5]))
    (tensor([0, 1, 1]), tensor([3, 0, 1]))
    """
    low = torch.searchsorted(among, wanted)
    count = torch.searchsorted(among, wanted, right=True) - low
    which = torch.repeat_interleave(torch.arange(len(wanted)), count)
    start = count.cumsum(0) - count
    return which, torch.arange(len(which)) - start[which] + low[which]
