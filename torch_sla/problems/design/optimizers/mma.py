"""The method of moving asymptotes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, SolveError
from torch_sla.problems.design.optimizers.base import Optimizer
from torch_sla.problems.design.optimizers.moving_asymptotes import Approximation, solve_subproblem
from torch_sla.problems.design.optimizers.oracle import Oracle, RejectedPoint

if TYPE_CHECKING:
    from torch_sla.problems.design.optimizers.oracle import Evaluation
    from torch_sla.problems.design.optimizers.state import Memory, State

__all__ = ["MMA"]

SHARE = 1e-3
CURVATURE = 1e-5
LEAST_CURVATURE = 1e-6
NARROW, WIDE = 0.01, 10.0
INSIDE = 0.9
TRIALS = 25


@dataclass(frozen=True, kw_only=True)
class MMA(Optimizer):
    """Convex separable approximations between moving asymptotes, for many variables and few constraints.

    Svanberg, "The method of moving asymptotes: a new method for structural optimization", Int. J. Numer. Methods Eng.
    24, 359-373, 1987; with ``globally_convergent`` the approximations are made more convex until they lie above what
    they approximate: Svanberg, "A class of globally convergent optimization methods based on conservative convex
    separable approximations", SIAM J. Optim. 12(2), 555-573, 2002. Coefficients as in his "MMA and GCMMA: two methods
    for nonlinear optimization", KTH, 2007.

    Limits and tolerances that all optimizers have are told by `Optimizer`.

    Parameters
    ----------
    globally_convergent
        Whether to take a step only where the approximations lie above the functions (GCMMA): more evaluations, and the
        objective of feasible points never rises. Without it, designs may swing about a minimum that no constraint
        holds.
    move
        Largest change of a variable in one step, relative to its bounds.
    asymptote_start
        First distance of the asymptotes, relative to the bounds.
    asymptote_shrink
        Factor on that distance for variables that swing back and forth.
    asymptote_grow
        Factor on that distance for variables that keep their direction.
    penalty
        Price of violating a constraint, relative to the slopes of objective and constraint, for problems (or first
        designs) that are not feasible.

    Examples
    --------
    >>> from torch_sla import MMA
    >>> MMA(move=0.2)  # the optimizer= of a DesignProblem
    MMA(...move=0.2, ...)
    """

    handles_inequalities: ClassVar[bool] = True

    type: Literal["mma"] = "mma"
    globally_convergent: bool = False
    move: float = 0.5
    asymptote_start: float = 0.5
    asymptote_shrink: float = 0.7
    asymptote_grow: float = 1.2
    penalty: float = 1000.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("move", "asymptote_start", "asymptote_shrink", "asymptote_grow", "penalty"):
            self._at_least(name, 0.0, strict=True)
        self._at_least("asymptote_grow", 1.0)
        if self.asymptote_shrink > 1:
            raise ArgumentError(f"`asymptote_shrink` must be <= 1, got {self.asymptote_shrink}")

    def check(self, oracle: Oracle, lower: Tensor, upper: Tensor) -> None:
        """Raise unless every variable has finite bounds."""
        super().check(oracle, lower, upper)
        free = ~torch.isfinite(upper - lower)
        if bool(free.any()):
            worst = int(free.nonzero()[0])
            raise ArgumentError(
                f"MMA needs finite bounds for every variable; {oracle.called(worst)} has "
                f"[{float(lower[worst])}, {float(upper[worst])}]"
            )

    def remember(self, state: State, oracle: Oracle) -> Memory:  # noqa: ARG002
        """Return the first asymptotes and the two designs before, which are the first as well."""
        return {
            "reach": self.asymptote_start * _span(state),
            "before": state.x,
            "before_that": state.x,
        }

    def step(self, state: State, oracle: Oracle) -> State:
        """Return the state one iteration on."""
        if state.done:
            return state
        reach = self._reach(state)
        rho = self._curvatures(state)
        rejected = trials = 0
        found: tuple[Tensor, Evaluation] | None = None
        for _ in range(TRIALS):
            trials += 1
            model = self._model(state, reach, rho)
            try:
                x = solve_subproblem(model, self.penalty).clamp(state.lower, state.upper)
            except SolveError:
                # Approximations that rounding of the functions has made more and more convex are solved no more.
                if trials == 1:
                    raise
                break
            try:
                at = oracle.value_and_grad(x)
            except RejectedPoint:
                rejected += 1
                if self.globally_convergent:
                    rho = 10.0 * rho
                reach = 0.5 * reach
                continue
            lies = True
            if self.globally_convergent:
                lies, rho = self._lies_above(state, reach, rho, model, x, at, oracle.rounding)
            if lies:
                found = x, at
                break
        if found is None:
            return self.stuck(state, oracle, f"no step was accepted in {trials} trials")
        before_that = state.memory["before"]
        memory: Memory = {"reach": reach, "before": state.x, "before_that": before_that}
        if self.globally_convergent:
            memory["curvatures"] = rho
        return self.moved(state, oracle, *found, memory, trials=trials, rejected=rejected)

    def _reach(self, state: State) -> Tensor:
        """Return the distance of the asymptotes from x, by whether each variable swings or keeps going."""
        span = _span(state)
        reach, before, that = (state.tensor(n) for n in ("reach", "before", "before_that"))
        if state.iteration < 2:
            return self.asymptote_start * span
        swing = (state.x - before) * (before - that)
        factor = torch.where(swing > 0, self.asymptote_grow, 1.0)
        factor = torch.where(swing < 0, self.asymptote_shrink, factor)
        return torch.minimum(torch.maximum(reach * factor, NARROW * span), WIDE * span)

    def _curvatures(self, state: State) -> Tensor:
        """Return ρ ``[1 + m]``, which makes the approximations strictly convex."""
        rows = _slopes(state)
        mean = (rows.abs() @ (state.upper - state.lower)) / rows.shape[1]
        if self.globally_convergent:
            found = (0.1 * mean).clamp(min=LEAST_CURVATURE)
        else:
            found = torch.full_like(mean, CURVATURE)
        # Constraints are relative to their bounds; the objective has a unit.
        if mean[0] > 0:
            found[0] = (0.1 if self.globally_convergent else CURVATURE) * mean[0]
        return found

    def _model(self, state: State, reach: Tensor, rho: Tensor) -> Approximation:
        x, span = state.x, _span(state)
        rows = _slopes(state)
        values = torch.cat([state.gradient.new_tensor([state.value]), state.constraints])
        extra = SHARE * rows.abs() + rho[:, None] / span
        p = reach**2 * (rows.clamp(min=0.0) + extra)
        q = reach**2 * ((-rows).clamp(min=0.0) + extra)
        room = torch.minimum(INSIDE * reach, self.move * span)
        least = torch.maximum(state.lower, x - room)
        most = torch.minimum(state.upper, x + room)
        # A variable whose bounds coincide still needs a sliver to be strictly inside of.
        sliver = 1e-9 * (1 + x.abs()) * (most - least <= 0)
        return Approximation(
            p=p,
            q=q,
            r=values - (p + q) @ (1 / reach),
            low=x - reach,
            high=x + reach,
            least=least - sliver,
            most=most + sliver,
        )

    def _lies_above(
        self,
        state: State,
        reach: Tensor,
        rho: Tensor,
        model: Approximation,
        x: Tensor,
        at: Evaluation,
        rounding: float,
    ) -> tuple[bool, Tensor]:
        """Return whether the approximations lie above the functions at x, and the ρ to try where they do not."""
        found = torch.cat([x.new_tensor([at.value]), at.constraints])
        short = found - model.at(x)
        way = x - state.x
        growth = (2 * reach * way**2 / (_span(state) * (reach**2 - way**2))).sum()
        rows = _slopes(state)
        good = short <= rounding * (found.abs() + rows.abs() @ _span(state))
        raised = torch.minimum(10 * rho, 1.1 * (rho + short / growth.clamp(min=1e-300)))
        return bool(good.all()), torch.where(good, rho, raised)


def _slopes(state: State) -> Tensor:
    """Return the gradients of objective and constraints ``[1 + m, n]``."""
    return torch.cat([state.gradient[None], state.evaluation.jacobian])


def _span(state: State) -> Tensor:
    """Return the width of the bounds; where they coincide, 1."""
    span = state.upper - state.lower
    return torch.where(span > 0, span, 1.0)
