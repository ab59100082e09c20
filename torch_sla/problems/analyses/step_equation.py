"""The equation of one implicit step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch_sla.problems.lowering.newton import Equation

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.problems.lowering.model import Model
    from torch_sla.problems.lowering.newton import _State
    from torch_sla.problems.lowering.scene import Scene

__all__ = ["StepEquation"]


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
