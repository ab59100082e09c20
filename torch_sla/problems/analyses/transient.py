"""Problems in time: march, take outputs at every time, differentiate through all steps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from torch_sla.errors import ArgumentError, SpecError
from torch_sla.linalg import SolveInfo
from torch_sla.problems.analyses.analysis import Analysis, inside
from torch_sla.problems.analyses.grid import TimeGrid
from torch_sla.problems.analyses.schemes import scheme_of
from torch_sla.problems.analyses.table import numbers, write_table
from torch_sla.problems.lowering.outputs import Taken, take
from torch_sla.problems.lowering.sites import DofSites, Spread
from torch_sla.problems.solution import Solution
from torch_sla.problems.specs.arrays import load_array
from torch_sla.problems.specs.transient import SCHEMES
from torch_sla.problems.specs.value import ArrayFile, Formula, Parameter, leaves

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch_sla.problems.analyses.schemes import Scheme, State
    from torch_sla.problems.lowering.scene import Scene
    from torch_sla.problems.specs.transient import TransientProblem

__all__ = ["Transient", "TransientSolution"]

_HISTORIES = {"u": 0, "velocity": 1, "acceleration": 2}


class Transient(Analysis):
    """Lowers `TransientProblem`."""

    spec: TransientProblem

    def _structure(self) -> str:
        return f"{self.spec.method} {self.spec.steps}"

    @property
    def _initial_names(self) -> frozenset[str]:
        names: set[str] = set()
        for law in (self.spec.initial, self.spec.initial_velocity):
            for _, leaf in leaves(law):
                if isinstance(leaf, Parameter):
                    names.add(leaf.name)
                elif isinstance(leaf, Formula):
                    names |= leaf.expression.names & self.declared.keys()
        return frozenset(names)

    # -- verbs ----------------------------------------------------------------------------------

    def solve(
        self,
        values: Mapping[str, Any],
        *,
        points: Tensor | None = None,
        start: Tensor | None = None,
        info: bool = False,
        throw: bool = True,
    ) -> TransientSolution:
        """March from the start to the end; a step that fails always raises."""
        del info, throw
        spec, model = self.spec, self.model
        if start is not None:
            raise ArgumentError("start: the state at the start is said by initial")
        series, plain = self._series(values)
        with inside():
            scene = model.scene(
                plain,
                points,
                mass=True,
                timed=True,
                declared=self.declared,
                reaching=self._initial_names,
            )
        times = torch.linspace(
            0.0, spec.end, spec.steps + 1, dtype=model.dtype, device=model.device
        )
        scheme = scheme_of(spec)
        explicit = spec.method == "explicit"
        with inside():
            grid = TimeGrid(model, scene, series, times, scheme.factors, lumped=explicit)
        u = self._law(scene, spec.initial, "initial")
        v = self._law(scene, spec.initial_velocity or 0.0, "initial_velocity")
        batch = grid.batch(u, v)
        u = grid.given(0, u.expand(*batch, -1))
        constraint = model.compiled.constraint
        v = constraint.recover(constraint.restrict(v.expand(*batch, -1)), grid.given_velocity())
        if explicit:
            grid.check_step(u)
        march = _March(self, grid, scheme)
        state, records = march.run(scheme.start(grid, u, v))
        return march.solution(state, records)

    def _law(self, scene: Scene, law: Any, path: str) -> Tensor:
        """Evaluate a law of place at the dofs of the first unknown: ``[*batch, n]``."""
        model = self.model
        name, dofs = next(iter(model.ranks)), model.dofs
        nodes = torch.arange(dofs.n_nodes, device=model.device)
        sites = DofSites(dofs.points(scene.geometry.points), nodes, Spread(dofs))
        here = scene.like(scene.given)
        here.time = torch.zeros((), dtype=model.dtype, device=model.device)
        value = here.evaluate(law, sites, path)
        c, tensor = dofs.components, value.tensor
        if value.rank == 0:
            tensor = tensor[..., None]
        if tensor.shape[-1] not in (1, c) or (value.rank == 1 and tensor.shape[-1] != c):
            raise SpecError(
                f"the value has {tensor.shape[-1]} components; the unknown has {c}", path=path
            )
        tensor = tensor[..., 0, :]
        full = tensor.expand(*tensor.shape[:-2], dofs.n_nodes, c).flatten(-2)
        found: Tensor = model.numbering.placed(full.to(model.field_dtype), name)
        return found

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
                value = np.array(load_array(value.file, value.key))
            tensor = value if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value))
            if not tensor.ndim:
                continue
            home = [] if parameter.on == "constant" else [self.counts[parameter.on]]
            wanted = (self.spec.steps + 1, *home, *parameter.shape)
            if tuple(tensor.shape[-len(wanted) :]) != wanted:
                text = ", ".join(["*batch", *map(str, wanted)])
                raise ArgumentError(
                    f"{name!r} has shape {tuple(tensor.shape)}; expected [{text}], one for each of the "
                    f"{self.spec.steps + 1} times"
                )
            if not bool(torch.isfinite(tensor.detach()).all()):
                raise ArgumentError(f"{name!r} holds NaN or infinity")
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
            if self.declared[name].time is not None:
                found[name] = value.expand(self.spec.steps + 1, *value.shape)
        return found

    def describe(self, values: Mapping[str, Any]) -> list[str]:
        """Return lines on the scheme, the problem and its plan."""
        spec, model = self.spec, self.model
        once = "made and factorised once" if not model.timed else "made again for each time"
        if model.nonlinear:
            once = "in Newton's method, in each step"
        line = (
            f"  time        {spec.steps} steps of {spec.end / spec.steps:.6g} to {spec.end:.6g}, {spec.method}; "
            f"operators {once}"
        )
        return [line, *super().describe(values)]


class _March:
    """One run through the steps."""

    def __init__(self, analysis: Transient, grid: TimeGrid, scheme: Scheme) -> None:
        self.analysis, self.grid, self.scheme = analysis, grid, scheme
        self.spec = analysis.spec

    def run(self, state: State) -> tuple[State, list[dict[str, Tensor]]]:
        """Go through all steps; under gradients, between states that are kept."""
        first = self.record(0, state)
        state, rest = self._through(0, self.spec.steps, *state)
        return state, [first, *rest]

    def _through(
        self, low: int, high: int, *state: Tensor
    ) -> tuple[State, list[dict[str, Tensor]]]:
        records: list[dict[str, Tensor]] = []
        pieces = self.spec.checkpoints
        if high - low <= pieces or not torch.is_grad_enabled():
            for i in range(low, high):
                state = self.scheme.step(self.grid, i, state)
                records.append(self.record(i + 1, state))
            return state, records
        width = pieces
        while width * pieces < high - low:
            width *= pieces
        for a in range(low, high, width):
            b = min(a + width, high)
            state, more = checkpoint(
                self._through, a, b, *state, use_reentrant=False, preserve_rng_state=False
            )
            records += more
        return state, records

    def taken(self, i: int, state: State) -> Taken:
        """Return the scene at a time, solved."""
        now = self.grid.now(i)
        known = i > 0 or not self._first_order
        inertia = self.grid.mass(self.scheme.rate(state)) if known else None
        return Taken(self.grid.model, now.scene, now.operator, state[0], inertia)

    @property
    def _first_order(self) -> bool:
        return SCHEMES[self.spec.method] == 1

    def record(self, i: int, state: State) -> dict[str, Tensor]:
        """Take the outputs at a time, and what is saved of the state."""
        found = take(self.taken(i, state)) if self.spec.of.outputs else {}
        return {**found, **{f" {name}": state[_HISTORIES[name]] for name in self.spec.save}}

    def solution(self, state: State, records: list[dict[str, Tensor]]) -> TransientSolution:
        """Put everything together."""
        axis = state[0].ndim - 1
        stacked = {name: torch.stack([r[name] for r in records], axis) for name in records[0]}
        outputs = {name: value for name, value in stacked.items() if not name.startswith(" ")}
        histories = {name[1:]: value for name, value in stacked.items() if name.startswith(" ")}
        report = self.grid.info or SolveInfo(method=self.spec.method)
        report.notes = [*report.notes, f"{self.spec.steps} steps of {self.spec.method}"]
        taken = self.taken(self.spec.steps, state)
        rates = dict(zip(("velocity", "acceleration"), state[1:], strict=True))
        if self._first_order:
            del rates["acceleration"]
        return TransientSolution(
            self.analysis, taken, outputs, report, self.grid.times, histories, rates
        )


class TransientSolution(Solution):
    """What a problem in time gives; everything in it is differentiable.

    Attributes
    ----------
    u
        The (first) field at the end.
    outputs
        ``[*batch, steps + 1, ...]`` by name.
    times
        ``[steps + 1]`` (s).
    history
        What ``save`` asked for, by name: ``[*batch, steps + 1, n_nodes(, dim)]``; of several fields flat.
    velocity, acceleration
        At the end, in the shape of ``u``; acceleration with two derivatives in time only.
    """

    def __init__(
        self,
        analysis: Transient,
        taken: Taken,
        outputs: Mapping[str, Tensor],
        info: SolveInfo,
        times: Tensor,
        histories: Mapping[str, Tensor],
        rates: Mapping[str, Tensor],
    ) -> None:
        super().__init__(taken, outputs, info)
        self.analysis = analysis
        self.times = times.to(self.u.device)
        self.history = {name: self._shaped(value) for name, value in histories.items()}
        self.velocity = self._shaped(rates["velocity"])
        self.acceleration = self._shaped(rates["acceleration"]) if "acceleration" in rates else None

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
        """Files that a run writes: the last state, the outputs over time, identity."""
        return (*super().endings[:1], ".csv", ".json") if not self.batch else super().endings

    @property
    def table(self) -> list[dict[str, float]]:
        """One row for each time: the time and all numbers of the outputs."""
        if self.batch:
            raise ArgumentError(
                f"the outputs have batch dimensions {list(self.batch)}; a table holds one member"
            )
        rows = [{"t": float(t)} for t in self.times]
        for name, value in self.outputs.items():
            for row, own in zip(rows, value.detach().cpu(), strict=True):
                row.update(numbers(name, own))
        return rows

    def save(self, path: str | Path) -> None:
        """Write as `Solution.save` does; ``.csv`` is the outputs over time, ``.npz`` holds times and histories too."""
        path = Path(path)
        if path.suffix == ".csv":
            write_table(self.table, path)
        elif path.suffix == ".npz":
            found = {**self.outputs, **self.fields, "times": self.times, "points": self.points}
            found |= {f"history.{name}": value for name, value in self.history.items()}
            arrays: dict[str, Any] = {n: v.detach().cpu().numpy() for n, v in found.items()}
            np.savez_compressed(path, **arrays)
        else:
            super().save(path)
