"""Who owns which entries of a vector."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.linalg.kernels.pointers import pointers

if TYPE_CHECKING:
    from torch_sla.linalg.distributed.communicator import Communicator

__all__ = ["Layout"]


class Layout:
    """Entries of a vector, part after part: part ``p`` owns places ``offsets[p] .. offsets[p + 1]``.

    A *place* is where an entry is in this order, a *name* its number in the vector of the user.

    Parameters
    ----------
    comm
        The processes.
    sizes
        Entries owned by each part ``[parts]``, the same on every process.
    names
        Names of the entries that this process holds ``[n_held]``; the places themselves by default.
    device
        Where vectors live.
    """

    def __init__(
        self,
        comm: Communicator,
        sizes: Tensor,
        names: Tensor | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.comm = comm
        self.offsets = pointers(sizes.cpu())
        self.n = int(self.offsets[-1])
        self.start = int(self.offsets[comm.held.start])
        self.n_held = int(self.offsets[comm.held.stop]) - self.start
        self.device = torch.device(device)
        self._names = None if names is None else names.to(self.device)

    @property
    def names(self) -> Tensor:
        """Names of what this process holds ``[n_held]``, int64."""
        if self._names is None:
            self._names = torch.arange(self.start, self.start + self.n_held, device=self.device)
        return self._names

    @classmethod
    def of_parts(cls, comm: Communicator, part: Tensor) -> tuple[Layout, Tensor]:
        """Make a layout from the part of every name ``[n]``, known to all processes.

        Returns
        -------
        Layout, Tensor
            And the place of every name ``[n]``.
        """
        if part.numel() and not 0 <= int(part.min()) <= int(part.max()) < comm.parts:
            raise ArgumentError(
                f"`partition_ids` must lie in [0, {comm.parts}), got {int(part.min())} to {int(part.max())}"
            )
        sizes = torch.bincount(part, minlength=comm.parts)
        order = part.argsort(stable=True)
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order), device=part.device)
        offsets = torch.cumsum(sizes, 0).tolist()
        first, last = comm.held.start, comm.held.stop
        begin, end = ([0, *offsets][first], [0, *offsets][last])
        return cls(comm, sizes, order[begin:end], part.device), place

    def owner(self, place: Tensor) -> Tensor:
        """Return the part that owns each place, int32."""
        ends = self.offsets[1:].to(place.device)
        # Tables of the dtype of what is looked up: no copy of the latter is made.
        if place.dtype is torch.int32:
            ends = ends.clamp(max=torch.iinfo(torch.int32).max).int()
        return torch.searchsorted(ends, place, right=True, out_int32=True)

    @property
    def index(self) -> torch.dtype:
        """Shortest dtype that holds every place."""
        return torch.int32 if self.n <= torch.iinfo(torch.int32).max else torch.int64

    def part_slice(self, part: int) -> slice:
        """Where the entries of a part of this process are in what it holds."""
        begin, end = (int(v) - self.start for v in self.offsets[part : part + 2])
        return slice(begin, end)

    @property
    def slices(self) -> list[slice]:
        """`part_slice` of all parts of this process."""
        return [self.part_slice(p) for p in self.comm.held]

    def same(self, other: Layout) -> bool:
        """Whether entries are in the same places under the same names."""
        if self is other:
            return True
        return (
            self.comm.held == other.comm.held
            and torch.equal(self.offsets, other.offsets)
            and torch.equal(self.names, other.names)
        )

    def __repr__(self) -> str:
        return f"Layout({self.n} entries in {self.comm.parts} parts, {self.n_held} here)"
