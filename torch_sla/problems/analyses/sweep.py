"""Many cases of one problem: one batch, one structure, one factor where the matrix does not change."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, SolveError
from torch_sla.linalg.info import failed_note
from torch_sla.problems.analyses.analysis import Analysis, frame_of, inside
from torch_sla.problems.analyses.parts import Parts
from torch_sla.problems.analyses.table import completed, fields_of, numbers, write_table
from torch_sla.problems.lowering.parameters import home_of
from torch_sla.problems.results import Drawn, Named
from torch_sla.problems.specs.of import times_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch_sla.linalg import SolveInfo
    from torch_sla.problems.analyses.watching import Watching
    from torch_sla.problems.specs.sweep import SweepProblem

__all__ = ["Sweep", "SweepSolution", "case_rows", "write_cases"]

_MOST, _WORK = 64, 200_000
"""Cases of one part at most, and unknowns times steps of one."""


class Sweep(Analysis):
    """Lowers `SweepProblem`."""

    spec: SweepProblem

    def solve(
        self,
        values: Mapping[str, Any],
        *,
        points: Tensor | None = None,
        start: Tensor | None = None,
        info: bool = False,
        throw: bool = True,
        watch: Watching | None = None,
    ) -> SweepSolution:
        """Solve all cases, as one batch, or in parts where the run is kept; what is given besides holds for all."""
        batch = self.cases(values)
        given = {name: self._apart(name, value) for name, value in values.items()}
        if points is not None and points.ndim > 2:
            points = points.unsqueeze(-3)  # as other batches
        count = len(self.spec.every)
        starts = None if start is None else self._starts(start, count)

        def part(low: int, high: int) -> Any:
            own = {name: value[low:high] for name, value in batch.items()}
            first = starts
            if starts is not None and starts.ndim > 1 and starts.shape[-2] > 1:
                first = starts[..., low:high, :]
            with inside():
                return self.model.solve(
                    {**given, **own}, points=points, start=first, info=info, throw=throw
                )

        if watch is None or not watch.keeps:
            solution = part(0, count)
            return SweepSolution(self, Parts.of(solution, count), solution, points)
        home = home_of((*values.values(), points))
        parts = self._kept(part, count, watch, home, throw=throw)
        return SweepSolution(self, parts, points=points)

    def _kept(
        self,
        part: Callable[[int, int], Any],
        count: int,
        watch: Watching,
        home: torch.device,
        *,
        throw: bool,
    ) -> Parts:
        """Solve part after part; each is on disk when the next begins, if it took its time."""
        found = watch.begin(home)
        width, done = self._width, 0
        parts: Parts | None = None
        if found is not None:
            done, _, records = found
            parts = Parts.restored(records, watch.data)
            if throw and not parts.info.converged:
                raise _kept_failure(parts, done)
        with torch.no_grad():
            while done < count:
                high = min(done + width, count)
                try:
                    more = Parts.of(part(done, high), high - done)
                except SolveError as error:
                    if not done:
                        raise
                    detail = f"{error.detail}; of the cases {done} to {high - 1}, where members begin with 0"
                    raise SolveError(
                        error.result,
                        detail,
                        iterations=error.iterations,
                        residual=error.residual,
                    ) from error
                if parts is not None and not parts.fits(more):
                    raise _uneven(parts, more, done, high)
                parts = more if parts is None else parts.joined(more)
                done = high
                watch.after(
                    "cases", done, count, dict, done, parts.records, parts.data, **parts.figures
                )
        if parts is None:
            raise ArgumentError("cases: there is none")
        return parts

    @property
    def _width(self) -> int:
        """How many cases are one part: small problems many at once; the same in every run."""
        if any(event.stop for event in getattr(self.spec.of, "events", ())):
            return len(self.spec.every)  # all cases end when the last one has it behind
        frame = frame_of(self.model)
        if frame is None:
            return _MOST
        work = frame.numbering.n * int(getattr(self.spec.of, "steps", 1))
        return max(1, min(_MOST, _WORK // work))

    def _starts(self, start: Tensor, count: int) -> Tensor:
        """Return where all cases begin ``[n]``, or each of them ``[*batch, cases, n]``."""
        flat = self.given_start(start)
        if flat.ndim > 1 and flat.shape[-2] not in (1, count):
            raise ArgumentError(
                f"start has the batch dimensions {list(flat.shape[:-1])}; the last of them is that of the cases, "
                f"and there are {count}"
            )
        return flat

    def _apart(self, name: str, value: Any) -> Any:
        """Keep the dimensions of a batch apart from that of the cases, which comes last among them."""
        parameter = self.declared.get(name)
        if parameter is None or not isinstance(value, torch.Tensor | np.ndarray):
            return value
        tensor = torch.as_tensor(value)
        own = len(parameter.shape) + (parameter.on != "constant") + (parameter.time is not None)
        return tensor.unsqueeze(tensor.ndim - own) if tensor.ndim > own else tensor

    def cases(self, values: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the values of all cases by name ``[cases, *sites, *shape]``.

        Raises
        ------
        ArgumentError
            If `values` give one of them as well.
        """
        every = self.spec.every
        for name in values:
            if name in self.varied:
                raise ArgumentError(f"{name!r} is what the cases vary; it cannot be given as well")
        found = {}
        for name in every[0]:
            parameter = self.declared[name]
            shape = tuple(parameter.shape)
            column = torch.tensor([case[name] for case in every], dtype=self.dtype)
            value = column if column.ndim == 1 + len(shape) else column[(..., *[None] * len(shape))]
            home = [times_in(self.spec.of)] if parameter.time is not None else []
            if parameter.on != "constant":
                home.append(self.counts[parameter.on])
            lifted = value.reshape(len(every), *[1] * len(home), *value.shape[1:])
            found[name] = lifted.expand(len(every), *home, *shape)
        return found

    @property
    def varied(self) -> frozenset[str]:
        """Names of the parameters that the cases vary."""
        return frozenset(self.spec.every[0])

    @property
    def unvaried(self) -> list[str]:
        """Names of the parameters that the cases do not vary."""
        return [name for name in self.declared if name not in self.varied]

    def defaults(
        self, names: Sequence[str], declared: Mapping[str, Any] | None = None
    ) -> dict[str, Tensor]:
        """Return the default values of the parameters that the cases do not vary."""
        del declared
        return self.model.defaults([n for n in names if n in self.unvaried])

    def check(self) -> Any:
        """Check everything that needs no value."""
        with inside():
            return self.model.check()

    @property
    def idle_names(self) -> frozenset[str]:
        """Names of the parameters that need no value in any case."""
        names: frozenset[str] = self.model.idle_names
        return names

    def describe(self, values: Mapping[str, Any]) -> list[str]:
        """Return lines on the cases, the problem and its plan."""
        names = " ".join(self.spec.every[0])
        return [f"  cases       {len(self.spec.every)} of {names}", *super().describe(values)]


