"""What an optimizer is: options, and a step from one `State` to the next, over an `Oracle`.

The problem that every optimizer solves is

    minimize f(x)   subject to   lower <= x <= upper,   c_i(x) <= 0,   c_j(x) = 0 for equalities j.

An optimizer knows nothing of physics. It asks an oracle, and everything it must remember between two steps is in
the state: tensors and numbers, which go into a checkpoint as they are. A step is a function of the state and of
what the oracle answers, so a run that goes on from a saved state is the same run, to the last bit.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.problems.design.optimizers.optimality import (
    astray,
    farther,
    gap,
    multipliers,
    ranges,
    violation,
)
from torch_sla.problems.design.optimizers.oracle import Evaluation
from torch_sla.problems.design.optimizers.state import SLOPES, State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch_sla.problems.design.optimizers.oracle import Oracle
    from torch_sla.problems.design.optimizers.state import Memory

__all__ = ["Optimizer"]

_BEST, _KEPT = "best", ("x", *SLOPES)


@dataclass(frozen=True, kw_only=True)
class Optimizer(ABC):
    """Options that every optimizer has, and the loop; subclasses add theirs and the step.

    Parameters
    ----------
    max_iterations
        Limit on the number of steps.
    gradient_tolerance
        Stop when the objective could fall, to first order, by at most this share of it: if every variable went
        downhill through its range (the width of its bounds, else the largest of 1, its first size and its size there,
        or what a trial shows it to be) as far as its bounds let it. Constraints enter by multipliers. Neither units nor
        the number of cells matter. Where the objective falls to nothing, 1e-4 of that change at the first design takes
        its place.
    value_tolerance
        Stop when a step changes the objective by at most this share of it; 0 never.
    step_tolerance
        Stop when a step changes no entry of x by more than this share of its range (see `gradient_tolerance`);
        0 never.
    constraint_tolerance
        Largest violation of a constraint at which a point counts as feasible. In a `DesignProblem` it is a share of the
        bound, or of the size of the constraint.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    handles_inequalities: ClassVar[bool] = False
    handles_equalities: ClassVar[bool] = False
    needs_least_squares: ClassVar[bool] = False
    needs_second_order: ClassVar[bool] = False

    max_iterations: int = 200
    gradient_tolerance: float = 1e-6
    value_tolerance: float = 0.0
    step_tolerance: float = 0.0
    constraint_tolerance: float = 1e-6

    def __post_init__(self) -> None:
        self._whole("max_iterations", 1)
        for name in ("gradient_tolerance", "value_tolerance", "step_tolerance"):
            self._at_least(name, 0.0)
        self._at_least("constraint_tolerance", 0.0)

    # -- the contract ---------------------------------------------------------------------------

    def start(self, oracle: Oracle, x: Tensor, lower: Tensor, upper: Tensor) -> State:
        """Return the state at the first point ``x`` ``[n]``, which is projected into the bounds.

        Raises
        ------
        ArgumentError
            If the bounds are empty, or the method cannot do what the problem asks for.
        RejectedPoint
            If there is no value at the first point.
        """
        self.check(oracle, lower, upper)
        if not bool((lower <= upper).all()):
            worst = int((lower - upper).argmax())
            raise ArgumentError(
                f"bounds must not be empty; entry {worst} has [{float(lower[worst])}, {float(upper[worst])}]"
            )
        x = x.detach().to(torch.float64).clamp(lower, upper)
        state = State(x, lower, upper, oracle.value_and_grad(x))
        lengths = ranges(x, lower, upper)
        memory: Memory = {"lengths": lengths, "slope": 0.0}
        state = replace(state, memory=memory)
        more = self.remember(state, oracle)
        return self.judged(replace(state, memory={**memory, **more}), None, oracle)

    @abstractmethod
    def step(self, state: State, oracle: Oracle) -> State:
        """Return the state one iteration on; a state that is `done` is returned as it is."""

    def iterate(self, state: State, oracle: Oracle) -> Iterator[State]:
        """Yield the states that follow, until one is done."""
        while not state.done:
            state = self.step(state, oracle)
            yield state

    def best(self, state: State, oracle: Oracle) -> State:
        """Return the state at the best feasible design of all steps, where that is better than the last one.

        Methods that model the function may end on a step that went too far. A last design that is lower and not
        feasible stays: it may lie next to the optimum, from outside, and `figures` tell its violation. One that met a
        tolerance stays unless another is lower by more than the tolerances, and that other one has converged only where
        no more is left to gain.
        """
        memory = state.memory
        if _BEST not in memory or not float(memory[_BEST]) < state.value:
            return state
        x, *slopes = (state.tensor(f"{_BEST}.{n}") for n in _KEPT)
        at = Evaluation(float(memory[_BEST]), *slopes)
        if state.converged and not self._lower(state, at, oracle):
            return state
        own = f"{_BEST}.figures."
        figures = {n.removeprefix(own): float(v) for n, v in memory.items() if n.startswith(own)}
        found = replace(state, x=x, evaluation=at, figures=figures)
        # Its lengths may have turned out to be longer since.
        figures["optimality"] = self.optimality(found, oracle)
        reason = f"{state.reason}; step {int(memory[f'{_BEST}.iteration'])} led to the best design"
        converged = state.converged
        if found.share > self.gradient_tolerance:
            reason += f", where {found.outlook}"
            converged &= figures["optimality"] <= state.figures["optimality"]
        return replace(found, reason=reason, converged=converged)

    def _lower(self, state: State, at: Evaluation, oracle: Oracle) -> bool:
        """Return whether a value is lower than that of a state by more than the tolerances, of constraints too."""
        price = multipliers(
            state.x, state.evaluation, state.lower, state.upper, state.lengths, oracle.equalities
        )
        fall = state.value - at.value
        priced = fall + float(price @ (state.constraints - at.constraints))
        return min(fall, priced) > max(self.gradient_tolerance, self.value_tolerance) * state.size

    # -- for subclasses -------------------------------------------------------------------------

    def remember(self, state: State, oracle: Oracle) -> Memory:
        """Return what the method remembers at the start."""
        return {}

    def check(self, oracle: Oracle, lower: Tensor, upper: Tensor) -> None:
        """Raise where the method cannot do what the oracle's problem asks for, or not within bounds ``[n]``."""
        name = type(self).__name__
        if not self.handles_equalities and bool(oracle.equalities.any()):
            raise ArgumentError(
                f"{name} cannot impose equality constraints; take Scipy(method='SLSQP') or "
                "Scipy(method='trust-constr')"
            )
        if not self.handles_inequalities and bool((~oracle.equalities).any()):
            raise ArgumentError(
                f"{name} cannot impose constraints, only bounds; take MMA, Scipy(method='SLSQP') or "
                "Scipy(method='trust-constr')"
            )
        if self.needs_least_squares and not oracle.least_squares:
            raise ArgumentError(
                f"{name} needs an objective that is a sum of squares; take LBFGS for other objectives"
            )
        if self.needs_second_order and not oracle.second_order:
            raise ArgumentError(
                f"{name} needs Hessian-vector products, which this problem does not offer; take LBFGS"
            )

    def moved(
        self,
        state: State,
        oracle: Oracle,
        x: Tensor,
        at: Evaluation,
        memory: Memory,
        **figures: float,
    ) -> State:
        """Return the state, judged, after a step to ``x`` and with what else is remembered now."""
        memory, figures = {**state.memory, **memory}, {n: float(v) for n, v in figures.items()}
        later = state.iteration + 1
        after = replace(state, x=x, evaluation=at, iteration=later, figures=figures, memory=memory)
        return self.judged(after, state, oracle)

    def stuck(self, state: State, oracle: Oracle, why: str) -> State:
        """Return the state, judged, where no step leads on."""
        return self.judged(replace(state, reason=why), None, oracle)

    def judged(self, state: State, before: State | None, oracle: Oracle) -> State:
        """Return the state with its figures and the verdict on it."""
        if state.memory["slope"] == 0:
            # Of the first design that has one: a start may be the minimum but for the constraints.
            slope = float((state.gradient * state.lengths).abs().sum())
            state = replace(state, memory={**state.memory, "slope": slope})
        optimality = self.optimality(state, oracle)
        violated = violation(state.constraints, oracle.equalities)
        figures = {**state.figures, "optimality": optimality, "violation": violated}
        state = replace(state, figures=figures)
        feasible = violated <= self.constraint_tolerance
        reason, away, converged, bounds = "", "", True, (state.lower, state.upper)
        if feasible and state.share <= self.gradient_tolerance:
            lengths = self._farther(state, oracle)
            if lengths is not None:
                slope = float((state.gradient * lengths).abs().sum())
                slope = max(float(state.memory["slope"]), slope)
                memory: Memory = {**state.memory, "lengths": lengths, "slope": slope}
                return self.judged(replace(state, memory=memory), before, oracle)
            reason = f"what is left to gain, {state.share:.1e}, is at most gradient_tolerance"
        elif before is not None:
            away = astray(oracle, state.x, state.value, *bounds, state.tensor("lengths"))
            moved = (state.x - before.x).abs() / state.lengths
            change = float(moved.max()) if state.x.numel() else 0.0
            figures["step"] = change
            size = max(abs(state.value), abs(before.value))
            drop = abs(state.value - before.value) / size if size > 0 else 0.0
            if away:
                reason, converged = away, False
            elif feasible and self.step_tolerance > 0 and change <= self.step_tolerance:
                reason = f"the step {change:.2e} is at most step_tolerance"
            elif feasible and self.value_tolerance > 0 and drop <= self.value_tolerance:
                reason = f"the change of the objective {drop:.2e} is at most value_tolerance"
            elif state.iteration >= self.max_iterations:
                reason = f"max_iterations = {self.max_iterations} steps were taken"
                converged = False
        if state.reason:  # the method itself gave up or finished
            good = converged if reason else state.converged and feasible
            reason, converged = reason or state.reason, good
        if reason and not away and state.share > self.gradient_tolerance:
            reason += f"; {state.outlook}"
        return replace(
            state,
            reason=reason,
            converged=bool(reason) and converged,
            memory=self._with_best(state, before, feasible),
        )

    def _with_best(self, state: State, before: State | None, feasible: bool) -> Memory:
        """Return the memory with the best feasible design before this one, where it is better."""
        if before is None:
            return state.memory
        memory = {n: kept for n, kept in state.memory.items() if n.split(".")[0] != _BEST}
        if _BEST in before.memory:
            found = {n: kept for n, kept in before.memory.items() if n.split(".")[0] == _BEST}
        elif before.figures["violation"] <= self.constraint_tolerance:
            at = before.evaluation
            found = {f"{_BEST}.{name}": getattr(at, name) for name in SLOPES}
            found |= {f"{_BEST}.x": before.x, _BEST: at.value}
            found |= {f"{_BEST}.iteration": before.iteration}
            found |= {f"{_BEST}.figures.{n}": figure for n, figure in before.figures.items()}
        else:
            return memory
        return memory if feasible and state.value <= float(found[_BEST]) else memory | found

    def optimality(self, state: State, oracle: Oracle) -> float:
        """Return what is left to gain, to first order, over the whole slope of the first design."""
        lengths, slope = state.lengths, float(state.memory["slope"])
        if slope == 0:
            return 0.0
        found = multipliers(
            state.x, state.evaluation, state.lower, state.upper, lengths, oracle.equalities
        )
        gradient = state.gradient + found @ state.evaluation.jacobian
        # Constraints that hold with room to spare, and matter, leave that room to gain.
        room = (-state.constraints).clamp(min=0.0)
        idle = float(torch.where(oracle.equalities, 0.0, found * room).sum())
        return (gap(state.x, gradient, state.lower, state.upper, lengths) + idle) / slope

    def _farther(self, state: State, oracle: Oracle) -> Tensor | None:
        """Return longer lengths, where what seems to be a minimum is one of guessed lengths only."""
        lengths, bounds = state.lengths, (state.lower, state.upper)
        gain = max(self.gradient_tolerance, 100 * oracle.rounding) * state.size
        return farther(oracle, state.x, state.evaluation, *bounds, lengths, gain)

    def _at_least(self, name: str, least: float, *, strict: bool = False) -> None:
        value = getattr(self, name)
        good = isinstance(value, int | float) and math.isfinite(value)
        if not good or value < least or (strict and value == least):
            raise ArgumentError(f"`{name}` must be {'>' if strict else '>='} {least}, got {value}")

    def _whole(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ArgumentError(f"`{name}` must be a whole number >= {least}, got {value}")
