"""What a march went through, and the states that are kept of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch_sla.errors import SolveError
    from torch_sla.linalg import SolveInfo
    from torch_sla.problems.analyses.schemes import State, Step

__all__ = ["Course", "Kept"]


@dataclass
class Course:
    """What a march went through.

    Attributes
    ----------
    steps
        Every step, and the row that was recorded after it, or None.
    rows
        Number of rows that were recorded.
    failure
        Why it ended early, where it did.
    notes
        What else is to be known.
    """

    steps: list[tuple[Step, int | None]] = field(default_factory=list)
    rows: int = 0
    failure: SolveError | None = None
    notes: list[str] = field(default_factory=list)
    info: SolveInfo | None = None


class Kept:
    """States at every so many steps; fewer of them as they become too many.

    Parameters
    ----------
    most
        How many are kept.
    """

    def __init__(self, most: int) -> None:
        self._most, self._stride = most, max(most // 2, 1)
        self.states: dict[int, State] = {}

    def see(self, i: int, state: State) -> None:
        """Keep the state before step i, or not."""
        if i % self._stride:
            return
        self.states[i] = state
        if len(self.states) > self._most:
            self._stride *= 2
            self.states = {k: s for k, s in self.states.items() if k % self._stride == 0}

    def end(self, i: int) -> None:
        """Let go of the states after that before step i."""
        self.states = {k: s for k, s in self.states.items() if k <= i}
