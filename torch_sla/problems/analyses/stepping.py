"""In which steps to go: equal ones, or halves of halves of intervals as the error of a step asks for."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from torch_sla.errors import Result, SolveError
from torch_sla.problems.analyses.schemes import Past, Step

if TYPE_CHECKING:
    from torch_sla.problems.analyses.course import Kept
    from torch_sla.problems.analyses.grid import TimeGrid
    from torch_sla.problems.analyses.schemes import Scheme, State
    from torch_sla.problems.specs.transient import TransientProblem

__all__ = ["Interval", "Stepper", "intervals_of", "stepper_of"]

_SAFETY = 0.8


class Interval(NamedTuple):
    """Between two times that every march meets; ``h`` is one number for intervals meant to be equal."""

    start: float
    end: float
    h: float


def intervals_of(spec: TransientProblem) -> tuple[list[Interval], list[int | None]]:
    """Return the intervals, and for each of their ends, the start first, the row of the outputs or None."""
    h = spec.end / spec.steps
    marks = {j: (j * h, h) for j in range(spec.steps)} | {spec.steps: (spec.end, h)}
    if not spec.times:
        found = [Interval(marks[j][0], marks[j + 1][0], h) for j in range(spec.steps)]
        return found, list(range(spec.steps + 1))
    times: list[tuple[float, bool]] = [(t, False) for t, _ in marks.values()]
    for t in spec.times:
        near = min(range(len(times)), key=lambda k: abs(times[k][0] - t))
        if abs(times[near][0] - t) <= 1e-9 * spec.end:
            times[near] = (times[near][0], True)
        else:
            times.append((t, True))
    times.sort()
    found = []
    for (a, _), (b, _) in pairwise(times):
        found.append(Interval(a, b, h if abs(b - a - h) <= 1e-9 * h else b - a))
    rows: list[int | None] = []
    for _, wanted in times:
        rows.append(sum(r is not None for r in rows) if wanted else None)
    return found, rows


class Stepper:
    """One step for each interval.

    Parameters
    ----------
    spec
        The declaration.

    Attributes
    ----------
    intervals, rows
        See `intervals_of`; with events, every end has a row.
    shown
        Ends whose rows are asked for.
    """

    def __init__(self, spec: TransientProblem) -> None:
        self.intervals, self.rows = intervals_of(spec)
        # An event between two times that are asked for is looked for at the times between them.
        self.shown = [k for k, row in enumerate(self.rows) if row is not None]
        if spec.events:
            self.rows = list(range(len(self.rows)))

    @property
    def notes(self) -> list[str]:
        """What there is to say about the steps."""
        return []

    def through(
        self,
        grid: TimeGrid,
        scheme: Scheme,
        j: int,
        state: State,
        steps: list[tuple[Step, int | None]],
        kept: Kept,
    ) -> State:
        """Go through interval j, and write down the steps."""
        step = Step(*self.intervals[j], steps[-1][0].h if steps else 0.0)
        new = scheme.step(grid, step, state)
        kept.see(len(steps), state)
        steps.append((step, None))
        return new

    def saved(self, steps: list[tuple[Step, int | None]]) -> dict[str, Tensor]:
        """Return what it needs to go on later, besides the state."""
        rows = [(*step, -1.0 if row is None else float(row)) for step, row in steps]
        return {"steps": torch.tensor(rows, dtype=torch.float64).reshape(-1, 5)}

    def restore(self, kept: dict[str, Tensor]) -> list[tuple[Step, int | None]]:
        """Take up what was saved; return the steps."""
        found: list[tuple[Step, int | None]] = []
        for *step, row in kept["steps"].tolist():
            found.append((Step(*step), None if row < 0 else int(row)))
        return found


class AdaptiveStepper(Stepper):
    """Steps of ``h / 2^k``, so that matrices of few lengths serve all of them.

    A step is taken where the estimated error is below the tolerance. Twice the length comes next where that
    keeps the error small and the place is a multiple of it.
    """

    def __init__(self, spec: TransientProblem) -> None:
        super().__init__(spec)
        if spec.adaptive is None:
            raise ValueError("steps are chosen where adaptive is given")
        self._options = spec.adaptive
        self._level, self._rejected, self._size = 0, 0, torch.zeros(())
        self._past: list[Past] = []
        self._taken = 0

    def through(
        self,
        grid: TimeGrid,
        scheme: Scheme,
        j: int,
        state: State,
        steps: list[tuple[Step, int | None]],
        kept: Kept,
    ) -> State:
        """Go through interval j in as many steps as it takes."""
        interval = self.intervals[j]
        place = 0  # in units of the length now
        if not self._past:
            self._see(interval.start, state)
            self._size = grid.rms(state[0])
        while place < 2**self._level:
            part = interval.h / 2**self._level
            end = interval.start + (place + 1) * part
            if place + 1 == 2**self._level:
                end = interval.end
            start = self._past[-1].t
            step = Step(start, end, part, steps[-1][0].h if steps else 0.0)
            new = scheme.step(grid, step, state)
            error = self._error(grid, scheme, step, state, new)
            # A trial that is too long tells the size of a field that starts from nothing.
            self._size = torch.maximum(self._size, grid.rms(new[0]))
            ratio = self._ratio(grid.rms(error))
            factor = _SAFETY * max(ratio, 1e-12) ** (-1.0 / (scheme.order + 1))
            if ratio > 1.0:
                more = max(1, min(4, math.ceil(-math.log2(factor))))
                self._rejected += 1
                self._level, place = self._level + more, place * 2**more
                if self._level > self._options.halvings:
                    raise SolveError(
                        Result.STEP,
                        f"the error of the step to t = {end:.6g} stays above the tolerance after "
                        f"{self._options.halvings} halvings",
                    )
                continue
            kept.see(len(steps), state)
            steps.append((step, None))
            state, place = new, place + 1
            self._see(end, state)
            self._taken += 1
            if factor >= 2.0 and self._level and place % 2 == 0:
                self._level, place = self._level - 1, place // 2
        return state

    @property
    def notes(self) -> list[str]:
        """What there is to say about the steps."""
        return [f"adaptive, {self._rejected} more steps were rejected"]

    def _see(self, t: float, state: State) -> None:
        u = state[0].detach()
        self._past = [*self._past[-2:], Past(t, u)]

    def _error(self, grid: TimeGrid, scheme: Scheme, step: Step, old: State, new: State) -> Tensor:
        """Estimate the error of a step; of the first one by two halves where nothing else is known."""
        if len(self._past) > 1 or not scheme.looks_back:
            return scheme.error(step, old, new, self._past)
        h, middle = 0.5 * step.h, step.start + 0.5 * step.h
        half = scheme.step(grid, Step(step.start, middle, h, step.before), old)
        return scheme.step(grid, Step(middle, step.end, h, h), half)[0] - new[0]

    def _ratio(self, found: Tensor) -> float:
        """Return an error over what is allowed, the largest of a batch: each member by its own size."""
        allowed = self._options.atol + self._options.rtol * self._size
        ratio = torch.where(found == 0, 0.0, found / allowed)
        largest = float(ratio.max()) if ratio.numel() else 0.0
        return largest if math.isfinite(largest) else math.inf

    def saved(self, steps: list[tuple[Step, int | None]]) -> dict[str, Tensor]:
        """Return what it needs to go on later, besides the state."""
        memory = [float(self._level), float(self._rejected)]
        found = {"stepper": torch.tensor(memory, dtype=torch.float64), "size": self._size}
        for k, past in enumerate(self._past):
            found[f"past.{k}.t"] = torch.tensor(past.t, dtype=torch.float64)
            found[f"past.{k}.u"] = past.u
        return super().saved(steps) | found

    def restore(self, kept: dict[str, Tensor]) -> list[tuple[Step, int | None]]:
        """Take up what was saved; return the steps."""
        level, rejected = kept["stepper"].tolist()
        self._size = kept["size"]
        self._level, self._rejected = int(level), int(rejected)
        count = sum(name.startswith("past.") for name in kept) // 2
        self._past = [Past(float(kept[f"past.{k}.t"]), kept[f"past.{k}.u"]) for k in range(count)]
        return super().restore(kept)


def stepper_of(spec: TransientProblem) -> Stepper:
    """Return how a declaration chooses its steps."""
    return Stepper(spec) if spec.adaptive is None else AdaptiveStepper(spec)
