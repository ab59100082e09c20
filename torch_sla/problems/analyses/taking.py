"""What is taken at each time of a march: outputs, what is saved of the state, and whether an event has happened."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch

from torch_sla.errors import SpecError
from torch_sla.problems.analyses.crossing import crossed, crossing
from torch_sla.problems.analyses.readings import WORTH, Readings
from torch_sla.problems.lowering.affine import is_plain
from torch_sla.problems.lowering.outputs import Taken, take_one
from torch_sla.problems.specs.transient import SCHEMES as ORDERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from torch_sla.problems.analyses.grid import TimeGrid
    from torch_sla.problems.analyses.schemes import Scheme, State
    from torch_sla.problems.specs.transient import TransientProblem

__all__ = ["Taking"]

_HISTORIES = {"u": 0, "velocity": 1, "acceleration": 2}


class Taking:
    """What is taken at each time: outputs, and what is saved of the state."""

    def __init__(
        self, spec: TransientProblem, batch: tuple[int, ...], readable: frozenset[str], rows: int
    ) -> None:
        self.spec, self._batch = spec, len(batch)
        self._first_order = ORDERS[spec.method] == 1
        self._readable, self._rows = readable, rows
        self._readings: Readings | None = None

    def taken(
        self, scheme: Scheme, grid: TimeGrid, t: float, state: State, *, known: bool
    ) -> Taken:
        """Return the scene at a time, solved; supports bear inertia and damping, where they are known."""
        now, moves = grid.now(t), known or not self._first_order
        speed = None if self._first_order else state[1]
        kinetic = None if speed is None else partial(_kinetic, grid, speed)
        return Taken(
            grid.model,
            now.scene,
            now.operator,
            state[0],
            partial(_inertia, grid, scheme.rate(state), speed) if moves else None,
            kinetic=kinetic,
        )

    def record(
        self, scheme: Scheme, grid: TimeGrid, t: float, state: State, first: bool
    ) -> dict[str, Tensor]:
        """Take the outputs at a time, and what is saved of the state."""
        found: dict[str, Tensor] = {}
        if self.spec.of.outputs:
            # What is recorded for gradients is taken as it is.
            off = torch.is_grad_enabled() or not is_plain(grid.base, *state)
            read = self._readable and not first and not off
            known = self._read(scheme, grid, t, state) if read else {}
            found = self.taken(scheme, grid, t, state, known=not first).outputs(known)
        for i, event in enumerate(self.spec.events if first else ()):
            value = found[event.of]
            if value[(0,) * self._batch].numel() != 1:
                raise SpecError(
                    f"{event.of!r} has the shape {list(value.shape[self._batch :])}; an event watches one number",
                    path=f"events.{i}.of",
                )
        return {**found, **{f" {name}": state[_HISTORIES[name]] for name in self.spec.save}}

    def _read(self, scheme: Scheme, grid: TimeGrid, t: float, state: State) -> dict[str, Tensor]:
        """Return the outputs that a product with fixed rows gives."""
        if self._readings is None:
            outputs = [o for o in enumerate(self.spec.of.outputs) if o[1].name in self._readable]

            def values_of(state: State) -> dict[str, Tensor]:
                taken = self.taken(scheme, grid, t, state, known=True)
                return {o.name: take_one(taken, o, f"of.outputs.{i}") for i, o in outputs}

            self._readings = Readings(values_of, state, self._rows // WORTH)
        return self._readings(state)

    def events(self, times: Tensor, records: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return when each event happened first ``[*batch]``; infinity where it did not."""
        found = {}
        for event in self.spec.events:
            value = records[event.of]
            row = value.reshape(len(value), *value.shape[1 : 1 + self._batch])
            found[event.name] = crossing(times, row, event.level, event.direction)
        return found

    def stop(self, records: dict[str, Tensor], rows: int) -> bool:
        """Whether an event has happened that ends the march."""
        for event in self.spec.events:
            if not event.stop or rows < 2:
                continue
            value = records[event.of]
            row = value[:rows].reshape(rows, *value.shape[1 : 1 + self._batch])
            if bool(crossed(row, event.level, event.direction).any(0).all()):
                return True
        return False


def _inertia(grid: TimeGrid, rate: Tensor, speed: Tensor | None) -> Tensor:
    """Return what inertia and damping bear ``[*batch, n]``."""
    push = grid.mass(rate)
    drag = None if speed is None else grid.damping(speed)
    return push if drag is None else push + drag


def _kinetic(grid: TimeGrid, v: Tensor) -> Tensor:
    """Return ½ vᵀ M v ``[*batch]``."""
    return 0.5 * (v * grid.momentum(v)).sum(-1)
