"""Work on every process at once: where it fails on one, it fails on all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import torch

from torch_sla.errors import (
    ArgumentError,
    GradientError,
    RankError,
    Result,
    SolveError,
    TorchSlaError,
)
from torch_sla.linalg.checks import together

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch_sla.linalg.distributed.communicator import Communicator

__all__ = ["agreed", "everywhere"]

Answer = TypeVar("Answer")

_LONGEST = 1000
_KINDS: tuple[type[TorchSlaError], ...] = (ArgumentError, GradientError)


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
    ArgumentError, GradientError, SolveError, RankError
        On every process the same kind, that of the first one that could not do its part, with what that one says, or,
        where it is its own kind, the process itself; a `RankError` where it was none of the others there.

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
    message = torch.tensor(
        [float(failed is not None), *map(float, said)], dtype=torch.float64, device=device
    )
    anywhere, *found = comm.reduce(message, "max").tolist()
    if not anywhere:
        return answer, found
    text = "" if failed is None else f"{comm.rank} {_kind(failed)} {_said(failed)}"[:_LONGEST]
    letters = torch.tensor(list(text.encode()), dtype=torch.uint8, device=device)
    texts = [bytes(t.tolist()).decode(errors="replace") for t in comm.gather(letters)]
    rank, kind, why = next(t for t in texts if t).split(" ", 2)
    if failed is not None and _kind(failed) == kind:
        raise failed
    raise _repeated(kind, f"process {rank} cannot do its part: {why}")


def _kind(failed: Exception) -> str:
    """Name the kind of a failure."""
    if isinstance(failed, SolveError):
        return failed.result.name
    return next((kind for kind in _KINDS if isinstance(failed, kind)), RankError).__name__


def _said(failed: Exception) -> str:
    """Return what a failure says, without what is added to its result once more."""
    return failed.detail if isinstance(failed, SolveError) else str(failed)


def _repeated(kind: str, message: str) -> TorchSlaError:
    """Return the failure of another process: whoever goes on after one of its kind does so on all."""
    if kind in Result.__members__:
        return SolveError(Result[kind], message)
    return next((k for k in _KINDS if k.__name__ == kind), RankError)(message)


def agreed(comm: Communicator, device: torch.device | str, work: Callable[[], Answer]) -> Answer:
    """Do something on every process, as `everywhere` does, where there are no numbers about it."""
    return everywhere(comm, device, lambda: (work(), ()))[0]
