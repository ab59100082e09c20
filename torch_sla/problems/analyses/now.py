"""Everything about one time of a march."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import ref

import torch

from torch_sla.lazy import cached_property
from torch_sla.problems.lowering.operators import Operator
from torch_sla.problems.lowering.phases import together

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from torch_sla.problems.analyses.grid import TimeGrid
    from torch_sla.problems.lowering.scene import Scene

__all__ = ["Now"]


class Now:
    """Everything about one time, made when it is asked for, recorded for gradients if this was.

    Parameters
    ----------
    grid
        Of what; it must live as long.
    t
        When.
    """

    def __init__(self, grid: TimeGrid, t: float) -> None:
        # The grid keeps this, and would be kept by it.
        self._of = ref(grid)
        self._t, self._recorded = t, torch.is_grad_enabled()

    @property
    def _grid(self) -> TimeGrid:
        found = self._of()
        if found is None:
            raise ReferenceError("the march of this time is gone")
        return found

    def __reduce__(self) -> tuple[object, ...]:
        """Return how it is copied and pickled; the rest is made again when it is asked for."""
        return Now, (self._grid, self._t), {"_recorded": self._recorded}

    @cached_property
    def scene(self) -> Scene:
        """All values."""
        with torch.set_grad_enabled(self._recorded):
            return self._grid.scene(self._t)

    @cached_property
    def numbers(self) -> Sequence[Tensor]:
        """Those of its phases; none where loads are not made of phases."""
        phases = self._grid.phases
        if phases is None or not phases.parts:
            return ()
        with torch.set_grad_enabled(self._recorded):
            return phases.numbers(self.scene)

    @cached_property
    def operator(self) -> Operator:
        """Matrix and load before constraints."""
        grid, model = self._grid, self._grid.model
        with torch.set_grad_enabled(self._recorded):
            if model.timed_matrix:
                return model.loaded(self.scene)
            known = "F" in grid.fixed
            load = together(grid.pieces("F"), self.numbers) if known else model.loads(self.scene)
            return Operator(grid.fixed["K"], load, *grid.flags)

    @cached_property
    def g(self) -> Tensor:
        """Given values."""
        grid = self._grid
        with torch.set_grad_enabled(self._recorded):
            known = "g" in grid.fixed
            return together(grid.pieces("g"), self.numbers) if known else grid.sides(self.scene)