class SweepSolution(Drawn, Named):
    """The solutions of all cases; everything in it is differentiable.

    Attributes
    ----------
    fields, outputs
        By name, ``[*batch, cases, ...]``.
    cases
        The varied values, one mapping for each case.
    """

    drawable = False

    @property
    def endings(self) -> tuple[str, ...]:
        """Files that a run writes: arrays where fields were asked for, which the table does not have."""
        return (".csv", *((".npz",) if fields_of(self.spec) else ()), ".json")

    def __init__(
        self, analysis: Sweep, parts: Parts, solution: Any = None, points: Tensor | None = None
    ) -> None:
        self.model, self._solution, self._parts, self._points = analysis, solution, parts, points
        self.cases = analysis.spec.every
        self.info, self.fields, self.outputs = parts.info, parts.fields, parts.outputs
        if failed := self.failed:
            self.info.notes.append(failed_note("cases", failed))

    @property
    def solution(self) -> Any:
        """What the problem gives; all fields and outputs are ``[*batch, cases, ...]``."""
        if self._solution is None:
            raise ArgumentError(
                "a sweep that was kept in a folder is fields and outputs; solve without folder for the solution itself"
            )
        return self._solution

    @property
    def points(self) -> Tensor:
        """The mesh points of all cases ``[n_points, dim]``; ``[*batch, 1, n_points, dim]`` of a batch of meshes."""
        if self._points is not None:
            return self._points
        frame = frame_of(self.model)
        if frame is None:
            raise ArgumentError("points: the cases have no mesh")
        return frame.mesh.points

    @property
    def failed(self) -> list[int]:
        """Which cases did not converge, counted from 0: some with ``throw=False``, in any member of a batch."""
        return failed_of(self.info)

    @property
    def members(self) -> tuple[int, ...]:
        """Dimensions of batches and, behind them, of the cases."""
        return self._parts.batch

    @property
    def u(self) -> Tensor:
        """The first field of all cases."""
        return next(iter(self.fields.values()))

    @property
    def batch(self) -> tuple[int, ...]:
        """Batch dimensions besides the cases."""
        return self._parts.batch[:-1]

    @property
    def table(self) -> list[dict[str, Any]]:
        """One row for each case: the varied values and all numbers of the outputs that are no fields.

        Numbers of cases that did not converge are NaN.
        """
        if self.batch:
            raise ArgumentError(
                f"the outputs have batch dimensions {list(self.batch)}; a table holds one member"
            )
        outputs = {name: self.told(value) for name, value in self.outputs.items()}
        return completed(case_rows(self.cases), self.spec, outputs)

    def save(self, path: str | Path) -> None:
        """Write the table as ``.csv``, with identity as ``.json``; arrays as ``.npz``; fields as ``.pvd .xdmf``."""
        from torch_sla.problems.report.save import save_series, summary, write_arrays

        path = Path(path)
        if path.suffix == ".csv":
            write_table(self.table, path)
        elif path.suffix == ".json":
            write_cases(summary(self), self.table, path)
        elif path.suffix == ".npz" and self._solution is not None:
            self._solution.save(path)
        elif path.suffix == ".npz":
            write_arrays(path, self)
        elif path.suffix in (".pvd", ".xdmf"):
            save_series(self, path)
        else:
            raise ArgumentError(
                f"path ends in {path.suffix!r}; a sweep is saved as .csv or .json (its table), .npz (arrays), .pvd or "
                ".xdmf (fields of all cases)"
            )

    def __repr__(self) -> str:
        return f"SweepSolution({len(self.cases)} cases, {self.info.backend} {self.info.method})"


