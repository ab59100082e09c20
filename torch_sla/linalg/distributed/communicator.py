"""Who holds which parts, and how parts talk to each other.

A *part* is a share of the rows. A *process* holds a run of parts: one process all of them, for study and
tests, or each of many processes one. Algorithms are written once, for a process that holds some parts; what
differs is behind this face.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Communicator", "InProcess", "Traffic", "described", "presence"]

Operation = Literal["sum", "max", "min"]


@dataclass
class Traffic:
    """What was sent so far, counted where it is sent.

    Parameters
    ----------
    messages, bytes
        From part to part. A process counts what its parts sent.
    reductions, reduced
        All-reductions, and their bytes.
    gathers, gathered
        All-gathers, and the bytes this process gave to them.
    """

    messages: int = 0
    bytes: int = 0
    reductions: int = 0
    reduced: int = 0
    gathers: int = 0
    gathered: int = 0

    def copy(self) -> Traffic:
        """Return the counts at this moment."""
        return replace(self)

    def since(self, before: Traffic) -> Traffic:
        """Return what was added after `before` was copied."""
        return Traffic(
            *(now - then for now, then in zip(self._numbers(), before._numbers(), strict=True))
        )

    def _numbers(self) -> tuple[int, ...]:
        return (
            *(self.messages, self.bytes, self.reductions),
            *(self.reduced, self.gathers, self.gathered),
        )


class Communicator(ABC):
    """A process among those that hold the parts.

    Attributes
    ----------
    parts
        Number of parts, over all processes.
    rank, world
        Number of this process, and of processes.
    traffic
        What was sent so far.
    """

    parts: int
    rank: int
    world: int
    traffic: Traffic

    @property
    def held(self) -> range:
        """Parts of this process."""
        return range(self.first_part(self.rank), self.first_part(self.rank + 1))

    @property
    def alone(self) -> bool:
        """Whether this process holds all parts."""
        return self.world == 1

    def first_part(self, rank: int) -> int:
        """Return the first part of a process: runs of parts whose lengths differ by at most one."""
        return rank * self.parts // self.world

    def rank_of(self, part: Tensor) -> Tensor:
        """Return the process that holds each part."""
        firsts = torch.tensor([self.first_part(r) for r in range(1, self.world)], dtype=torch.int64)
        return torch.searchsorted(firsts.to(part.device), part, right=True)

    @abstractmethod
    def reduce(self, x: Tensor, operation: Operation = "sum") -> Tensor:
        """Combine the shares of all processes; every process gets the same result."""

    @abstractmethod
    def post(
        self, sends: Mapping[int, Tensor], receives: Mapping[int, Tensor]
    ) -> Callable[[], None]:
        """Start sending to and receiving from other processes; the function returned waits.

        Parameters
        ----------
        sends, receives
            Contiguous tensors by rank; empty ones are neither sent nor expected.
        """

    @abstractmethod
    def gather(self, x: Tensor) -> list[Tensor]:
        """Return the `x` of every process, whose first dimensions may differ."""

    @abstractmethod
    def broadcast(self, x: Tensor) -> Tensor:
        """Return the `x` of the first process."""

    def agree(self, facts: Mapping[str, object]) -> None:
        """Check that all processes say the same by every name; see `failures.agree`."""
        del facts

    def count(self, messages: int, size: int) -> None:
        """Count messages between parts that this process holds both of."""
        self.traffic.messages += messages
        self.traffic.bytes += size

    def route(self, to: Tensor, payloads: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Send every item to a part.

        Parameters
        ----------
        to
            Part of each item ``[m]``.
        payloads
            Tensors ``[m, *]`` of what belongs to the items.

        Returns
        -------
        sender, payloads
            What arrived: rank it came from ``[k]``, ascending, in the order in which it was sent; and
            ``[k, *]`` each.
        """
        if self.alone:
            return torch.zeros_like(to), list(payloads)
        rank = self.rank_of(to)
        order = rank.argsort(stable=True)
        counts = torch.bincount(rank, minlength=self.world)
        table = torch.stack(self.gather(counts.unsqueeze(0))).squeeze(1)
        incoming = table[:, self.rank].tolist()
        outgoing = counts.tolist()
        sender = torch.repeat_interleave(
            torch.arange(self.world, device=to.device), table[:, self.rank]
        )
        arrived = []
        for payload in payloads:
            pieces = list(payload[order].split(outgoing))
            space = payload.new_empty((sum(incoming), *payload.shape[1:]))
            slots = list(space.split(incoming))
            slots[self.rank].copy_(pieces[self.rank])
            others = [r for r in range(self.world) if r != self.rank]
            self.post({r: pieces[r] for r in others}, {r: slots[r] for r in others})()
            arrived.append(space)
        return sender, arrived


class InProcess(Communicator):
    """All parts in one process; what would travel is counted.

    Examples
    --------
    >>> comm = InProcess(3)
    >>> comm.held, comm.world
    (range(0, 3), 1)
    """

    rank, world = 0, 1

    def __init__(self, parts: int) -> None:
        if parts != int(parts) or parts < 1:
            raise ArgumentError(f"`num_partitions` must be a whole number from 1 on, got {parts!r}")
        self.parts, self.traffic = int(parts), Traffic()

    def reduce(self, x: Tensor, operation: Operation = "sum") -> Tensor:
        del operation
        self.traffic.reductions += 1
        self.traffic.reduced += x.numel() * x.element_size()
        return x

    def post(
        self, sends: Mapping[int, Tensor], receives: Mapping[int, Tensor]
    ) -> Callable[[], None]:
        if any(t.numel() for t in (*sends.values(), *receives.values())):
            raise ArgumentError("there is no other process to send to or receive from")
        return lambda: None

    def gather(self, x: Tensor) -> list[Tensor]:
        self.traffic.gathers += 1
        self.traffic.gathered += x.numel() * x.element_size()
        return [x]

    def broadcast(self, x: Tensor) -> Tensor:
        return x


def described(given: object) -> str:
    """Return what tells two arguments apart: dtype, shape, a hash of the numbers, and whether gradients are wanted.

    Examples
    --------
    >>> described(torch.zeros(2)), described(None)
    ('float32 [2] (content ca08ea5bca49cc18)', 'nothing')
    """
    if not isinstance(given, Tensor):
        return "nothing" if given is None else type(given).__name__
    data = given.detach().cpu().resolve_conj().resolve_neg().contiguous().flatten()
    content = hashlib.blake2b(data.view(torch.uint8).numpy().data, digest_size=8).hexdigest()
    graph = ", requires grad" if given.requires_grad and torch.is_grad_enabled() else ""
    return (
        f"{str(given.dtype).removeprefix('torch.')} {list(given.shape)} (content {content}{graph})"
    )


def presence(**given: object) -> dict[str, str]:
    """Return what processes agree on of arguments that may differ, but are there on all or on none.

    Examples
    --------
    >>> presence(x0=None, nullspace=1.0)
    {'x0': 'nothing', 'nullspace': 'something'}
    """
    return {name: "nothing" if x is None else "something" for name, x in given.items()}
