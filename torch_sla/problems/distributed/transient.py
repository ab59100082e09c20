"""Problems in time in parts: the march of one process, on vectors that several hold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.lazy import cached_property
from torch_sla.linalg.distributed.communicator import described
from torch_sla.problems.analyses.analysis import inside
from torch_sla.problems.analyses.series import Damping
from torch_sla.problems.analyses.table import completed, write_table
from torch_sla.problems.analyses.taking import Taking
from torch_sla.problems.analyses.transient import Transient
from torch_sla.problems.distributed.division import Division
from torch_sla.problems.distributed.keeping import watched
from torch_sla.problems.distributed.outputs import Motion, TakenInParts
from torch_sla.problems.distributed.problem import Asked, DistributedProblem
from torch_sla.problems.distributed.scene import Verdict, refuse_batch
from torch_sla.problems.distributed.solution import DistributedSolution, numbers_of_fields
from torch_sla.problems.report.pieces import Frame
from torch_sla.problems.specs.outputs import Field
from torch_sla.problems.specs.transient import SCHEMES as ORDERS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from torch_sla.problems.analyses.grid import TimeGrid
    from torch_sla.problems.analyses.march import March
    from torch_sla.problems.analyses.schemes import Scheme, State
    from torch_sla.problems.analyses.watching import Watching
    from torch_sla.problems.distributed.model import SharedModel
    from torch_sla.problems.distributed.scene import SharedScene

__all__ = ["DistributedTransient", "DistributedTransientSolution"]


class DistributedTransient(DistributedProblem):
    """A problem in time in parts; every process marches with its own part of the unknowns."""

    goes_on = True

    @cached_property
    def division(self) -> Division:
        """The physics, cut."""
        with self._located(), inside():
            return Division(self.spec.of, self.comm, self.device, steady=False)

    @cached_property
    def _lowered(self) -> _SharedTransient:
        return _SharedTransient(self.spec, self.model, self)

    def describe(self) -> str:
        """Return the steps, and how the physics was cut; all processes call it together."""
        spec = self.spec
        steps = (
            f"{spec.steps} steps of {spec.end / spec.steps:.6g} to {spec.end:.6g}, {spec.method}"
        )
        return f"{super().describe()}\n  time        {steps}"

    def found(self, values: dict[str, Any], asked: Asked) -> DistributedTransientSolution:
        """March."""
        with self.remembering(), self._watched(values, asked) as watch:
            found: DistributedTransientSolution = self._lowered.solve(  # type: ignore[assignment]
                values,
                points=asked.points,
                start=asked.start,
                throw=asked.throw,
                watch=watch,
            )
        return found

    def _watched(self, values: dict[str, Any], asked: Asked) -> AbstractContextManager[Watching]:
        fields = numbers_of_fields(self.division)

        def cut(name: str) -> str | None:
            own = name.startswith((" ", "state.")) or (
                name.startswith("past.") and name.endswith(".u")
            )
            return " unknowns" if own else name if name in fields else None

        numbers = {" unknowns": self.division.layout.names, **fields}
        return watched(self, values, asked, numbers, cut)


class _SharedTransient(Transient):
    """Lowers a problem in time to a march in parts."""

    def __init__(self, spec: Any, model: SharedModel, problem: DistributedTransient) -> None:
        self.spec, self.model, self.problem = spec, model, problem
        self.declared = spec.declared
        self.dtype, self.device = model.whole.dtype, model.device

    def _series(
        self, values: Mapping[str, Any]
    ) -> tuple[dict[str, tuple[Tensor, int]], dict[str, Any]]:
        series, plain = super()._series(values)
        for name, (tensor, axis) in series.items():
            refuse_batch(repr(name), tensor.shape[:axis])
        self.model.comm.agree(
            {f"the parameter {n!r}": described(x) for n, (x, _) in series.items()}
        )
        both = self.model.replicated(Verdict(), tuple(x for x, _ in series.values()))
        return {n: (x, 0) for n, x in zip(series, both, strict=True)}, plain

    def _taking(self, scene: Any, batch: tuple[int, ...], rows: int) -> Taking:
        del scene  # in parts every output is taken as it is
        return _TakingInParts(self.spec, batch, frozenset(), rows)

    def _anywhere(self, scene: SharedScene) -> Any:
        """Return the scene of some cells: what holds for the whole body is seen from any."""
        shares = self.model.division.shares
        return scene.of(shares[0].rows if shares else self.model.whole)

    def _damping(self, scene: Any) -> Damping:
        found = super()._damping(self._anywhere(scene))
        return Damping(*(None if x is None else x.to(self.device) for x in found))

    def _law(self, scene: Any, law: Any, path: str) -> Tensor:
        model: SharedModel = self.model
        return model.collected(
            scene,
            lambda share, at: self._law_on(share.rows, at, law, path),
            model.own_values,
        )

    def _solution(self, march: March, taking: Any, state: State, records: dict[str, Tensor]) -> Any:
        report, times, events, shown = self._report(march, taking, state, records)
        base: Any = march.grid.base
        steps = [step.end for step, _ in march.course.steps]
        return DistributedTransientSolution(
            self.problem, state, shown, events, report, times, steps, base
        )


class _TakingInParts(Taking):
    """Takes outputs of all parts together."""

    def taken(self, scheme: Scheme, grid: TimeGrid, t: float, state: State, *, known: bool) -> Any:
        """Return what outputs are taken from."""
        model: Any = grid.model
        first = ORDERS[self.spec.method] == 1
        inertia = velocity = momentum = None
        if known or not first:
            inertia = grid.mass(scheme.rate(state))
            drag = None if first else grid.damping(state[1])
            inertia = inertia if drag is None else inertia + drag
        if not first:
            velocity, momentum = state[1], grid.momentum(state[1])
        motion = Motion(inertia, velocity, momentum)
        scene: Any = grid.now(t).scene
        return TakenInParts(model.division, scene, state[0], motion)


class DistributedTransientSolution(DistributedSolution):
    """A march in parts, on every process its own part of the fields; everything in it is differentiable.

    Attributes
    ----------
    u, velocity, acceleration
        At the end, at the nodes that belong to this process; acceleration with two derivatives in time only.
    outputs
        ``[rows, ...]`` by name; of a `Field`, this process's sites come second.
    times
        ``[rows]`` (s).
    step_times
        Ends of all steps, 0 first.
    events
        When each event happened first; infinity where it did not.
    history
        What ``save`` asked for, by name: ``[rows, n(, dim)]``; of several fields flat.
    """

    def __init__(
        self,
        problem: DistributedTransient,
        state: State,
        records: Mapping[str, Tensor],
        events: Mapping[str, Tensor],
        info: Any,
        times: Tensor,
        steps: list[float],
        scene: SharedScene,
    ) -> None:
        home = scene.home
        outputs = {n: value for n, value in records.items() if not n.startswith(" ")}
        super().__init__(problem, state[0], outputs, info, home, scene.points)
        spec, dtype = problem.spec, problem.division.model.dtype
        self.times = times.to(home)
        self.step_times = torch.tensor([0.0, *steps], dtype=dtype, device=home)
        self.velocity = self._shown(state[1])
        self.acceleration = self._shown(state[2]) if ORDERS[spec.method] == 2 else None
        saved = {n[1:]: x for n, x in records.items() if n.startswith(" ")}
        self.history = {name: self._shown(x) for name, x in saved.items()}
        self._states = saved.get("u")
        for name in self.history:
            self.numbers[f"history.{name}"], self.sizes[f"history.{name}"] = self._counted
        self.events = {name: when.to(home) for name, when in events.items()}
        for name, when in self.events.items():
            at = float(when.detach())
            info.notes.append(f"{name} " + (f"at t = {at:.6g}" if at < torch.inf else "never"))

    def _shown(self, u: Tensor) -> Tensor:
        """Return unknowns ``[*, n_held]`` at the nodes here; of several fields flat, as one process does."""
        shown = self.problem.division.shown
        if len(shown) == 1:
            return self._shaped(u)
        places = torch.cat([place.flatten() for _, place in shown.values()])
        return u.index_select(-1, places).to(self.home)

    @cached_property
    def _counted(self) -> tuple[Tensor, int]:
        """Numbers in the whole of what `_shown` shows, and how many there are."""
        division = self.problem.division
        if len(division.shown) == 1:
            return self.numbers["u"], self.sizes["u"]
        found, start = [], 0
        for name, (number, place) in division.shown.items():
            c = place.shape[1]
            each = number[:, None] * c + torch.arange(c, device=number.device)
            found.append(start + each.flatten())
            start += division.n_nodes[name] * c
        return torch.cat(found).to(self.home), start

    def __getitem__(self, name: str) -> Tensor:
        kind, _, own = name.partition(".")
        if kind == "history" and own in self.history:
            return self.history[own]
        return super().__getitem__(name)

    def dim_of(self, name: str) -> int:
        """Return which dimension of a field counts its sites: rows come first, but for the last state."""
        return int(name not in self._called(self.problem.division))

    @property
    def endings(self) -> tuple[str, ...]:
        """Files that a run writes: the last state, all that were saved, the outputs over time, numbers."""
        return (".pvd" if "u" in self.history else ".pvtu", ".csv", ".json")

    def frames(self) -> list[Frame]:
        """Return the states that were saved, or else the last one."""
        own = [o.name for o in self.problem.division.spec.outputs if isinstance(o, Field)]
        if self._states is None:
            last = float(self.times[-1]) if len(self.times) else None
            met = last == float(self.step_times[-1])
            fields = {n: self[n][-1] for n in own if met}
            return [Frame(float(self.step_times[-1]), {"u": self.flat}, fields)]
        return [
            Frame(float(t), {"u": self._states[i]}, {n: self[n][i] for n in own})
            for i, t in enumerate(self.times)
        ]

    def save(self, path: str | Path) -> list[Path]:
        """Write as `DistributedSolution.save` does; ``.csv`` is the outputs over time."""
        path = Path(path)
        if path.suffix != ".csv":
            return super().save(path)
        if self.problem.comm.rank:
            return []
        write_table(self.table, path)
        return [path]

    @property
    def table(self) -> list[dict[str, float]]:
        """One row for each time: the time and all numbers of the outputs that are no fields."""
        rows = [{"t": float(t)} for t in self.times]
        return completed(rows, self.spec, self.outputs)
