"""Problems in time: march, take outputs at every time, differentiate through all steps."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, SpecError
from torch_sla.linalg import SolveInfo
from torch_sla.problems.analyses.analysis import Analysis, inside
from torch_sla.problems.analyses.grid import TimeGrid
from torch_sla.problems.analyses.march import March
from torch_sla.problems.analyses.readings import readable
from torch_sla.problems.analyses.schemes import scheme_of
from torch_sla.problems.analyses.series import Damping, Series
from torch_sla.problems.analyses.stepping import stepper_of
from torch_sla.problems.analyses.table import completed, write_table
from torch_sla.problems.analyses.taking import Taking
from torch_sla.problems.lowering.damping import proportional
from torch_sla.problems.lowering.parameters import Given, refuse_broken
from torch_sla.problems.lowering.scene import Scene
from torch_sla.problems.lowering.sites import DofSites, Spread
from torch_sla.problems.lowering.told import check_defaults, needs_no_value
from torch_sla.problems.solution import Solution
from torch_sla.problems.specs.arrays import numbers
from torch_sla.problems.specs.laws import check_rank
from torch_sla.problems.specs.transient import SCHEMES as ORDERS
from torch_sla.problems.specs.value import ArrayFile, Parameter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch_sla.problems.analyses.schemes import State, Step
    from torch_sla.problems.analyses.watching import Watching
    from torch_sla.problems.lowering.model import Model
    from torch_sla.problems.lowering.outputs import Taken
    from torch_sla.problems.specs.transient import TransientProblem

__all__ = ["Transient", "TransientSolution"]


class Transient(Analysis):
    """Lowers `TransientProblem`."""

    spec: TransientProblem

    def _structure(self) -> str:
        return f"{self.spec.method} {self.spec.steps}"

    # -- verbs ----------------------------------------------------------------------------------

    def solve(
        self,
        values: Mapping[str, Any],
        *,
        points: Tensor | None = None,
        start: Tensor | None = None,
        info: bool = False,
        throw: bool = True,
        watch: Watching | None = None,
    ) -> TransientSolution:
        """March from the start to the end.

        Parameters
        ----------
        throw
            Whether a step that fails raises; else the results end before it, and ``info`` says why.
        watch
            Someone who follows, and may say where to go on.
        """
        del info
        spec, model = self.spec, self.model
        if start is not None:
            raise ArgumentError("start: the state at the start is said by initial")
        self._refuse_mass()
        series, plain = self._series(values)
        with inside():
            scene = model.scene(
                plain,
                points,
                mass=True,
                timed=True,
                declared=self.declared,
                reaching=self.own_names,
            )
        stepper = stepper_of(spec)
        scheme, explicit = scheme_of(spec), spec.method == "explicit"
        damping = self._damping(scene)
        over = Series(series, spec.end, spec.steps)
        with inside():
            order, count = ORDERS[spec.method], len(stepper.intervals)
            grid = TimeGrid(model, scene, over, count, damping, order=order, lumped=explicit)
        u = self._law(scene, spec.initial, "initial")
        v = self._law(scene, spec.initial_velocity or 0.0, "initial_velocity")
        batch = grid.batch(u, v)
        u = grid.given(0.0, u.expand(*batch, -1))
        constraint = model.compiled.constraint
        v = constraint.recover(constraint.restrict(v.expand(*batch, -1)), grid.given_velocity())
        if explicit:
            grid.check_step(u, spec.end / spec.steps)
        rows = sum(row is not None for row in stepper.rows)
        taking = self._taking(scene, batch, rows)
        march = March(
            grid,
            scheme,
            stepper,
            partial(taking.record, scheme),
            taking.stop,
            keep=spec.checkpoints,
            throw=throw,
            watch=watch,
        )
        state, records = march.run(scheme.start(grid, u, v))
        return self._solution(march, taking, state, records)

    def _taking(self, scene: Scene, batch: tuple[int, ...], rows: int) -> Taking:
        return Taking(self.spec, batch, readable(self.model, scene), rows)

    def _damping(self, scene: Scene) -> Damping:
        names = ("mass_damping", "stiffness_damping")
        return Damping(*(proportional(getattr(self.spec, n), scene, n) for n in names))

    def _solution(
        self, march: March, taking: Taking, state: State, records: dict[str, Tensor]
    ) -> TransientSolution:
        """Put everything together."""
        steps = march.course.steps
        end = steps[-1][0].end if steps else 0.0
        taken = taking.taken(march.scheme, march.grid, end, state, known=bool(steps))
        report, times, events, records = self._report(march, taking, state, records)
        if report.converged:
            taken.model.caution([(taken.scene, taken.u.detach())], report.notes)
        return TransientSolution(self, taken, records, events, report, times, steps, state)

    def _report(
        self, march: March, taking: Taking, state: State, records: dict[str, Tensor]
    ) -> tuple[SolveInfo, Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Return how a march went, the times of the rows, when events happened, and the rows that are shown."""
        course, stepper = march.course, march.stepper
        end = course.steps[-1][0].end if course.steps else 0.0
        method = self.spec.method
        report = march.grid.info = course.info or SolveInfo(method=method)
        report.notes = [*report.notes, f"{len(course.steps)} steps of {method}", *course.notes]
        if course.failure is not None:
            failed = course.failure
            report.result = failed.result
            report.notes.append(f"failed after t = {end:.6g}: {failed.detail}")
        ends = ([0.0] if stepper.rows[0] is not None else []) + [
            step.end for step, row in course.steps if row is not None
        ]
        times = torch.tensor(ends, dtype=self.dtype, device=self.device)
        if not ends:  # it failed before the first time that is asked for
            with torch.no_grad():
                like = taking.record(march.scheme, march.grid, 0.0, state, True)
            records = {name: value.new_empty(0, *value.shape) for name, value in like.items()}
        events = taking.events(times, records)
        if events and len(stepper.shown) < len(stepper.rows):
            # The last row too, where an event ended the march.
            early = [len(ends) - 1] if len(ends) < len(stepper.rows) else []
            some = sorted({k for k in stepper.shown if k < len(ends)}.union(early))
            index = torch.tensor(some, device=times.device)
            records = {name: value.index_select(0, index) for name, value in records.items()}
            times = times[index]
        return report, times, events, records

    def check(self) -> Any:
        """Check everything that needs no value, the state at the start included; return the mesh."""
        found = super().check()
        self._refuse_mass()
        check_defaults(self.model, self.declared)
        scene = Scene(self.model, Given(), self.model.geometry)
        for name in ("initial", "initial_velocity"):
            law = getattr(self.spec, name)
            if law is not None and needs_no_value(law):
                self._law(scene, law, name)
        return found

    def _refuse_mass(self) -> None:
        """Raise where the scheme cannot take the mass of the problem."""
        if self.model.timed_mass:
            raise SpecError(
                "it depends on time, and the mass is made once; move what changes to the other side",
                path=f"of.{self.model.timed_mass}",
            )
        if self.spec.method == "explicit" and self.model.upwinded:
            raise SpecError(
                "explicit lumps the mass, which is tested along the flow here; take newmark, or stabilization: none in "
                "the problem",
                path="scheme",
            )

    def _law(self, scene: Scene, law: Any, path: str) -> Tensor:
        """Evaluate a law of place at the dofs of the first unknown: ``[*batch, n]``."""
        return self._law_on(self.model, scene, law, path)

    @staticmethod
    def _law_on(model: Model, scene: Scene, law: Any, path: str) -> Tensor:
        name, dofs = next(iter(model.ranks)), model.dofs
        nodes = torch.arange(dofs.n_nodes, device=model.device)
        sites = DofSites(dofs.points(scene.geometry.points), nodes, Spread(dofs))
        here = scene.like(scene.given)
        here.time = torch.zeros((), dtype=model.dtype, device=model.device)
        value = here.evaluate(law, sites, path)
        check_rank(value.rank, (0, 1), path, value.tensor.shape[value.tensor.ndim - value.rank :])
        c, tensor = dofs.components, value.tensor
        if value.rank == 0:
            tensor = tensor[..., None]
        if tensor.shape[-1] not in (1, c) or (value.rank == 1 and tensor.shape[-1] != c):
            raise SpecError(
                f"the value has {tensor.shape[-1]} components; the unknown has {c}", path=path
            )
        tensor = tensor[..., 0, :]
        full = tensor.expand(*tensor.shape[:-2], dofs.n_nodes, c).flatten(-2)
        return model.numbering.placed(full.to(model.field_dtype), name)

    def _series(
        self, values: Mapping[str, Any]
    ) -> tuple[dict[str, tuple[Tensor, int]], dict[str, Any]]:
        """Separate values that have one entry for each time from those that have one for all."""
        series, plain = {}, dict(values)
        for name, parameter in self.declared.items():
            value = values.get(name, parameter.default)
            if parameter.time is None or value is None or isinstance(value, str):
                continue
            if isinstance(value, ArrayFile):
                value = numbers(value.file, value.key, name)
            tensor = value if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value))
            if tuple(tensor.shape) in ((), tuple(parameter.shape)):
                continue  # the same at all times
            home = [] if parameter.on == "constant" else [self.counts[parameter.on]]
            wanted = (self.spec.steps + 1, *home, *parameter.shape)
            if tuple(tensor.shape[-len(wanted) :]) != wanted:
                text = ", ".join(["*batch", *map(str, wanted)])
                raise ArgumentError(
                    f"{name!r} has shape {tuple(tensor.shape)}; expected [{text}], one for each of the "
                    f"{self.spec.steps + 1} times"
                )
            refuse_broken(tensor, repr(name))
            axis = tensor.ndim - len(wanted)
            plain[name] = tensor.select(axis, 0)
            moved = tensor.to(device=self.device, dtype=self.dtype)
            series[name] = (moved, axis)
        return series, plain

    def defaults(
        self, names: Sequence[str], declared: Mapping[str, Parameter] | None = None
    ) -> dict[str, Tensor]:
        """Return the default values of some parameters, one per site and time."""
        found = super().defaults(names, declared)
        for name, value in found.items():
            parameter = self.declared[name]
            own = len(parameter.shape) + (parameter.on != "constant")
            if parameter.time is not None and value.ndim == own:  # files may have one for each time
                found[name] = value.expand(self.spec.steps + 1, *value.shape)
        return found

    def describe(self, values: Mapping[str, Any]) -> list[str]:
        """Return lines on the scheme, the problem and its plan."""
        spec, model = self.spec, self.model
        once = "made again for each time" if model.timed_matrix else "made and factorised once"
        if model.nonlinear:
            once = "in Newton's method, in each step"
        if spec.adaptive is not None:
            once += f", halved to keep the error of each below {spec.adaptive.rtol:g}"
        line = (
            f"  time        {spec.steps} steps of {spec.end / spec.steps:.6g} to {spec.end:.6g}, {spec.method}; "
            f"operators {once}"
        )
        return [line, *super().describe(values)]


