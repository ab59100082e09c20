"""Gauss-Newton and Levenberg-Marquardt for least squares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from torch_sla.problems.design.optimizers.quadratic import ModelStep
from torch_sla.problems.design.optimizers.trust_region import SecondOrder, TrustRegion

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.problems.design.optimizers.oracle import Oracle
    from torch_sla.problems.design.optimizers.state import Memory, State

__all__ = ["GaussNewton", "LevenbergMarquardt"]


@dataclass(frozen=True, kw_only=True)
class GaussNewton(TrustRegion):
    """Gauss-Newton within bounds and a trust region; the Jacobian is known by its products with vectors.

    The Hessian of ½‖r‖² is taken as JᵀJ, plus the exact Hessian of what is added to the sum of squares. Each product
    costs one solve forward and one backward with the factors that are there.

    The radius is told by `TrustRegion`, the inner iterations by `SecondOrder`, limits and tolerances by `Optimizer`.

    Examples
    --------
    >>> from torch_sla import GaussNewton
    >>> GaussNewton(max_iterations=20)  # the optimizer= of a DesignProblem
    GaussNewton(max_iterations=20, ...)
    """

    needs_least_squares: ClassVar[bool] = True

    type: Literal["gauss_newton"] = "gauss_newton"

    def product(self, oracle: Oracle, x: Tensor, v: Tensor) -> Tensor:
        """Return JᵀJ v."""
        return oracle.gauss_newton(x, v)


@dataclass(frozen=True, kw_only=True)
class LevenbergMarquardt(SecondOrder):
    """Gauss-Newton within bounds, damped: the step minimizes the model plus ½ λ‖s‖².

    λ follows Nielsen's rule (Madsen, Nielsen and Tingleff, Methods for Non-Linear Least Squares Problems, 2nd edition,
    DTU, 2004, eq. 2.21).

    The inner iterations are told by `SecondOrder`, limits and tolerances by `Optimizer`.

    Parameters
    ----------
    damping
        First λ, relative to the curvature of the model along its gradient.

    Examples
    --------
    >>> from torch_sla import LevenbergMarquardt
    >>> LevenbergMarquardt(damping=1e-2)  # the optimizer= of a DesignProblem
    LevenbergMarquardt(...damping=0.01)
    """

    needs_least_squares: ClassVar[bool] = True

    type: Literal["levenberg_marquardt"] = "levenberg_marquardt"
    damping: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least("damping", 0.0, strict=True)

    def remember(self, state: State, oracle: Oracle) -> Memory:
        """Return the first damping."""
        g = state.gradient
        square = float(g @ g)
        curvature = float(g @ oracle.gauss_newton(state.x, g)) / square if square > 0 else 1.0
        return {"damping": self.damping * (curvature if curvature > 0 else 1.0), "growth": 2.0}

    def product(self, oracle: Oracle, x: Tensor, v: Tensor) -> Tensor:
        """Return JᵀJ v."""
        return oracle.gauss_newton(x, v)

    def trial(self, state: State, oracle: Oracle, memory: Memory) -> ModelStep:
        """Minimize the damped model."""
        damping = float(memory["damping"])
        found = self.lowered(state, oracle, 1e30, damping)
        # What is predicted is the fall of the objective's own model, without the damping.
        undamped = found.predicted + 0.5 * damping * float(found.step @ found.step)
        return ModelStep(found.step, undamped, found.products)

    def verdict(self, memory: Memory, step: float, ratio: float) -> bool:  # noqa: ARG002
        """Lower the damping after a step that the model foretold, raise it ever faster after failures."""
        if ratio > 1e-4:
            memory["damping"] = float(memory["damping"]) * max(1 / 3, 1 - (2 * ratio - 1) ** 3)
            memory["growth"] = 2.0
            return True
        memory["damping"] = float(memory["damping"]) * float(memory["growth"])
        memory["growth"] = 2.0 * float(memory["growth"])
        return False
