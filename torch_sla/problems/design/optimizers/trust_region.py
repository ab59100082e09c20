"""Newton's method within bounds, made safe by a trust region or by damping."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch_sla.problems.design.optimizers.base import Optimizer
from torch_sla.problems.design.optimizers.oracle import Oracle, RejectedPoint
from torch_sla.problems.design.optimizers.quadratic import ModelStep, bounded_step

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.problems.design.optimizers.oracle import Evaluation
    from torch_sla.problems.design.optimizers.state import Memory, State

__all__ = ["SecondOrder", "TrustRegion"]

TRIALS = 40


@dataclass(frozen=True, kw_only=True)
class SecondOrder(Optimizer):
    """What Newton-like methods share: a quadratic model, a trial, and a verdict on it.

    Parameters
    ----------
    inner_iterations
        Limit on the conjugate gradient iterations, and so on products, of a step.
    inner_tolerance
        The model is minimized to this share of its gradient, and further as the minimum comes near (the square root of
        the optimality), so that convergence is superlinear.
    """

    inner_iterations: int = 100
    inner_tolerance: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._whole("inner_iterations", 1)
        self._at_least("inner_tolerance", 0.0, strict=True)

    @abstractmethod
    def product(self, oracle: Oracle, x: Tensor, v: Tensor) -> Tensor:
        """Return the model's matrix times v."""

    @abstractmethod
    def trial(self, state: State, oracle: Oracle, memory: Memory) -> ModelStep:
        """Return the step to try."""

    @abstractmethod
    def verdict(self, memory: Memory, step: float, ratio: float) -> bool:
        """Update the memory and say whether to take a step, by the ratio of its actual to its predicted fall."""

    def step(self, state: State, oracle: Oracle) -> State:
        """Return the state one iteration on: trials are made until one is taken."""
        if state.done:
            return state
        memory = dict(state.memory)
        products = rejected = 0
        for _ in range(TRIALS):
            trial = self.trial(state, oracle, memory)
            products += trial.products
            x = (state.x + trial.step).clamp(state.lower, state.upper)
            at: Evaluation | None
            try:
                at = oracle.value_and_grad(x)
                ratio = _ratio(state.value, at.value, trial.predicted)
            except RejectedPoint:
                at, ratio = None, -math.inf
                rejected += 1
            if self.verdict(memory, float(trial.step.norm()), ratio) and at is not None:
                figures = {"products": products, "rejected": rejected}
                return self.moved(state, oracle, x, at, memory, **figures)
        why = f"no step lowered the objective in {TRIALS} trials"
        return self.stuck(replace(state, memory=memory), oracle, why)

    def lowered(
        self, state: State, oracle: Oracle, radius: float, damping: float = 0.0
    ) -> ModelStep:
        """Minimize the damped model within a radius."""
        return bounded_step(
            state.x,
            state.gradient,
            state.lower,
            state.upper,
            lambda v: self.product(oracle, state.x, v) + damping * v,
            radius=radius,
            rtol=min(self.inner_tolerance, math.sqrt(state.figures["optimality"])),
            limit=self.inner_iterations,
        )


@dataclass(frozen=True, kw_only=True)
class TrustRegion(SecondOrder):
    """A model that is believed within a radius, which grows and shrinks with its success.

    Parameters
    ----------
    radius
        First radius; None takes the length of x, and at least √n.
    """

    radius: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.radius is not None:
            self._at_least("radius", 0.0, strict=True)

    def remember(self, state: State, oracle: Oracle) -> Memory:  # noqa: ARG002
        """Return the first radius."""
        own = max(math.sqrt(state.x.numel()), float(state.x.norm()))
        return {"radius": own if self.radius is None else self.radius}

    def trial(self, state: State, oracle: Oracle, memory: Memory) -> ModelStep:
        """Minimize the model within the radius."""
        return self.lowered(state, oracle, float(memory["radius"]))

    def verdict(self, memory: Memory, step: float, ratio: float) -> bool:
        """Shrink the radius below a quarter of what was predicted, double it above three quarters."""
        radius = float(memory["radius"])
        if ratio < 0.25:
            memory["radius"] = 0.25 * min(step, radius)
        elif ratio > 0.75 and step >= 0.8 * radius:
            memory["radius"] = 2.0 * radius
        return ratio > 1e-4


def _ratio(before: float, after: float, predicted: float) -> float:
    """Return the actual over the predicted fall; where both are rounding, 1 (Conn, Gould and Toint, 2000, 17.4.2)."""
    noise = 10 * 2.2e-16 * max(1.0, abs(before))
    return (before - after + noise) / (predicted + noise)