class TransientSolution(Solution):
    """What a problem in time gives; everything in it is differentiable.

    Attributes
    ----------
    u
        The (first) field at the end.
    outputs
        ``[*batch, steps + 1, ...]`` by name.
    times
        ``[steps + 1]`` (s), or those that were asked for; fewer where an event or a failure ended the march.
    step_times
        Ends of all steps, 0 first; with adaptive steps there are more of them.
    events
        When each event happened first ``[*batch]``; infinity where it did not.
    history
        What ``save`` asked for, by name: ``[*batch, steps + 1, n_nodes(, dim)]``; of several fields flat.
    velocity, acceleration
        At the end, in the shape of ``u``; acceleration with two derivatives in time only.
    """

    def __init__(
        self,
        analysis: Transient,
        taken: Taken,
        records: Mapping[str, Tensor],
        events: Mapping[str, Tensor],
        info: SolveInfo,
        times: Tensor,
        steps: Sequence[tuple[Step, int | None]],
        state: State,
    ) -> None:
        axis = state[0].ndim - 1
        moved = {name: value.movedim(0, axis) for name, value in records.items()}
        outputs = {name: value for name, value in moved.items() if not name.startswith(" ")}
        super().__init__(taken, outputs, info)
        self.analysis = analysis
        home, dtype = self.u.device, analysis.dtype
        self.times = times.to(home)
        self.step_times = torch.tensor(
            [0.0, *(step.end for step, _ in steps)], dtype=dtype, device=home
        )
        histories = {n[1:]: value for n, value in moved.items() if n.startswith(" ")}
        self.history = {name: self._shaped(value) for name, value in histories.items()}
        self.velocity = self._shaped(state[1])
        second = ORDERS[analysis.spec.method] == 2
        self.acceleration = self._shaped(state[2]) if second else None
        self.events = {name: when.to(home) for name, when in events.items()}

    def _shaped(self, value: Tensor) -> Tensor:
        model = self.model
        if len(model.ranks) > 1:
            return value.to(self.u.device)
        return model.numbering.shaped(value, next(iter(model.ranks))).to(self.u.device)

    @property
    def spec(self) -> TransientProblem:
        """The declaration that was solved."""
        return self.analysis.spec

    @property
    def endings(self) -> tuple[str, ...]:
        """Files that a run writes: the last state, all that were saved, the outputs over time, identity."""
        if self.batch:
            return super().endings
        return (".vtu", *((".xdmf",) if self.history else ()), ".csv", ".json")

    @property
    def table(self) -> list[dict[str, float]]:
        """One row for each time: the time and all numbers of the outputs that are no fields."""
        if self.batch:
            raise ArgumentError(
                f"the outputs have batch dimensions {list(self.batch)}; a table holds one member"
            )
        rows = [{"t": float(t)} for t in self.times]
        return completed(rows, self.spec, self.outputs)

    def save(self, path: str | Path) -> None:
        """Write as `Solution.save` does; ``.csv`` is the outputs over time, ``.npz`` holds times and histories too."""
        path = Path(path)
        if path.suffix == ".csv":
            write_table(self.table, path)
        elif path.suffix == ".npz":
            from torch_sla.problems.report.save import write_arrays

            more = {"times": self.times, "points": self.points}
            more |= {f"history.{name}": value for name, value in self.history.items()}
            more |= {f"event.{name}": value for name, value in self.events.items()}
            write_arrays(path, self, more)
        else:
            super().save(path)
