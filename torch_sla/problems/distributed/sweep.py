"""Many cases of one problem in parts: one after the other, on one cut and one structure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, SolveError
from torch_sla.lazy import cached_property
from torch_sla.linalg.distributed.everywhere import agreed
from torch_sla.linalg.info import failed_note
from torch_sla.problems.analyses.analysis import inside
from torch_sla.problems.analyses.sweep import Sweep, case_rows, failed_of, write_cases
from torch_sla.problems.analyses.table import completed, write_table
from torch_sla.problems.distributed.problem import Asked, DistributedProblem, shared_problem
from torch_sla.problems.distributed.solution import SolutionInParts
from torch_sla.problems.progress import Reporter
from torch_sla.problems.report.pieces import summary_of_parts
from torch_sla.problems.results import marked

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

__all__ = ["DistributedSweep", "DistributedSweepSolution"]


class DistributedSweep(DistributedProblem):
    """A sweep whose problem is in parts."""

    @cached_property
    def of(self) -> DistributedProblem:
        """The problem, in parts."""
        with self._located(), inside():
            return shared_problem(self.spec.of, self.comm, self.device)

    @property
    def division(self) -> Any:
        """The problem, cut."""
        return self.of.division

    def remembering(self) -> AbstractContextManager[None]:
        """As of the problem."""
        return self.of.remembering()

    @property
    def whole(self) -> Any:
        """The problem before it was cut."""
        return self.of.whole

    @property
    def counts(self) -> Mapping[str, int]:
        """Number of sites of each kind in the whole."""
        return self.of.counts

    @property
    def unknowns(self) -> int:
        """How many unknowns there are in the whole, of one case."""
        return self.of.unknowns

    def describe(self) -> str:
        """Return the cases, and how the problem was cut; all processes call it together."""
        names = " ".join(self.spec.every[0])
        return f"{self.of.describe()}\n  cases       {len(self.spec.every)} of {names}"

    def found(self, values: dict[str, Any], asked: Asked) -> DistributedSweepSolution:
        """Solve case after case."""
        cases, count = _Cases(self).cases(values), len(self.spec.every)
        tell = Reporter("cases", count, asked.progress)
        solutions: list[Any] = []
        starts = self._starts(asked.start, count)
        with inside(), self.of.remembering():
            for i in range(count):
                own = {name: value[i] for name, value in cases.items()}
                now = asked._replace(progress=None, start=starts[i])
                found = self.of.found({**values, **own}, now)
                solutions.append(found)
                if _shapes(found) != _shapes(solutions[0]):
                    failed = found if not found.info.converged else solutions[0]
                    raise SolveError(
                        failed.info.result,
                        f"case {i} ends at another time than those before, for a step failed "
                        f"({'; '.join(failed.info.notes)})",
                    )
                tell(i + 1, residual=found.info.residual)
        return DistributedSweepSolution(self, solutions)

    def gathered_start(self, start: Tensor) -> Any:
        """Return the starts of all cases."""
        starts = self._starts(start, len(self.spec.every))
        return [self.of.gathered_start(own) for own in starts if own is not None]

    def _starts(self, start: Tensor | None, count: int) -> list[Tensor | None]:
        """Return where each case begins: all at one state, or each at its own ``[cases, *]``."""
        if start is None:
            return [None] * count

        def each() -> list[Tensor | None]:
            c, shape = self.of.components, tuple(start.shape)
            one = 2 if c > 1 and shape[-1:] == (c,) else 1
            if start.ndim <= one:
                return [start] * count
            if start.ndim > one + 1 or shape[0] not in (1, count):
                raise ArgumentError(
                    f"start has the batch dimensions {list(shape[:-one])}; on several processes it has those of the "
                    f"cases, and there are {count}"
                )
            return list(start.expand(count, *shape[1:]))

        return agreed(self.comm, self.device, each)


def _shapes(solution: Any) -> dict[str, tuple[int, ...]]:
    """Return the shapes of outputs, which differ where marches end early."""
    return {name: tuple(value.shape) for name, value in solution.outputs.items()}


class _Cases(Sweep):
    """The cases of a sweep in parts."""

    def __init__(self, sweep: DistributedSweep) -> None:
        self.spec, self.model = sweep.spec, sweep.of
        self.declared = sweep.spec.declared
        self.dtype = getattr(torch, sweep.spec.of.solver.dtype)


class DistributedSweepSolution(SolutionInParts):
    """The solutions of all cases, on every process its own part of the fields; everything in it is differentiable.

    Attributes
    ----------
    solutions
        Of each case.
    outputs
        By name ``[cases, ...]``; of a march when its events happened, too.
    u
        ``[cases, *]``, the unknowns here of all cases as those of one solution.
    cases
        The varied values, one mapping for each case.
    """

    def __init__(self, problem: DistributedSweep, solutions: list[Any]) -> None:
        first, self.solutions = solutions[0], solutions
        own = [{**s.outputs, **getattr(s, "events", {})} for s in solutions]
        outputs = {name: torch.stack([one[name] for one in own]) for name in own[0]}
        info = solutions[-1].info
        marks = [s.info.solved for s in solutions]
        for solution in solutions[:-1]:
            info.absorb(solution.info)
        if any(mark is not None for mark in marks):
            info.solved = torch.tensor([mark is None or bool(mark.all()) for mark in marks])
            info.notes.append(failed_note("cases", failed_of(info)))
        super().__init__(problem, outputs, first.numbers, first.sizes, info, first.home)
        self.cases = problem.spec.every

    @property
    def failed(self) -> list[int]:
        """Which cases did not converge, counted from 0: some with ``throw=False``."""
        return failed_of(self.info)

    @property
    def u(self) -> Tensor:
        """The unknowns here of all cases ``[cases, *]``."""
        return torch.stack([solution.u for solution in self.solutions])

    def __getitem__(self, name: str) -> Tensor:
        if name in self.outputs:
            return super().__getitem__(name)
        return torch.stack([solution[name] for solution in self.solutions])

    def dim_of(self, name: str) -> int:
        """Return which dimension of a field counts its sites: cases come first."""
        dim: int = self.solutions[0].dim_of(name)
        return dim if dim < 0 else dim + 1

    @property
    def table(self) -> list[dict[str, Any]]:
        """One row for each case: the varied values and all numbers of the outputs that are no fields.

        Numbers of cases that did not converge are NaN.
        """
        outputs = {name: marked(value, self.info.solved) for name, value in self.outputs.items()}
        return completed(case_rows(self.cases), self.spec, outputs)

    @property
    def endings(self) -> tuple[str, ...]:
        """Files that a run writes."""
        return (".csv", ".json")

    def save(self, path: str | Path) -> list[Path]:
        """Write the table as ``.csv``, with identity as ``.json``; fields as one ``.pvtu`` for each case."""
        path = Path(path)
        if path.suffix == ".pvtu":
            digits = len(str(len(self.solutions) - 1))
            return [
                written
                for i, solution in enumerate(self.solutions)
                for written in solution.save(path.with_name(f"{path.stem}-{i:0{digits}d}.pvtu"))
            ]
        if path.suffix not in (".csv", ".json"):
            raise ArgumentError(
                f"path ends in {path.suffix!r}; a sweep in parts is saved as .csv .json (its table) or .pvtu (fields)"
            )
        told = summary_of_parts(self) if path.suffix == ".json" else {}
        if self.problem.comm.rank:
            return []
        write_cases(told, self.table, path) if told else write_table(self.table, path)
        return [path]
