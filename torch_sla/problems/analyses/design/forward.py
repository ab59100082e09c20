"""The forward solves of a search: all problems at one design, as hard as the search needs them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch_sla.errors import ArgumentError, SpecError
from torch_sla.linalg.precond.multigrid.lagged import LaggedMultigrid
from torch_sla.problems.analyses.analysis import inside
from torch_sla.problems.lowering.parameters import among_others
from torch_sla.problems.specs.of import innermost
from torch_sla.problems.specs.variable import POINTS, Effort

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from torch import Tensor

    from torch_sla.problems.specs.design import DesignProblem
    from torch_sla.problems.specs.problem import Problem

__all__ = ["Forward"]


class Forward:
    """Solves all problems; what it remembers from solve to solve was asked for, and can be saved.

    Parameters
    ----------
    spec
        The declaration.
    models
        The lowered problems by name.
    given
        Parameters that do not vary.
    start
        Where the solves of a problem begin, by its name; those of others begin where they do by themselves.
    """

    def __init__(
        self,
        spec: DesignProblem,
        models: Mapping[str, Any],
        given: Mapping[str, Any],
        start: Mapping[str, Tensor],
    ) -> None:
        self.spec, self.effort = spec, spec.effort
        self.given = dict(given)
        self.rtol: float | None = spec.effort.first_rtol
        self._models: dict[tuple[str, float | None], Any] = {}
        if not self.depends:
            self._models = {(case, None): model for case, model in models.items()}
        self._memories = {
            case: LaggedMultigrid(keep=self.effort.multigrid)
            for case in spec.parts
            if self.effort.multigrid != "new"
        }
        self._start = dict(start)
        self._latest: dict[str, Tensor] = {}

    @property
    def depends(self) -> bool:
        """Whether results depend on the history of the search, within the tolerance."""
        return self.effort != Effort()

    def __call__(self, values: Mapping[str, Tensor]) -> dict[str, Any]:
        """Solve at values of the variables; return the solutions by name."""
        found = {}
        for case, problem in self.spec.parts.items():
            every = {**self.given, **values}
            points = values.get(POINTS)
            own = {n: v for n, v in every.items() if n in problem.declared}
            extra = {} if points is None else {POINTS: points}
            with inside(f"of.{case}" if case else "of"), among_others():
                model = self._model(case, problem)
                found[case] = model.solve(own, start=self._start.get(case), **extra)
            if case in self._start and found[case].batch:
                raise ArgumentError(
                    f"start: a search follows one solution, and these are {list(found[case].batch)}; give one start"
                )
        if self.effort.warm_start:
            self._latest = {case: _flat(s).detach().clone() for case, s in found.items()}
        return found

    def accept(self) -> None:
        """Let later solves start from the latest solution: it is no trial any more."""
        if self._latest:
            self._start, self._latest = self._latest, {}

    def exact(self, values: Mapping[str, Tensor], models: Mapping[str, Any]) -> dict[str, Any]:
        """Solve to the tolerances of the problems, on the branch of solutions that the search was on."""
        plain = Forward(self.spec.updated(effort=Effort()), models, self.given, self._start)
        return plain(values)

    def begin_as(self, last: Forward, alike: Collection[str]) -> None:
        """Begin where the solves of an earlier stage have ended, of the problems that are `alike` in structure."""
        if self.effort.warm_start:
            self._start |= {case: u for case, u in last._start.items() if case in alike}

    def follow(self, share: float) -> None:
        """Set the tolerance for the next iteration.

        Parameters
        ----------
        share
            How far the optimality has fallen since the start, 1 to 0.
        """
        first = self.effort.first_rtol
        if first is not None:
            # A few levels, so that a few problems serve all iterations.
            wanted = min(first, self.effort.follow * share)
            level = 1.0
            while level > wanted and level > 1e-16:
                level /= 10.0
            self.rtol = min(first, level)

    def _model(self, case: str, problem: Problem) -> Any:
        key = (case, self.rtol)
        if key not in self._models:
            changes: dict[str, Any] = {}
            own = innermost(problem).solver
            if self.rtol is not None:
                last = own.rtol or (1e-10 if own.dtype == "float64" else 1e-5)
                changes["rtol"] = max(last, self.rtol)
            if case in self._memories:
                if own.preconditioner not in ("auto", "multigrid"):
                    raise SpecError(
                        f"the problem asks for {own.preconditioner!r}, which is no multigrid",
                        path="effort.multigrid",
                    )
                changes["preconditioner"] = self._memories[case]
            self._models[key] = _with_solver(problem, changes).compile()
        return self._models[key]

    # -- checkpoints ----------------------------------------------------------------------------

    def pack(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return what later solves depend on, as tensors and as JSON has it."""
        kept_starts = self._start if self.effort.warm_start else {}
        tensors = {f"start.{case}": u for case, u in kept_starts.items()}
        data: dict[str, Any] = {"rtol": self.rtol, "multigrid": {}}
        for case, memory in self._memories.items():
            kept = memory.state_dict()
            if kept:
                tensors[f"multigrid.{case}"] = kept.pop("values")
                data["multigrid"][case] = kept
        return tensors, data

    def unpack(self, tensors: Mapping[str, Tensor], data: Mapping[str, Any]) -> None:
        """Go on from what `pack` returned."""
        self.rtol = data["rtol"]
        self._start |= {
            n.removeprefix("start."): t for n, t in tensors.items() if n.startswith("start.")
        }
        for case, kept in data["multigrid"].items():
            self._memories[case].load_state_dict({"values": tensors[f"multigrid.{case}"], **kept})


def _flat(solution: Any) -> Tensor:
    inner = getattr(solution, "solution", solution)
    return inner.flat


def _with_solver(problem: Problem, changes: Mapping[str, Any]) -> Problem:
    """Return the same problem, solved in another way."""
    if problem.inner is not None:
        return _copied(problem, of=_with_solver(problem.inner, changes))
    return _copied(problem, solver=problem.solver.model_copy(update=dict(changes)))


def _copied(problem: Problem, **changes: Any) -> Problem:
    copy = problem.model_copy(update=changes)
    copy.forget()
    return copy
