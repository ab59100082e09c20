"""The equation of one implicit step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from torch_sla.problems.lowering.newton import Equation

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.problems.lowering.model import Model
    from torch_sla.problems.lowering.newton import _State
    from torch_sla.problems.lowering.scene import Scene

__all__ = ["StepEquation"]

_ROUNDING = 16.0
"""Units of rounding that a residual is left with."""


class StepEquation(Equation):
    """One implicit step of a nonlinear problem: ``(c M + d C) u + R(u) − b = 0``."""

    def __init__(self, model: Model, scene: Scene, moving: Tensor, b: Tensor) -> None:
        super().__init__(model, scene, throw=False)  # the march says what fails, and when
        self._moving, self._b, self.load_steps = moving, b, 1

    @property
    def leaves(self) -> tuple[Tensor, ...]:
        """Every tensor the equation depends on, what is known among them."""
        return (*super().leaves, self._moving, self._b)

    def _state(self, leaves: tuple[Tensor, ...], factor: float = 1.0) -> _State:
        *rest, moving, b = leaves
        state = super()._state(tuple(rest), factor)
        operator = state.operator
        values, load = operator.values + moving, operator.load + factor * b
        state.operator = operator._replace(values=values, load=load)
        return state

    def _driving(self, state: _State) -> Tensor:
        """Return the size of the loads; what is known of the motion is no load, and counts by its rounding alone.

        It grows with the field and with 1/h or 1/h², and beside it all that moves the field may be small.
        """
        model, b = self.model, self._b.detach()
        reduce = model.compiled.constraint.reduce
        loads, known = (model.norm(reduce(x)) for x in (state.operator.load - b, b))
        left = _ROUNDING * torch.finfo(known.dtype).eps / self._options.rtol
        return torch.maximum(loads, left * known)
