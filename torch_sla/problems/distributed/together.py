"""Work on every process at once: where it fails on one, it fails on all; and all of them record it, or none."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import torch

from torch_sla.errors import ArgumentError, RankError, TorchSlaError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from torch_sla.linalg.distributed.communicator import Communicator

__all__ = ["anchored", "everywhere"]

Answer = TypeVar("Answer")


def everywhere(
    comm: Communicator,
    device: torch.device,
    work: Callable[[], tuple[Answer, Sequence[float]]],
    count: int = 0,
) -> tuple[Answer, list[float]]:
    """Do something on every process; where it fails on one, none goes on to wait for it.

    Parameters
    ----------
    work
        Returns an answer and numbers about it.
    count
        How many numbers.

    Returns
    -------
    answer, numbers
        Of each number the largest on any process.
    """
    failed: TorchSlaError | None = None
    answer: Answer | None = None
    said: Sequence[float] = [0.0] * count
    try:
        answer, said = work()
    except TorchSlaError as error:
        failed = error
    kind = 0.0 if failed is None else 1.0 + isinstance(failed, ArgumentError)
    message = torch.tensor([kind, *map(float, said)], dtype=torch.float64, device=device)
    anywhere, *found = comm.reduce(message, "max").tolist()
    if failed is not None:
        raise failed
    if anywhere or answer is None:
        # Of the kind that the failing process raises: all take it the same way.
        raised: type[TorchSlaError] = ArgumentError if anywhere == 2.0 else RankError
        raise raised("another process cannot assemble its part of the problem, and says why")
    return answer, found


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
