"""Work on every process at once: where it fails on one, it fails on all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import torch

from torch_sla.errors import ArgumentError, RankError, TorchSlaError
from torch_sla.linalg.checks import together

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch_sla.linalg.distributed.communicator import Communicator

__all__ = ["agreed", "everywhere"]

Answer = TypeVar("Answer")

_LONGEST = 1000


def everywhere(
    comm: Communicator,
    device: torch.device | str,
    work: Callable[[], tuple[Answer, Sequence[float]]],
    count: int = 0,
) -> tuple[Answer, list[float]]:
    """Do something on every process; where it fails on one, none goes on to wait for it.

    Parameters
    ----------
    work
        Returns an answer and numbers about it. Nothing in it waits for other processes.
    count
        How many numbers.

    Returns
    -------
    answer, numbers
        Of each number the largest on any process.

    Raises
    ------
    ArgumentError, RankError
        On every process that could do its part, with what the first one that could not says; `ArgumentError` where it
        was that there.

    Examples
    --------
    >>> from torch_sla.linalg.distributed.communicator import InProcess
    >>> everywhere(InProcess(2), "cpu", lambda: ("done", [3.0]), 1)
    ('done', [3.0])
    """
    failed: Exception | None = None
    answer: Any = None
    said: Sequence[float] = [0.0] * count
    try:
        with together():
            answer, said = work()
    except Exception as error:  # noqa: BLE001  raised below, when all know
        failed = error
    kind = 0.0 if failed is None else 1.0 + isinstance(failed, ArgumentError)
    message = torch.tensor([kind, *map(float, said)], dtype=torch.float64, device=device)
    anywhere, *found = comm.reduce(message, "max").tolist()
    if not anywhere:
        return answer, found
    text = "" if failed is None else f"{comm.rank} {failed}"[:_LONGEST]
    letters = torch.tensor(list(text.encode()), dtype=torch.uint8, device=device)
    texts = [bytes(t.tolist()).decode(errors="replace") for t in comm.gather(letters)]
    if failed is not None:
        raise failed
    rank, _, why = next(t for t in texts if t).partition(" ")
    raised: type[TorchSlaError] = ArgumentError if anywhere == 2.0 else RankError
    raise raised(f"process {rank} cannot do its part: {why}")


def agreed(comm: Communicator, device: torch.device | str, work: Callable[[], Answer]) -> Answer:
    """Do something on every process, as `everywhere` does, where there are no numbers about it."""
    return everywhere(comm, device, lambda: (work(), ()))[0]
