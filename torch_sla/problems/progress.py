"""How far long work has come: what it tells, and what keeps the time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

__all__ = ["Progress", "ProgressCallback", "Reporter"]


@dataclass(frozen=True)
class Progress:
    """Where long work stands.

    Parameters
    ----------
    task
        What is being done, in a word or two: ``"time"``, ``"cases"``, ``"design"``.
    done, total
        Parts done, of how many; ``total`` is None where nobody knows.
    seconds
        Since this process began the task (s).
    figures
        What is worth watching, by name: ``{"residual": 1e-9}``.
    begun
        Parts that were done before, where a run goes on.

    Examples
    --------
    >>> Progress("time", done=30, total=40, seconds=6.0, begun=10).left
    3.0
    """

    task: str
    done: int
    total: int | None = None
    seconds: float = 0.0
    figures: Mapping[str, float] = field(default_factory=dict)
    begun: int = 0

    @property
    def left(self) -> float | None:
        """Seconds left at the pace so far; None where that is not known."""
        here = self.done - self.begun
        if self.total is None or here <= 0:
            return None
        return self.seconds / here * max(self.total - self.done, 0)


ProgressCallback: TypeAlias = Callable[[Progress], None]
"""What long work calls after each part; what it raises ends the work."""


class Reporter:
    """Tells a callback, where there is one, how far a task is, and keeps its time.

    Parameters
    ----------
    task, total
        See `Progress`.
    callback
        Who is told; None tells nobody.
    done
        Parts that were done before.

    Examples
    --------
    >>> seen = []
    >>> reporter = Reporter("time", 2, seen.append)
    >>> reporter(1, residual=1e-3)
    >>> seen[0].done, seen[0].total, dict(seen[0].figures)
    (1, 2, {'residual': 0.001})
    """

    def __init__(
        self, task: str, total: int | None, callback: ProgressCallback | None, done: int = 0
    ) -> None:
        self.task, self.total, self.begun = task, total, done
        self._callback = callback
        self._start = time.monotonic()

    def __call__(self, done: int, **figures: float) -> None:
        """Say that so many parts are done."""
        if self._callback is not None:
            seconds = time.monotonic() - self._start
            self._callback(Progress(self.task, done, self.total, seconds, figures, self.begun))
