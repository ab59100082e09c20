"""Processes that work together: started by ``torchrun``, one per device."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

from torch_sla.errors import ArgumentError, RankError
from torch_sla.linalg.distributed.failures import agree, guarded, leave
from torch_sla.linalg.distributed.watch import watched

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["TIMEOUT", "Ranks", "launched", "running", "together"]

TIMEOUT = 300.0
"""Seconds after which a rank that waits for the others gives up."""

_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Ranks:
    """The processes that work together, seen from one of them.

    Parameters
    ----------
    rank, size
        Which one this is, of how many.
    device
        Where it computes: its own GPU with NCCL, the CPU with gloo.
    backend
        ``"nccl"`` or ``"gloo"``; ``"none"`` for a single process that was not started by ``torchrun``.
    """

    rank: int
    size: int
    device: torch.device
    backend: str

    @property
    def first(self) -> bool:
        """Whether this is the one that speaks and writes what is written once."""
        return self.rank == 0


def running() -> bool:
    """Whether this process is one of a group of `torch.distributed`."""
    return dist.is_available() and dist.is_initialized()


def together() -> bool:
    """Whether this process was started as one of several, as ``torchrun`` does it."""
    return running() or all(name in os.environ for name in _NEEDED)


@contextlib.contextmanager
def launched(device: str = "auto", timeout: float = TIMEOUT) -> Iterator[Ranks]:
    """Join the other ranks, and leave them in order.

    What goes wrong on one rank ends all: a rank that fails leaves a note, and the others raise a `RankError`
    that repeats it as soon as they wait for that rank. A rank that cannot hear of it, because it computes or waits
    for a third one, is ended; see `watch.Watch`.

    Parameters
    ----------
    device
        ``"cpu"``, ``"cuda"``, or ``"auto"``: CUDA where every rank of the machine can have a GPU of its own.
    timeout
        Seconds after which waiting for the others is given up, and within which all end when one is lost.

    Raises
    ------
    ArgumentError
        If the environment says something impossible.
    RankError
        If the others cannot be reached, or disagree on how many there are.

    Examples
    --------
    >>> with launched() as ranks:  # not started by torchrun: one process, no communication
    ...     ranks.rank, ranks.size, ranks.backend
    (0, 1, 'none')
    """
    if not timeout > 0:
        raise ArgumentError(f"timeout is a number of seconds above 0, got {timeout}")
    if running():
        yield _seen(_device(device))
        return
    if not together():
        yield Ranks(0, 1, _device(device), "none")
        return
    where = _device(device)
    rank, size = _number("RANK"), _number("WORLD_SIZE")
    if not 0 <= rank < size:
        raise ArgumentError(f"RANK={rank} is not one of WORLD_SIZE={size}; start with torchrun")
    backend = "nccl" if where.type == "cuda" else "gloo"
    if os.environ["MASTER_ADDR"] in ("localhost", "127.0.0.1", "::1"):
        # One machine: nothing needs to leave it, and a name that resolves to nowhere does not matter.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    try:
        dist.init_process_group(backend, timeout=timedelta(seconds=timeout))
    except (RuntimeError, ValueError) as error:
        address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise RankError(
            f"rank {rank} could not meet the other {size - 1} at {address} within {timeout:g} s: "
            f"{str(error).splitlines()[0]}"
        ) from error
    watch = watched(timeout)
    try:
        agree({"backend": backend})
        watch.start()
        yield _seen(where)
        with guarded("end of the run"):
            # Nobody leaves while another still needs it.
            dist.barrier()
    except BaseException as error:
        leave(error)
        watch.stop()
        raise
    watch.stop()
    dist.destroy_process_group()


def _seen(device: torch.device) -> Ranks:
    return Ranks(dist.get_rank(), dist.get_world_size(), device, dist.get_backend())


def _number(name: str) -> int:
    try:
        return int(os.environ[name])
    except ValueError:
        raise ArgumentError(f"{name}={os.environ[name]!r} is no whole number") from None


def _device(wanted: str) -> torch.device:
    local = int(os.environ.get("LOCAL_RANK", "0"))
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    have = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == "cpu" or (wanted == "auto" and have < beside):
        return torch.device("cpu")
    if wanted not in ("auto", "cuda"):
        raise ArgumentError(f"device is 'auto', 'cpu' or 'cuda', got {wanted!r}")
    if local >= have:
        raise ArgumentError(
            f"device='cuda': rank {local} of this machine has no GPU of its own ({have} here, {beside} ranks); "
            "start fewer ranks, or use device='cpu'"
        )
    device = torch.device("cuda", local)
    torch.cuda.set_device(device)
    return device
