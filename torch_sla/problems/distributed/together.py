"""What one process says or makes for all, and graphs that all of them record or none."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from torch_sla.errors import RankError, TorchSlaError
from torch_sla.linalg.distributed.everywhere import agreed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from torch_sla.linalg.distributed.communicator import Communicator

__all__ = ["anchored", "handed_out", "told"]

Answer = TypeVar("Answer")


def anchored(x: Tensor, wanted: bool, tensors: Sequence[Tensor]) -> Tensor:
    """Make x part of the graph where it is that on some process, so that all go through the same backward pass.

    Parameters
    ----------
    wanted
        Whether it is on any process.
    tensors
        What it may depend on; it gets an empty piece of each.
    """
    if not wanted or x.requires_grad:
        return x
    pieces = [t.reshape(-1)[:0].to(x) for t in tensors if t.requires_grad]
    return torch.cat([x, *pieces], -1)


def told(comm: Communicator, device: torch.device, say: Callable[[], Answer]) -> Answer:
    """Return what the first process says; where it fails, all do."""
    here = agreed(comm, device, lambda: say() if comm.rank == 0 else None)
    data = packed(here, device)
    size = int(comm.broadcast(torch.tensor([data.numel()], device=device)))
    room = data if comm.rank == 0 else torch.empty(size, dtype=torch.uint8, device=device)
    return unpacked(comm.broadcast(room))


def handed_out(comm: Communicator, device: torch.device, make: Callable[[int], Answer]) -> Answer:
    """Return what the first process makes for this one; it makes one after the other, and keeps none but its own.

    Parameters
    ----------
    make
        From the number of a process; called on the first one.

    Raises
    ------
    TorchSlaError
        On every process, if making fails; the first one says why.
    """
    mine: list[Answer] = []
    for rank in range(comm.world):
        failed: TorchSlaError | None = None
        data = torch.zeros(0, dtype=torch.uint8, device=device)
        if comm.rank == 0:
            try:
                made = make(rank)
            except TorchSlaError as error:
                failed = error
            else:
                mine += [made] if rank == 0 else []
                data = packed(made, device) if rank else data
        size = int(comm.broadcast(torch.tensor([-1 if failed else data.numel()], device=device)))
        if failed is not None:
            raise failed
        if size < 0:
            raise RankError("the first process cannot prepare the parts, and says why")
        if rank and comm.rank == 0:
            comm.post({rank: data}, {})()
        elif rank and comm.rank == rank:
            room = torch.empty(size, dtype=torch.uint8, device=device)
            comm.post({}, {0: room})()
            mine.append(unpacked(room))
    return mine[0]


def packed(message: Any, device: torch.device) -> Tensor:
    """Return a message as bytes."""
    buffer = io.BytesIO()
    torch.save(message, buffer)
    return torch.frombuffer(buffer.getbuffer(), dtype=torch.uint8).to(device)


def unpacked(data: Tensor) -> Any:
    """Return a message of another process of this very run."""
    return torch.load(io.BytesIO(data.cpu().numpy().tobytes()), weights_only=False)
