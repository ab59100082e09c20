"""An oracle made of one torch function: gradients and products come from its graph."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, MeshError, SolveError
from torch_sla.linalg.adjoint.jacobian import jacobian
from torch_sla.linalg.checks import together
from torch_sla.linalg.kernels.detection import all_finite
from torch_sla.problems.design.optimizers.oracle import Evaluation, Oracle, RejectedPoint

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["FunctionOracle", "Quantities"]


@dataclass(frozen=True, eq=False)
class Quantities:
    """What a design problem is made of at a point; the function minimized is ½‖residual‖² + objective.

    Parameters
    ----------
    objective
        A scalar; None means 0.
    residual
        ``[k]``, whose half square is minimized; None where there is no such part.
    constraints
        ``[m]``, at most 0 (or 0) where they hold, or tensors whose entries are these in their order: what is known
        of one alone is that it needs no solve, or other solves than the rest.
    """

    objective: Tensor | None = None
    residual: Tensor | None = None
    constraints: Tensor | Sequence[Tensor] | None = None


class FunctionOracle(Oracle):
    """Gradient, Jacobian and products of a torch function, which runs once at each point.

    Objective and constraints that depend on the same solutions are differentiated together, by one adjoint solve with
    a right-hand side for each. The graph of the latest point is kept where products will be asked for, so that each
    of them costs backward passes only; elsewhere the first of them evaluates its point again. J v is the derivative of
    Jᵀ w with respect to w: no forward mode is needed.

    Parameters
    ----------
    evaluate
        Maps ``x`` ``[n]`` to `Quantities`; left out where a subclass does.
    equalities
        Boolean ``[m]``: which constraints are equalities.
    least_squares
        Whether a residual is there, and Gauss-Newton products are wanted.
    second_order
        Whether Hessian-vector products are wanted.
    rejects
        Exceptions of ``evaluate`` that mean that there is no value at a point.

    Examples
    --------
    >>> oracle = FunctionOracle(lambda x: Quantities((x**3).sum()), second_order=True)
    >>> x = torch.tensor([1.0, 2.0], dtype=torch.float64)
    >>> oracle.value_and_grad(x).gradient.tolist(), oracle.hvp(x, torch.ones_like(x)).tolist()
    ([3.0, 12.0], [6.0, 12.0])
    """

    evaluate: Callable[[Tensor], Quantities]

    def __init__(
        self,
        evaluate: Callable[[Tensor], Quantities] | None = None,
        *,
        equalities: Tensor | None = None,
        least_squares: bool = False,
        second_order: bool = False,
        rejects: tuple[type[Exception], ...] = (SolveError, MeshError),
    ) -> None:
        if evaluate is not None:
            self.evaluate = evaluate
        self.equalities = torch.zeros(0, dtype=torch.bool) if equalities is None else equalities
        self.least_squares = least_squares
        self.second_order = second_order
        self.rejects = rejects
        self.evaluations = 0
        self._point: _Point | None = None

    def value_and_grad(self, x: Tensor) -> Evaluation:
        """Evaluate at ``x``; a value that is not finite is rejected."""
        return self._at(x).evaluation

    def residual_jvp(self, x: Tensor, v: Tensor) -> Tensor:
        """Return J(x) v."""
        return self._at(x, keep=True).jvp(v)

    def residual_vjp(self, x: Tensor, w: Tensor) -> Tensor:
        """Return J(x)ᵀ w."""
        return self._at(x, keep=True).vjp(w)

    def gauss_newton(self, x: Tensor, v: Tensor) -> Tensor:
        """Return J(x)ᵀ J(x) v, plus the Hessian of what is no square times v."""
        at = self._at(x, keep=True)
        product = at.vjp(at.jvp(v))
        return product if at.quantities.objective is None else product + at.rest(v)

    def hvp(self, x: Tensor, v: Tensor) -> Tensor:
        """Return the Hessian times v."""
        return self._at(x, keep=True).hvp(v)

    def refresh(self) -> None:
        """Forget the latest point, where the function has changed since."""
        self._point = None

    def _at(self, x: Tensor, *, keep: bool = False) -> _Point:
        keep = keep or self.least_squares or self.second_order
        known = self._point
        if known is not None and torch.equal(known.x, x) and (known.kept or not keep):
            return known
        self._point = None  # its graph goes before the next one is made
        self.evaluations += 1
        leaf = x.detach().clone().requires_grad_()
        try:
            with together(), torch.enable_grad():
                quantities = self.evaluate(leaf)
            point = _Point(leaf, quantities, self.equalities.numel(), keep)
        except self.rejects as error:
            raise RejectedPoint(f"the point cannot be evaluated: {error}") from error
        self._point = point
        return point


class _Point:
    """A point, its quantities, and what has been derived from their graph."""

    def __init__(self, x: Tensor, quantities: Quantities, m: int, keep: bool) -> None:
        self.x, self.quantities, self.kept = x, quantities, keep
        self._dual: tuple[Tensor, Tensor] | None = None
        self._gradients: dict[str, Tensor] = {}
        parts = [] if quantities.objective is None else [quantities.objective]
        if quantities.residual is not None:
            parts.append(0.5 * quantities.residual.square().sum())
        if not parts:
            raise ArgumentError("there is nothing to minimize: give an objective or a residual")
        self.total = torch.stack([part.reshape(()).to(torch.float64) for part in parts]).sum()
        given = quantities.constraints
        parts = [given] if isinstance(given, Tensor) else list(given or ())
        constraints = torch.cat(
            [x.new_zeros(0), *(c.detach().reshape(-1).to(torch.float64) for c in parts)]
        )
        if constraints.numel() != m:
            raise ArgumentError(
                f"`equalities` tells of {m} constraints, and the function gave {constraints.numel()}"
            )
        value = float(self.total.detach())
        if not math.isfinite(value) or not all_finite(constraints):
            # Before the adjoint solve, which would blame the matrix.
            raise RejectedPoint("the objective or a constraint is not finite")
        rows = [
            x.new_zeros(of.numel(), x.numel()) if row is None else row.reshape(of.numel(), -1)
            for of, (row,) in zip(
                (self.total, *parts), jacobian((self.total, *parts), (x,), retain=keep), strict=True
            )
        ]
        gradient, slopes = rows[0][0], torch.cat([x.new_zeros(0, x.numel()), *rows[1:]])
        if not all_finite(gradient) or not all_finite(slopes):
            raise RejectedPoint("the gradient of the objective or of a constraint is not finite")
        self.evaluation = Evaluation(value, gradient, constraints, slopes)
        if not keep:
            self.total = self.total.detach()
            self.quantities = Quantities()

    def _recorded(self, scalar: Tensor) -> Tensor:
        """Return the gradient of a scalar with its graph."""
        if not scalar.requires_grad:
            return torch.zeros_like(self.x)
        found: Tensor | None = torch.autograd.grad(
            scalar, self.x, create_graph=True, allow_unused=True
        )[0]
        return torch.zeros_like(self.x) if found is None else found

    def vjp(self, w: Tensor) -> Tensor:
        r = self._residual()
        (found,) = torch.autograd.grad(r, self.x, w.reshape(r.shape), retain_graph=True)
        return found.detach()

    def jvp(self, v: Tensor) -> Tensor:
        r = self._residual()
        if self._dual is None:
            w = torch.zeros_like(r).requires_grad_()
            (back,) = torch.autograd.grad(r, self.x, w, create_graph=True)
            self._dual = (w, back)
        w, back = self._dual
        (found,) = torch.autograd.grad(back, w, v, retain_graph=True)
        return found.detach().reshape(-1)

    def hvp(self, v: Tensor) -> Tensor:
        return self._second("total", self.total, v)

    def rest(self, v: Tensor) -> Tensor:
        """Return the Hessian of the part that is no square, times v."""
        if self.quantities.objective is None:
            return torch.zeros_like(v)
        return self._second("rest", self.quantities.objective.reshape(()), v)

    def _second(self, name: str, scalar: Tensor, v: Tensor) -> Tensor:
        if name not in self._gradients:
            self._gradients[name] = self._recorded(scalar)
        first = self._gradients[name]
        if not first.requires_grad:
            return torch.zeros_like(v)
        found: Tensor | None = torch.autograd.grad(
            first, self.x, v, retain_graph=True, allow_unused=True
        )[0]
        return torch.zeros_like(v) if found is None else found.detach()

    def _residual(self) -> Tensor:
        if self.quantities.residual is None:
            raise ArgumentError("this objective has no residual; least squares needs one")
        return self.quantities.residual