def _uneven(parts: Parts, more: Parts, low: int, high: int) -> SolveError:
    """Say that some cases failed at another time than others."""
    failed = parts.info if more.info.converged else more.info
    return SolveError(
        failed.result,
        f"cases {low} to {high - 1} end at another time than those before, for a step failed "
        f"({'; '.join(failed.notes)}); solve without folder, where all end together",
    )


def _kept_failure(parts: Parts, done: int) -> SolveError:
    """Say that what was kept did not all converge: it was solved with ``throw=False``."""
    info = parts.info
    return SolveError(
        info.result,
        f"resume: not all of the cases 0 to {done - 1}, which were kept by a run with throw=False, converged; go on "
        "with throw=False, or start again in another folder",
        iterations=info.iterations,
        residual=info.residual,
    )


def failed_of(info: SolveInfo) -> list[int]:
    """Return which cases a report says did not converge."""
    if info.solved is None:
        return []
    cases = info.solved.reshape(-1, info.solved.shape[-1]).all(0)
    found: list[int] = (~cases).nonzero().flatten().tolist()
    return found


def case_rows(cases: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one row for each case, the numbers of its values by name."""
    return [
        {
            key: number
            for name, value in case.items()
            for key, number in numbers(name, torch.as_tensor(np.asarray(value))).items()
        }
        for case in cases
    ]


def write_cases(told: Mapping[str, Any], table: list[dict[str, Any]], path: Path) -> None:
    """Write the table of a sweep as ``.json``, with what is told of it besides."""
    from torch_sla.problems.report.save import write_json

    # JSON has no number for an event that never happened.
    rows = [{n: v if math.isfinite(v) else None for n, v in row.items()} for row in table]
    write_json(path, {**told, "table": rows})
