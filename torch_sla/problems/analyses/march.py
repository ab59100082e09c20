"""Going through time as one node of the autograd graph.

Forward nothing is recorded: states at some times are kept, outputs go into tensors made beforehand. How it goes
backward is in `march_adjoint`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.errors import SolveError
from torch_sla.linalg import SolveInfo
from torch_sla.problems.analyses.course import Course, Kept
from torch_sla.problems.analyses.march_adjoint import Marched, Pull

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch_sla.problems.analyses.grid import TimeGrid
    from torch_sla.problems.analyses.schemes import Scheme, State, Step
    from torch_sla.problems.analyses.stepping import Stepper
    from torch_sla.problems.analyses.watching import Watching

__all__ = ["Course", "March"]

Records = dict[str, Tensor]


class March:
    """A scheme on a grid, with what is recorded.

    Parameters
    ----------
    grid, scheme, stepper
        What is followed, how, and in which steps.
    record
        ``(grid, t, state, first) -> {name: tensor}``.
    stop
        Of the rows so far, whether to go no further.
    keep
        How many states are kept.
    throw
        Whether a step that fails raises.
    watch
        Someone who follows.
    """

    def __init__(
        self,
        grid: TimeGrid,
        scheme: Scheme,
        stepper: Stepper,
        record: Callable[[TimeGrid, float, State, bool], Records],
        stop: Callable[[Records, int], bool],
        *,
        keep: int,
        throw: bool,
        watch: Watching | None,
    ) -> None:
        self.grid, self.scheme, self.stepper = grid, scheme, stepper
        self.record, self._stop, self.keep = record, stop, keep
        self._throw, self._watch = throw, watch
        self.course = Course()
        self.sizes = (0, 0, 0)
        self.kept = Kept(keep)
        self.names: list[str] = []

    def run(self, start: State) -> tuple[State, Records]:
        """Go from the start to the end: the last state, and records ``[rows, *batch, ...]``."""
        grid = self.grid
        scene = grid.base.tensors()
        series = [tensor for tensor, _ in grid.series.values.values()]
        inputs = (*start, *grid.fixed.values(), *scene, *series)
        if _dual(inputs):
            with torch.no_grad():
                _, records = self.forward(grid, start)
            grid.forget(all_times=True)
            return self.replay(grid, start, records)
        if not (torch.is_grad_enabled() and any(x.requires_grad for x in inputs)):
            with torch.no_grad():
                return self.forward(grid, start)
        self.sizes = (len(start), len(grid.fixed), len(scene))
        found = Marched.apply(self, *inputs)
        return found[: len(start)], dict(zip(self.names, found[len(start) :], strict=True))

    def parts(self, inputs: Sequence[Tensor]) -> tuple[State, TimeGrid]:
        """Arrange inputs of the node as the state at the start and the grid."""
        a, b, count = self.sizes
        grid = self.grid.cut(tuple(inputs[a : a + b]), tuple(inputs[a + b :]), count)
        return tuple(inputs[:a]), grid

    # -- forward --------------------------------------------------------------------------------

    def forward(self, grid: TimeGrid, state: State) -> tuple[State, Records]:
        """Choose the steps and go through them."""
        course, stepper, intervals = self.course, self.stepper, self.stepper.intervals
        records: Records = {}
        found = None if self._watch is None else self._watch.begin(grid.model.device)
        first, stopped = 0, False
        if found is None:
            if stepper.rows[0] is not None:
                self._put(records, 0, self.record(grid, 0.0, state, True))
                course.rows = 1
        else:
            first, kept, rows = found
            state = tuple(kept[f"state.{k}"] for k in range(len(state)))
            course.steps = stepper.restore(kept)
            if self._watch is not None and self._watch.data:
                grid.info = SolveInfo.of_plain(self._watch.data)
            for name, value in rows.items():
                self._room(records, name, value[0])[: len(value)] = value
                course.rows = len(value)
            stopped = self._stop(records, course.rows)
            if stopped:
                course.notes.append(_stopped(intervals[first - 1].end))
        self.names = list(records)
        for j in range(first, len(intervals) if not stopped else first):
            taken = len(course.steps)
            try:
                state = stepper.through(grid, self.scheme, j, state, course.steps, self.kept)
            except SolveError as error:
                course.failure = error
                if self._throw:
                    raise
                # Shorter steps may have gone well before; what is told ends where all of an interval did.
                del course.steps[taken:]
                self.kept.end(taken)
                break
            if stepper.rows[j + 1] is not None:
                row = self.record(grid, intervals[j].end, state, False)
                self._put(records, course.rows, row)
                last, _ = course.steps[-1]
                course.steps[-1] = (last, course.rows)
                course.rows += 1
            self.names = list(records)
            if self._watch is not None:
                now = partial(_now, state, stepper, course.steps)
                done, total, t = j + 1, len(intervals), intervals[j].end
                told = partial(_told, grid)
                self._watch.after("time", done, total, now, course.rows, records, told, t=t)
            if self._stop(records, course.rows):
                course.notes.append(_stopped(intervals[j].end))
                break
        course.info = grid.info
        course.notes += stepper.notes
        return state, {name: value[: course.rows] for name, value in records.items()}

    def _room(self, records: Records, name: str, value: Tensor) -> Tensor:
        if name not in records:
            total = sum(row is not None for row in self.stepper.rows)
            records[name] = value.new_empty(total, *value.shape)
        return records[name]

    def _put(self, records: Records, row: int, found: Records) -> None:
        for name, value in found.items():
            self._room(records, name, value)[row] = value.detach()

    # -- again ----------------------------------------------------------------------------------

    def again(self, grid: TimeGrid, i: int, state: State) -> tuple[State, Records]:
        """Do step i of the course again: the state after it, and its record."""
        step, row = self.course.steps[i]
        state = self.scheme.step(grid, step, state)
        return state, {} if row is None else self.record(grid, step.end, state, False)

    def replay(self, grid: TimeGrid, state: State, like: Records) -> tuple[State, Records]:
        """Do all steps again, recorded as operations of torch."""
        rows: dict[str, list[Tensor]] = {name: [] for name in like}
        found = self.record(grid, 0.0, state, True) if self.stepper.rows[0] is not None else {}
        for name, value in found.items():
            rows[name].append(value)
        for i in range(len(self.course.steps)):
            state, found = self.again(grid, i, state)
            for name, value in found.items():
                rows[name].append(value)
        return state, {name: torch.stack(values) for name, values in rows.items()}

    def pull(
        self,
        grid: TimeGrid,
        start: State,
        shared: Sequence[Tensor],
        grads: Sequence[Tensor | None],
    ) -> list[Tensor | None]:
        """Return gradients ``[m, ...]`` of start and shared tensors, from those of the last state and the records."""
        count = len(start)
        with torch.no_grad():
            _, plain = self.parts([x.detach() for x in (*start, *shared)])
        rows = dict(zip(self.names, grads[count:], strict=True))
        pull = Pull(self, grid, plain, shared, rows)
        states, total = self.kept.states, len(self.course.steps)
        if 0 not in states:
            states = {0: start, **states}
        edges = [*sorted(states), total]
        upper = list(grads[:count])
        for low, high in zip(reversed(edges[:-1]), reversed(edges[1:]), strict=True):
            upper = pull.through(low, high, states[low], upper)
        pull.first(start, upper)
        return [*pull.start, *pull.found]


def _now(state: State, stepper: Stepper, steps: list[tuple[Step, int | None]]) -> dict[str, Tensor]:
    """Return all that a march goes on from."""
    return {f"state.{k}": x for k, x in enumerate(state)} | stepper.saved(steps)


def _told(grid: TimeGrid) -> dict[str, Any]:
    """Return how the last step was solved; nothing of an explicit one."""
    return {} if grid.info is None else grid.info.plain()


def _stopped(t: float) -> str:
    return f"stopped by an event at t = {t:.6g}"


def _dual(tensors: Sequence[Tensor]) -> bool:
    """Whether a tensor carries a tangent of forward mode."""
    return any(torch.autograd.forward_ad.unpack_dual(x).tangent is not None for x in tensors)
