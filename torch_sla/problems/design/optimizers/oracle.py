"""What an optimizer asks about the function that it minimizes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, TorchSlaError

__all__ = ["Evaluation", "Oracle", "RejectedPoint"]


class RejectedPoint(TorchSlaError):  # noqa: N818  (not an error: a step becomes shorter)
    """There is no value at a point that was tried, because the forward solve failed there.

    It is for the oracle to raise and for line searches and trust regions to catch: they shorten the step.
    """


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What is known at a point.

    Parameters
    ----------
    value
        The objective.
    gradient
        Its gradient ``[n]``.
    constraints
        Values ``[m]``, at most 0 (or 0, for equalities) where they hold.
    jacobian
        Their gradients ``[m, n]``.
    """

    value: float
    gradient: Tensor
    constraints: Tensor
    jacobian: Tensor


class Oracle(ABC):
    """Answers questions about the function that is minimized; all tensors are detached, float64, on the CPU.

    Parameters that a subclass sets
    -------------------------------
    equalities
        Boolean ``[m]``: which constraints are equalities. Empty where there are none.
    least_squares, second_order
        Whether `residual_jvp` and `residual_vjp`, and whether `hvp`, are offered.
    rounding
        Share of a value, and of its change by slopes, below which two values may differ by rounding alone.
    groups
        Parts of ``x``, the entries of each of which have a unit in common. Where there are none, the sizes of variables
        without bounds are not looked for.
    """

    equalities: Tensor = torch.zeros(0, dtype=torch.bool)
    least_squares: bool = False
    second_order: bool = False
    rounding: float = 1e-11
    groups: tuple[slice, ...] = (slice(None),)

    @abstractmethod
    def value_and_grad(self, x: Tensor) -> Evaluation:
        """Evaluate at ``x`` ``[n]``; raises `RejectedPoint` where that fails."""

    def residual_jvp(self, x: Tensor, v: Tensor) -> Tensor:
        """Return J(x) v ``[k]``, where the objective is ½‖r(x)‖² and J the Jacobian of r."""
        raise ArgumentError("this objective is not declared as a sum of squares")

    def residual_vjp(self, x: Tensor, w: Tensor) -> Tensor:
        """Return J(x)ᵀ w ``[n]``."""
        raise ArgumentError("this objective is not declared as a sum of squares")

    def hvp(self, x: Tensor, v: Tensor) -> Tensor:
        """Return the Hessian of the objective at ``x`` times ``v`` ``[n]``."""
        raise ArgumentError("this objective offers no Hessian-vector products")

    def called(self, entry: int) -> str:
        """Return what an entry of x is called where a person reads of it."""
        return f"entry {entry} of x"

    def gauss_newton(self, x: Tensor, v: Tensor) -> Tensor:
        """Return J(x)ᵀ J(x) v ``[n]``; an oracle may know a shorter way."""
        return self.residual_vjp(x, self.residual_jvp(x, v))
