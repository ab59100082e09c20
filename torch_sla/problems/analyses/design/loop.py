"""The loop: steps of the optimizer, each recorded, told and kept, so that a run can stop and go on."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from torch_sla.errors import ArgumentError, SpecError
from torch_sla.problems.analyses.design.history import History
from torch_sla.problems.analyses.design.solution import DesignSolution
from torch_sla.problems.design.optimizers.state import GROWING, SINCE, State
from torch_sla.problems.identity import fingerprint, run_identity
from torch_sla.problems.progress import Reporter
from torch_sla.problems.specs.hashing import spec_hash

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from torch import Tensor

    from torch_sla.problems.analyses.design.model import Design
    from torch_sla.problems.checkpoint import Checkpoint, Checkpoints
    from torch_sla.problems.progress import ProgressCallback

__all__ = ["search"]

LIMIT = "max_iterations"


def search(
    design: Design,
    given: Mapping[str, Any],
    start: Mapping[str, Tensor],
    *,
    folder: str | Path | None = None,
    resume: str | Path | None = None,
    progress: ProgressCallback | None = None,
    pictures: int = 0,
) -> DesignSolution:
    """Run or go on with a search; see `DesignProblem.solve`."""
    design.check_methods(given, start)
    with design.opened(folder, resume, _identity(design, given, start)) as (states, found):
        run = _Run(design, given, start, states, progress, pictures)
        state = run.begin() if found is None else run.go_on(found)
        while True:
            state = _stage(run, state)
            if run.stage + 1 == len(design.spec.staged):
                return run.result(state)
            state = run.next(state)


def _stage(run: _Run, state: State) -> State:
    """Search until the optimizer ends."""
    # A generator that holds a thread, as those around libraries do, ends with this block.
    steps = run.optimizer.iterate(state, run.oracle)
    try:
        for state in steps:
            run.after(state)
    finally:
        steps.close()
    return state


def _identity(
    design: Design, given: Mapping[str, Any], start: Mapping[str, Tensor]
) -> dict[str, Any]:
    """Return what a run must share to go on to the same bits; a higher limit of steps may go on further."""
    spec = design.spec
    if not spec.stages:
        spec = spec.updated(optimizer=replace(spec.optimizer, **{LIMIT: 1}))
    starts = {f"start {case}": u for case, u in design.recognised(start).items()}
    return {
        **run_identity(design, given),
        "spec_hash": spec_hash(spec),
        "values": fingerprint({**given, **starts}),
    }


class _Run:
    """One run: what happens around the steps."""

    def __init__(
        self,
        design: Design,
        given: Mapping[str, Any],
        start: Mapping[str, Tensor],
        states: Checkpoints | None,
        progress: ProgressCallback | None,
        pictures: int,
    ) -> None:
        self.whole, self.given, self.start, self.states = design, given, start, states
        self.progress, self.pictures = progress, pictures
        self.history = History()
        self.first = 1.0
        self.offset = 0
        self._clock = time.monotonic()
        self._solves = 0
        self._logged: Collection[str] = frozenset()
        self._written: tuple[int, Collection[str]] = (-1, self._logged)
        self._enter(0)

    def _enter(self, stage: int) -> None:
        """Take the declaration of a stage; structure that it shares with others is made once."""
        self.stage, self._logged = stage, frozenset()
        self.design = self.whole if stage == 0 else self.whole.later[stage - 1]
        self.optimizer = self.design.spec.optimizer
        self.oracle = self.design.oracle(self.given, self.start)

    def begin(self) -> State:
        """Evaluate the start."""
        self._report(0)
        return self._first(self.oracle.start)

    def next(self, state: State) -> State:
        """Begin the next stage where the last one ended."""
        self.offset += state.iteration + 1
        done, last, models = self.oracle.evaluations, self.oracle.forward, self.design.models
        self._enter(self.stage + 1)
        now = self.design.models
        alike = {case for case in models if models[case].compiled.key == now[case].compiled.key}
        self.oracle.forward.begin_as(last, alike)
        if self.oracle.start.shape != state.x.shape:
            raise SpecError(
                f"it has {self.oracle.start.numel()} unknowns, and the one before {state.x.numel()}",
                path=f"stages.{self.stage - 1}",
            )
        self.oracle.evaluations = done
        return self._first(state.x)

    def _first(self, x: Tensor) -> State:
        oracle = self.oracle
        x = x.clamp(oracle.lower, oracle.upper)
        oracle.sizes = oracle.measure(x, oracle.begin(x))
        state: State = self.optimizer.start(oracle, x, oracle.lower, oracle.upper)
        self.first = float(state.figures.get("optimality", 1.0)) or 1.0
        self.after(state)
        return state

    def _report(self, done: int) -> None:
        limits = [spec.optimizer.max_iterations for spec in self.whole.spec.staged]
        self.report = Reporter("design", sum(limits) + len(limits) - 1, self.progress, done)

    def go_on(self, found: Checkpoint) -> State:
        """Return the state that was kept.

        Raises
        ------
        ArgumentError
            If it lacks something, which only a state of another version does: what is damaged is skipped.
        """
        try:
            state = self._restored(found)
        except KeyError as error:
            raise ArgumentError(
                f"resume: the state of step {found.step} has no {error}, so another version of torch_sla wrote it; go "
                "on with that version, or start again in another folder"
            ) from error
        self._report(self.offset + state.iteration)
        # What ended the run may have come between the state and these files.
        self.whole.alone(self._write_history)
        return state

    def _restored(self, found: Checkpoint) -> State:
        data = found.data
        own = {n: t for n, t in found.tensors.items() if not n.startswith("forward.")}
        kept = {
            n.removeprefix("forward."): t
            for n, t in found.tensors.items()
            if n.startswith("forward.")
        }
        self._enter(int(data["stage"]))
        self.offset = int(data["offset"])
        prefix = f"{self.stage} "
        own = {n.removeprefix(prefix): t for n, t in own.items()}
        self._logged = {n for n in own if n.startswith(f"memory.{GROWING}")}
        state = State.unpack(own, data["state"])
        self._written = (self.offset + state.iteration, set())
        self.oracle.forward.unpack(kept, data["forward"])
        self.oracle.settle()
        self.oracle.evaluations = self._solves = int(data["evaluations"])
        self.oracle.equalities = self.oracle.equalities.new_tensor(data["equalities"])
        if data["sizes"] is not None:
            self.oracle.sizes = torch.tensor(data["sizes"], dtype=torch.float64)
        self.history = History(data["history"])
        self.first = float(data["first"])
        most, taken = self.optimizer.max_iterations, state.iteration
        if taken < most and not state.converged and LIMIT in state.reason:
            state = replace(state, reason="")
        elif taken >= most and not state.done:
            why = f"{LIMIT} = {most}, and the run that goes on had taken {taken} steps"
            state = replace(state, reason=f"{why}; {state.outlook}")
        return state

    def after(self, state: State) -> None:
        """Record, keep and tell an iteration."""
        oracle, forward = self.oracle, self.oracle.forward
        now, iteration = time.monotonic(), self.offset + state.iteration
        declared = oracle.declared(state.evaluation)
        row: dict[str, Any] = {
            "iteration": iteration,
            "objective": state.value,
            "gradient": float(state.gradient.norm()),
            **{n: float(v) for n, v in state.figures.items()},
            **{f"constraint_{i}": float(c) for i, c in enumerate(declared.constraints.tolist())},
            "solves": oracle.evaluations - self._solves,
            "seconds": now - self._clock,
        }
        if forward.rtol is not None:
            row["rtol"] = forward.rtol
        if self.whole.spec.stages:
            row["stage"] = self.stage
        self._clock, self._solves = now, oracle.evaluations
        if self.history and self.history[-1]["iteration"] == iteration:
            self.history.rows.pop()  # the last one ended the search in words only
        self.history.append(row)
        oracle.accept(state.x)
        forward.follow(min(1.0, float(state.figures.get("optimality", self.first)) / self.first))
        if forward.depends:
            oracle.refresh()
        self.whole.alone(lambda: self._keep(state, iteration))
        self.report(iteration, **{n: float(v) for n, v in row.items() if n != "iteration"})

    def _keep(self, state: State, iteration: int) -> None:
        if self.states is None:
            return
        tensors, data = state.pack()
        fresh = self._fresh(tensors, iteration)
        forward, remembered = self.oracle.forward.pack()
        self.states.save(
            iteration,
            {**tensors, **{f"forward.{n}": t for n, t in forward.items()}},
            {
                "state": data,
                "forward": remembered,
                "evaluations": self.oracle.evaluations,
                "equalities": self.oracle.equalities.tolist(),
                "sizes": None if self.oracle.sizes is None else self.oracle.sizes.tolist(),
                "history": self.history.rows,
                "first": self.first,
                "stage": self.stage,
                "offset": self.offset,
            },
            fresh,
            self.offset + int(state.memory.get(SINCE, 0)),
        )
        self._write_history()
        if self.pictures and (iteration % self.pictures == 0 or state.done):
            self.design.picture(self._values(state), self.states.directory, iteration)

    def _write_history(self) -> None:
        if self.states is not None:
            self.history.save(self.states.directory / "history.csv")
            self.history.save(self.states.directory / "history.json")

    def _fresh(self, tensors: dict[str, Tensor], iteration: int) -> dict[str, Tensor]:
        """Take what only grows out of the tensors of a state; return what no file before this step's holds."""
        grown = {n: tensors.pop(n) for n in list(tensors) if n.startswith(f"memory.{GROWING}")}
        if iteration != self._written[0]:
            self._written = (iteration, self._logged)
        before, self._logged = self._written[1], grown.keys()
        return {f"{self.stage} {n}": t for n, t in grown.items() if n not in before}

    def _values(self, state: State) -> dict[str, Tensor]:
        values = self.oracle.unknowns.values(state.x.detach())
        return {name: value.detach() for name, value in values.items()}

    def result(self, state: State) -> DesignSolution:
        """Solve once more at the best design that was found, to full accuracy."""
        if (
            not self.oracle.forward.depends
        ):  # else values of steps are as accurate as they needed to be
            state = self.optimizer.best(state, self.oracle)
        state = replace(state, evaluation=self.oracle.declared(state.evaluation))
        violated = self.oracle.violated(state.x, state.evaluation)
        if violated > self.optimizer.constraint_tolerance:
            why = f"{state.reason}; constraints are violated by up to {violated:.3g}"
            if state.converged:
                why += (
                    " of their size here, far below that at the start; start again from this design"
                )
            state = replace(state, reason=why, converged=False)
        values = self._values(state)
        solutions = self.oracle.forward.exact(values, self.design.models)
        return DesignSolution(self.whole, state, values, solutions, self.history, self.offset)
