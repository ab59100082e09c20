"""What one process says or makes for all, and graphs that all of them record or none."""

from __future__ import annotations

import io
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from torch_sla.linalg.distributed.everywhere import agreed, everywhere

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from torch_sla.linalg.distributed.communicator import Communicator
    from torch_sla.problems.progress import Progress, ProgressCallback

__all__ = ["anchored", "handed_out", "told", "watched"]

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
    _, data, size = _from_first(comm, device, say)
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
    ArgumentError, RankError
        On the other processes, if making fails on the first one, whose error it repeats.
    """
    mine: list[Any] = []
    for rank in range(comm.world):
        made, data, size = _from_first(comm, device, partial(make, rank), sent=rank > 0)
        if rank == comm.rank == 0:
            mine.append(made)
        elif comm.rank == 0:
            comm.post({rank: data}, {})()
        elif comm.rank == rank:
            room = torch.empty(size, dtype=torch.uint8, device=device)
            comm.post({}, {0: room})()
            mine.append(unpacked(room))
        del made, data
    found: Answer = mine[0]
    return found


def watched(
    comm: Communicator, device: torch.device, progress: ProgressCallback | None
) -> ProgressCallback | None:
    """Return whom to tell on this process how far work has come: the callback of the first; what it raises ends all.

    All processes call it together, and then what it returns.
    """
    there = torch.tensor([float(progress is not None and comm.rank == 0)], device=device)
    if not bool(comm.reduce(there, "max")):
        return None

    def tell(at: Progress) -> None:
        agreed(comm, device, lambda: progress(at) if progress and comm.rank == 0 else None)

    return tell


def _from_first(
    comm: Communicator, device: torch.device, make: Callable[[], Any], *, sent: bool = True
) -> tuple[Any, Tensor, int]:
    """Make something on the first process; where it fails, or cannot be sent, all do.

    Returns
    -------
    made, data, size
        On the first process what it made, and that as bytes, if it is to be sent; on all how many these are.
    """
    nothing = torch.zeros(0, dtype=torch.uint8, device=device)

    def work() -> tuple[tuple[Any, Tensor], list[float]]:
        made = make() if comm.rank == 0 else None
        data = packed(made, device) if comm.rank == 0 and sent else nothing
        return (made, data), [data.numel()]

    (made, data), (size,) = everywhere(comm, device, work, 1)
    return made, data, int(size)


def packed(message: Any, device: torch.device) -> Tensor:
    """Return a message as bytes."""
    buffer = io.BytesIO()
    torch.save(message, buffer)
    return torch.frombuffer(buffer.getbuffer(), dtype=torch.uint8).to(device)


def unpacked(data: Tensor) -> Any:
    """Return a message of another process of this very run."""
    return torch.load(io.BytesIO(data.cpu().numpy().tobytes()), weights_only=False)
