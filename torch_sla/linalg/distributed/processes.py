"""Parts on the processes of `torch.distributed`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.linalg.distributed.communicator import (
    Communicator,
    InProcess,
    Operation,
    Traffic,
)
from torch_sla.linalg.distributed.failures import agree, guarded
from torch_sla.linalg.distributed.launch import running, together

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch.distributed import ProcessGroup
    from torch.distributed.device_mesh import DeviceMesh

__all__ = ["Processes", "communicator"]

_OPERATIONS = {"sum": dist.ReduceOp.SUM, "max": dist.ReduceOp.MAX, "min": dist.ReduceOp.MIN}


def communicator(
    group: ProcessGroup | DeviceMesh | None = None, parts: int | None = None
) -> Communicator:
    """Return the processes of a group, or this one alone where the program was started by itself.

    Parameters
    ----------
    group
        A process group, a one-dimensional `DeviceMesh`, or None: all processes, or the only one.
    parts
        Number of parts, one for each process unless given.

    Raises
    ------
    ArgumentError
        When the program was started by ``torchrun`` and `torch.distributed` is not initialised.

    Examples
    --------
    >>> communicator(parts=3).held
    range(0, 3)
    """
    if group is None and not running() and not together():
        return InProcess(1 if parts is None else parts)
    return Processes(group, parts)


class Processes(Communicator):
    """The processes of a group, gloo on CPUs and NCCL on GPUs, with one part each or more.

    Parameters
    ----------
    group
        A process group, a one-dimensional `DeviceMesh`, or None for all processes.
    parts
        Number of parts, one for each process unless given, and not fewer.

    Raises
    ------
    ArgumentError
        When `torch.distributed` is not initialised, or the mesh has more dimensions.
    """

    def __init__(
        self, group: ProcessGroup | DeviceMesh | None = None, parts: int | None = None
    ) -> None:
        if not running():
            raise ArgumentError(
                "torch.distributed is not initialised: call torch.distributed.init_process_group first and start "
                "the program with torchrun, or use DSparseTensor(..., num_partitions=) in one process"
            )
        given: Any = group
        if given is not None and hasattr(given, "get_group"):
            if given.ndim != 1:
                raise ArgumentError(
                    f"`device_mesh` must have one dimension, got {given.ndim}; take one of it, mesh['name']"
                )
            given = given.get_group()
        self.group = given
        self.rank, self.world = dist.get_rank(given), dist.get_world_size(given)
        self.parts = self.world if parts is None else parts
        if self.parts < self.world:
            raise ArgumentError(
                f"`num_partitions` must be at least the {self.world} processes, got {parts}; parts may be empty"
            )
        self.traffic = Traffic()

    def _peer(self, rank: int) -> int:
        return rank if self.group is None else dist.get_global_rank(self.group, rank)

    def _carried(self, x: Tensor) -> Tensor:
        """Return a tensor the group can send: NCCL knows devices only, and complex numbers travel as pairs."""
        x = _wire(x)
        only_devices = x.device.type == "cpu" and dist.get_backend(self.group) == "nccl"
        return x.to(torch.device("cuda", torch.cuda.current_device())) if only_devices else x

    def reduce(self, x: Tensor, operation: Operation = "sum") -> Tensor:
        if operation != "sum" and x.is_floating_point():
            return self._extreme(x.detach(), operation)
        out = x.detach().resolve_conj().clone(memory_format=torch.contiguous_format)
        return self._all_reduced(out, operation)

    def _all_reduced(self, out: Tensor, operation: Operation) -> Tensor:
        """Return what comes of a contiguous tensor, which may be overwritten."""
        self.traffic.reductions += 1
        self.traffic.reduced += out.numel() * out.element_size()
        wire = self._carried(out)
        with guarded("sum over ranks" if operation == "sum" else "comparison over ranks"):
            dist.all_reduce(wire, _OPERATIONS[operation], group=self.group)
        return _landed(wire, out)

    def _extreme(self, x: Tensor, operation: Operation) -> Tensor:
        """Compare numbers of all processes; NaN on one is NaN on all, which backends keep on some ranks only."""
        low = -torch.inf if operation == "max" else torch.inf
        none = x.isnan()
        found = torch.stack([x.masked_fill(none, low), torch.where(none, -low, low)])
        most, anywhere = self._all_reduced(found, operation)
        return most.masked_fill(anywhere == -low, torch.nan)

    def post(
        self, sends: Mapping[int, Tensor], receives: Mapping[int, Tensor]
    ) -> Callable[[], None]:
        requests, arriving = [], []
        for rank, buffer in receives.items():
            if buffer.numel():
                arriving.append((self._carried(buffer), buffer))
                wire = arriving[-1][0]
                requests.append(dist.P2POp(dist.irecv, wire, self._peer(rank), self.group))
        for rank, piece in sends.items():
            if piece.numel():
                wire = self._carried(piece)
                requests.append(dist.P2POp(dist.isend, wire, self._peer(rank), self.group))
                self.count(1, piece.numel() * piece.element_size())
        if not requests:
            return lambda: None
        with guarded("halo exchange"):
            works = dist.batch_isend_irecv(requests)

        def wait() -> None:
            with guarded("halo exchange"):
                for work in works:
                    work.wait()
            for wire, buffer in arriving:
                if wire.device != buffer.device:
                    buffer.copy_(_landed(wire, buffer))

        return wait

    def gather(self, x: Tensor) -> list[Tensor]:
        x = x.detach().resolve_conj().contiguous()
        self.traffic.gathers += 1
        self.traffic.gathered += x.numel() * x.element_size()
        length = self._carried(torch.tensor([x.shape[0]], device=x.device))
        lengths = [torch.empty_like(length) for _ in range(self.world)]
        with guarded("gathering lengths"):
            dist.all_gather(lengths, length, group=self.group)
        sizes = [int(n) for n in torch.cat(lengths).tolist()]
        longest = max(sizes)
        padded = x.new_zeros((longest, *x.shape[1:]))
        padded[: x.shape[0]] = x
        wire = self._carried(padded)
        found = [torch.empty_like(wire) for _ in range(self.world)]
        if padded.numel():
            with guarded("gathering"):
                dist.all_gather(found, wire, group=self.group)
        return [_landed(f, padded)[:n] for f, n in zip(found, sizes, strict=True)]

    def agree(self, facts: Mapping[str, object]) -> None:
        agree(facts, group=self.group)

    def broadcast(self, x: Tensor) -> Tensor:
        out = x.detach().contiguous().clone()
        wire = self._carried(out)
        with guarded("broadcast"):
            dist.broadcast(wire, self._peer(0), group=self.group)
        return _landed(wire, out)


def _wire(x: Tensor) -> Tensor:
    """Complex numbers travel as pairs of real ones."""
    return torch.view_as_real(x) if x.is_complex() else x


def _landed(wire: Tensor, like: Tensor) -> Tensor:
    """Return what travelled in the form and on the device that it had before."""
    return (torch.view_as_complex(wire) if like.is_complex() else wire).to(like.device)
