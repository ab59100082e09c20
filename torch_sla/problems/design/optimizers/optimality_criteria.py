"""The optimality criteria method of topology optimization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.problems.design.optimizers.base import Optimizer
from torch_sla.problems.design.optimizers.optimality import ranges
from torch_sla.problems.design.optimizers.oracle import Oracle, RejectedPoint

if TYPE_CHECKING:
    from torch_sla.problems.design.optimizers.oracle import Evaluation
    from torch_sla.problems.design.optimizers.state import Memory, State

__all__ = ["OptimalityCriteria"]

TRIALS = 14
DRIFT = 2e-4


@dataclass(frozen=True, kw_only=True)
class OptimalityCriteria(Optimizer):
    """Fixed point of ``x_j (−∂f/∂x_j / (λ ∂c/∂x_j))^damping``, λ such that the one constraint holds.

    For a monotone objective (a compliance falls where material is added) under one resource constraint (a volume).
    Bendsøe, "Optimization of Structural Topology, Shape, and Material", Springer, 1995, section 1.2; as in Andreassen,
    Clausen, Schevenels, Lazarov and Sigmund, "Efficient topology optimization in MATLAB using 88 lines of code",
    Struct. Multidisc. Optim. 43, 1-16, 2011. The constraint is taken as linear within a step; where that leads to a
    larger violation, as behind a steep projection, the step is shortened.

    Limits and tolerances that all optimizers have are told by `Optimizer`.

    Parameters
    ----------
    move
        Largest change of a variable in one step, relative to its bounds.
    damping
        The exponent.

    Examples
    --------
    >>> from torch_sla import OptimalityCriteria
    >>> OptimalityCriteria(move=0.1)  # the optimizer= of a DesignProblem
    OptimalityCriteria(...move=0.1, ...)
    """

    handles_inequalities: ClassVar[bool] = True

    type: Literal["optimality_criteria"] = "optimality_criteria"
    step_tolerance: float = 0.01
    move: float = 0.2
    damping: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least("move", 0.0, strict=True)
        self._at_least("damping", 0.0, strict=True)

    def check(self, oracle: Oracle, lower: Tensor, upper: Tensor) -> None:
        """Raise unless there is exactly one inequality."""
        super().check(oracle, lower, upper)
        if oracle.equalities.numel() != 1:
            raise ArgumentError(
                f"OptimalityCriteria needs exactly one inequality constraint, such as a volume, and got "
                f"{oracle.equalities.numel()}; take MMA"
            )

    def remember(self, state: State, oracle: Oracle) -> Memory:  # noqa: ARG002
        """Return the first limit on moves."""
        return {"move": self.move}

    def step(self, state: State, oracle: Oracle) -> State:
        """Return the state one iteration on."""
        if state.done:
            return state
        move, rejected = min(self.move, 1.5 * float(state.memory["move"])), 0
        reach = float(
            state.evaluation.jacobian[0].abs() @ (state.upper - state.lower).clamp(max=1e300)
        )
        most = max(float(state.constraints[0]), 0.0) + DRIFT * reach
        at: Evaluation | None = None
        x, multiplier = state.x, 0.0
        for _ in range(TRIALS):
            x, multiplier = self._update(state, move)
            at = None
            try:
                at = oracle.value_and_grad(x)
            except RejectedPoint:
                rejected += 1
            # A violation that grows is put up with rather than not moving at all.
            if at is not None and (float(at.constraints[0]) <= most or move < 1e-3 * self.move):
                break
            move *= 0.5
        if at is None:
            return self.stuck(state, oracle, f"no step could be evaluated in {TRIALS} trials")
        figures = {"multiplier": multiplier, "move": move, "rejected": rejected}
        return self.moved(state, oracle, x, at, {"move": move}, **figures)

    def _update(self, state: State, move: float) -> tuple[Tensor, float]:
        """Return the next design and its multiplier, by bisection."""
        price = state.evaluation.jacobian[0]
        if not bool((price >= 0).all()) or not bool((price > 0).any()):
            raise ArgumentError(
                "OptimalityCriteria needs a constraint that grows with every variable, such as a volume; take MMA"
            )
        room = move * ranges(state.x, state.lower, state.upper)
        least = torch.maximum(state.lower, state.x - room)
        most = torch.minimum(state.upper, state.x + room)
        gain = (-state.gradient).clamp(min=0.0)

        def design(multiplier: float) -> Tensor:
            worth = gain / (multiplier * price).clamp(min=1e-300)
            return torch.minimum(torch.maximum(state.x * worth**self.damping, least), most)

        def over(x: Tensor) -> float:
            return float(state.constraints[0] + price @ (x - state.x))

        if over(least) > 0:
            return least, float("inf")  # not feasible within a step: as near as it goes
        low, high = 0.0, 1.0
        while over(design(high)) > 0:
            low, high = high, 4.0 * high
        while low == 0.0:
            if high < 1e-200 or over(design(high / 4.0)) > 0:
                low = high / 4.0
            else:
                high /= 4.0
        while high - low > 1e-12 * high:
            middle = 0.5 * (low + high)
            if middle in (low, high):
                break
            low, high = (middle, high) if over(design(middle)) > 0 else (low, middle)
        return design(high), high
