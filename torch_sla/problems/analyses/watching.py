"""Following long work: telling how far it is, keeping it on disk, going on with what was kept."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.problems.folder import opened
from torch_sla.problems.identity import run_identity
from torch_sla.problems.lowering.parameters import wants_gradient
from torch_sla.problems.progress import Reporter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from torch_sla.problems.checkpoint import Checkpoint, Checkpoints
    from torch_sla.problems.progress import ProgressCallback

__all__ = ["Watching", "refuse_gradients", "watching"]

logger = logging.getLogger(__name__)


class Watching:
    """Follows one run.

    Parameters
    ----------
    states
        Where it is kept; None keeps nothing.
    found
        The state that it goes on from.
    progress
        Who is told.

    Attributes
    ----------
    done
        Parts that were done before.
    """

    def __init__(
        self,
        states: Checkpoints | None,
        found: Checkpoint | None,
        progress: ProgressCallback | None,
    ) -> None:
        self.states, self.found, self._progress = states, found, progress
        self.done = 0 if found is None else found.step
        self._reporter: Reporter | None = None
        self._saved = 0

    @property
    def data(self) -> Mapping[str, Any]:
        """What was saved of the state besides tensors, as JSON has it."""
        return {} if self.found is None else self.found.data

    @property
    def keeps(self) -> bool:
        """Whether the run is kept on disk."""
        return self.states is not None

    @property
    def due(self) -> bool:
        """Whether it is time to keep the state again."""
        return self.states is not None and self.states.due

    def save(
        self,
        done: int,
        state: Mapping[str, Tensor],
        data: Mapping[str, Any],
        new: Mapping[str, Tensor],
    ) -> None:
        """Keep a state, and what was found since the last one."""
        if self.states is not None:
            self.states.save(done, state, data, new)

    def begin(
        self, device: torch.device | None = None
    ) -> tuple[int, dict[str, Tensor], dict[str, Tensor]] | None:
        """Return where to go on: parts done, the state, the records so far ``[rows, ...]``; None at the start.

        They lie on the device; on the CPU where none is given.
        """
        if self.found is None or self.states is None:
            return None
        parts = self.found.records
        names = parts[0] if parts else ()
        records = {name: torch.cat([part[name] for part in parts]) for name in names}
        self._saved = len(next(iter(records.values()))) if records else 0
        state = {name: value.to(device) for name, value in self.found.tensors.items()}
        return self.done, state, {name: value.to(device) for name, value in records.items()}

    def after(
        self,
        task: str,
        done: int,
        total: int,
        state: Callable[[], Mapping[str, Tensor]],
        rows: int,
        records: Mapping[str, Tensor],
        data: Callable[[], Mapping[str, Any]],
        **figures: float,
    ) -> None:
        """Hear that a part is done; keep the state when it is time to, and at the end.

        What the one who is told raises ends the run, with this part kept.

        Parameters
        ----------
        task, done, total, figures
            For `Progress`.
        state, data
            What the run goes on from; called only where it is kept.
        rows, records
            What was found so far: ``records[name][:rows]``.
        """

        def keep() -> None:
            if self.states is None:
                return
            new = {name: value[self._saved : rows] for name, value in records.items()}
            self.save(done, state(), data(), new if rows > self._saved else {})
            self._saved = rows

        logger.debug("%s: %d of %d", task, done, total)
        kept = self.states is not None and (done == total or self.due)
        if kept:
            keep()
        if self._reporter is None:
            self._reporter = Reporter(task, total, self._progress, self.done)
        try:
            self._reporter(done, **figures)
        except BaseException:
            if not kept:
                keep()
            raise


@contextmanager
def watching(
    model: Any,
    values: Mapping[str, Any],
    folder: str | Path | None,
    resume: str | Path | None,
    progress: ProgressCallback | None,
) -> Iterator[Watching]:
    """Open the folder of a run, and have it for oneself.

    Parameters
    ----------
    model
        The lowered problem.
    values
        All that it is solved for.
    folder, resume, progress
        See `Problem.solve`.

    Raises
    ------
    ArgumentError
        If the folder is not as it must be, or a value requires grad: what is kept on disk has no graph.
    """
    if folder is not None or resume is not None:
        refuse_gradients(values)
    with opened(folder, resume, run_identity(model, values)) as (states, found):
        yield Watching(states, found, progress)


def refuse_gradients(values: Mapping[str, Any]) -> None:
    """Refuse values that want gradients: what is kept on disk has no graph."""
    for name, value in values.items():
        if wants_gradient(value) and torch.is_grad_enabled():
            raise ArgumentError(
                f"{name!r} requires grad, and a run that is kept in a folder is not recorded for gradients; "
                "solve without folder and resume, or under torch.no_grad()"
            )
