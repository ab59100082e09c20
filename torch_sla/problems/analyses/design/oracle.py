"""The function that is minimised: forward solves, goals of their results, and derivatives of those."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, ExpressionError, GradientError, SolveError, SpecError
from torch_sla.problems.analyses.analysis import frame_of
from torch_sla.problems.analyses.design.forward import Forward
from torch_sla.problems.analyses.design.scope import DesignScope
from torch_sla.problems.design.optimizers.function import FunctionOracle, Quantities
from torch_sla.problems.design.optimizers.optimality import violation
from torch_sla.problems.design.optimizers.oracle import RejectedPoint
from torch_sla.problems.specs.python import PythonFunction

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch_sla.problems.analyses.design.model import Design
    from torch_sla.problems.design.optimizers.oracle import Evaluation

__all__ = ["REJECTED", "DesignOracle"]

SINGLE = 1e-6
"""Rounding of results in single precision."""

REJECTED = (SolveError, ArgumentError, GradientError)
"""Errors that after the start mean that there is no value at a point."""


class DesignOracle(FunctionOracle):
    """Objective, constraints and their derivatives at unknowns ``[n]``; one forward solve at each point.

    The graph of a forward solve holds its factor or hierarchy, which serves the gradient, and the products where
    the optimizer asks for them.

    Parameters
    ----------
    design
        The lowered declaration.
    given
        Parameters that do not vary.
    state
        Where the solves of a problem begin, by its name.

    Attributes
    ----------
    start, lower, upper
        Where the search starts and its bounds ``[n]``.
    forward
        The forward solves, and what they remember.
    sizes
        What the constraints ``[m]`` are divided by, as `measure` returned it; None divides by nothing.
    """

    def __init__(
        self, design: Design, given: Mapping[str, Any], state: Mapping[str, Tensor]
    ) -> None:
        spec = design.spec
        optimizer = spec.optimizer
        self.design, self.unknowns = design, design.unknowns
        squares = not isinstance(spec.objective, PythonFunction) and bool(
            spec.objective.expression.squares
        )
        super().__init__(
            equalities=torch.tensor(self._declared_equalities(spec), dtype=torch.bool),
            least_squares=squares and optimizer.needs_least_squares,
            second_order=optimizer.needs_second_order,
        )
        frames = [frame for model in design.models.values() if (frame := frame_of(model))]
        if any(frame.dtype == torch.float32 for frame in frames):
            self.rounding = SINGLE
        self.forward = Forward(spec, design.models, given, state)
        self.sizes: Tensor | None = None
        self._tried: Tensor | None = None
        self.start = self.unknowns.start()
        self.lower, self.upper = self.unknowns.bounds()
        # A solve that is remembered is one on the way, and no trial far from it.
        self.groups = () if self.forward.depends else tuple(self.unknowns.ranges.values())

    @staticmethod
    def _declared_equalities(spec: Any) -> list[bool]:
        texts = [c for c in spec.constraints if not isinstance(c, PythonFunction)]
        return [equality for text in texts for equality in text.expression.equalities]

    def check(self) -> None:
        """Refuse a method that cannot do what is declared; a function counts as one constraint, and may be more."""
        known = self.equalities
        if any(isinstance(c, PythonFunction) for c in self.design.spec.constraints):
            self.equalities = torch.nn.functional.pad(known, (0, 1))
        try:
            self.design.spec.optimizer.check(self, self.lower, self.upper)
        except ArgumentError as error:
            raise SpecError(str(error), path="optimizer") from None
        finally:
            self.equalities = known

    def begin(self, x: Tensor) -> Evaluation:
        """Evaluate at the first point, where whatever fails is an error; later it is a rejected point."""
        try:
            found = self.value_and_grad(x)
        except RejectedPoint as rejected:
            if rejected.__cause__ is not None:
                raise rejected.__cause__ from None
            raise ArgumentError(f"at the start {rejected}; start elsewhere") from None
        self._require_reach(x, found)
        self.settle()
        return found

    def measure(self, x: Tensor, at: Evaluation) -> Tensor:
        """Return the sizes ``[m]`` of constraints as declared, in which units do not matter, at a point.

        A size is that of the value, or of the change to first order with all variables, if that is larger: with each by
        its largest entry, there or at the start, and no more than the width of its bounds. What numbers in its text
        measure has size 1.
        """
        lengths = self.upper - self.lower
        for where in self.unknowns.ranges.values():
            width, first = lengths[where], float(self.start[where].abs().max())
            typical = torch.minimum(width, x[where].abs().max().clamp(min=first or 1.0))
            # A variable that begins at 0 tells nothing of its size, and bounds do.
            lengths[where] = torch.where(width.isfinite() & (first == 0), width, typical)
        sizes = torch.maximum(at.constraints.abs(), at.jacobian.abs() @ lengths)
        texts = [c for c in self.design.spec.constraints if not isinstance(c, PythonFunction)]
        relative = torch.zeros(sizes.numel(), dtype=torch.bool)
        for i, told in enumerate(told for text in texts for told in text.expression.relative):
            relative[i] = told
        return torch.where(relative | (sizes == 0), 1.0, sizes)

    def violated(self, x: Tensor, declared: Evaluation) -> float:
        """Return the largest violation of constraints as ``declared`` at ``x``, in sizes of the search.

        A search that begins where a constraint is huge cares little for what it is at the end: a size that is more than
        ten times that at ``x`` is taken from there.
        """
        sizes = self.measure(x, declared)
        if self.sizes is not None:
            sizes = torch.minimum(10.0 * sizes, self.sizes)
        return violation(declared.constraints / sizes, self.equalities)

    def value_and_grad(self, x: Tensor) -> Evaluation:
        """Evaluate at ``x``, constraints in their sizes; a value that is not finite is rejected."""
        at = super().value_and_grad(x)
        return at if self.sizes is None else _times(at, 1.0 / self.sizes)

    def declared(self, at: Evaluation) -> Evaluation:
        """Return what was evaluated with constraints as they were declared."""
        return at if self.sizes is None else _times(at, self.sizes)

    def _require_reach(self, x: Tensor, found: Evaluation) -> None:
        """Refuse a variable that no goal depends on, by structure: its gradient would be zero in silence."""
        values = {n: v.detach() for n, v in self.unknowns.values(x).items()}
        for i, (name, where) in enumerate(self.unknowns.ranges.items()):
            if bool(found.gradient[where].any()) or bool(found.jacobian[:, where].any()):
                continue
            leaf = values[name].clone().requires_grad_()
            with torch.enable_grad():
                goals = self._goals({**values, name: leaf}, {**values, name: leaf})
            every = (goals.objective, goals.residual, *(goals.constraints or ()))
            reached = [g.sum() for g in every if g is not None and g.requires_grad]
            total = sum(reached, x.new_zeros(()))
            if reached and torch.autograd.grad(total, leaf, allow_unused=True)[0] is not None:
                continue
            raise SpecError(
                f"neither the objective nor a constraint depends on {name!r}; use a result that does, or let it not "
                "vary",
                path=f"variables.{i}",
            )

    def settle(self) -> None:
        """Take errors from here on as points without a value: the declaration has been evaluated before."""
        # What was right for one design is wrong for another because of its values alone.
        self.rejects = REJECTED

    def called(self, entry: int) -> str:
        """Return the name of the variable that an entry of x belongs to."""
        return self.unknowns.called(entry)

    def accept(self, x: Tensor) -> None:
        """Take note of an iterate ``[n]``: what is remembered of its solves serves later ones."""
        if self._tried is not None and torch.equal(self._tried, x):
            self.forward.accept()

    def evaluate(self, x: Tensor) -> Quantities:
        """Return the goals at unknowns ``[n]``, with their graph."""
        values = self.unknowns.values(x)
        self._tried = x.detach()
        return self._goals(values, self.unknowns.plain(x, values))

    def _goals(self, values: Mapping[str, Tensor], seen: Mapping[str, Tensor]) -> Quantities:
        """Solve at values of the variables, and evaluate the goals, which see these."""
        return self.design.evaluated(lambda: self._quantities(values, seen))

    def _quantities(self, values: Mapping[str, Tensor], seen: Mapping[str, Tensor]) -> Quantities:
        spec = self.design.spec
        scope = DesignScope(spec, self.unknowns, self.forward(values), seen)
        constraints = self._constraints(scope)
        if isinstance(spec.objective, PythonFunction):
            rest, residual = _called(spec.objective, scope, "objective"), None
            rest = _one(rest, "objective")
        else:
            goal = spec.objective.expression
            try:
                if self.least_squares:
                    residual, rest = goal.parts(scope)
                else:
                    residual, rest = None, goal.evaluate(scope)
            except ExpressionError as error:
                raise ExpressionError(error.message, path="objective") from None
        return Quantities(rest, residual, constraints)

    def _constraints(self, scope: DesignScope) -> tuple[Tensor, ...]:
        found, free = [], []
        for i, constraint in enumerate(self.design.spec.constraints):
            if isinstance(constraint, PythonFunction):
                free.append(_called(constraint, scope, f"constraints.{i}").reshape(-1))
                continue
            try:
                found += constraint.expression.evaluate(scope)
            except ExpressionError as error:
                raise ExpressionError(error.message, path=f"constraints.{i}") from None
        parts = [c.reshape(1) for c in found] + free
        more = sum(part.numel() for part in parts) - self.equalities.numel()
        if free and more > 0:
            self.equalities = torch.nn.functional.pad(self.equalities, (0, more))
        return tuple(part.to(device="cpu", dtype=torch.float64) for part in parts)


def _times(at: Evaluation, factors: Tensor) -> Evaluation:
    constraints, jacobian = factors * at.constraints, factors[:, None] * at.jacobian
    return replace(at, constraints=constraints, jacobian=jacobian)


def _called(function: PythonFunction, scope: DesignScope, path: str) -> Tensor:
    """Call a function of the solution (or solutions by name), and of the values where it takes two."""
    solutions: Any = scope.solutions
    arguments = [solutions.get("", solutions)]
    accepts = [
        p
        for p in inspect.signature(function.function).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty
    ]
    if len(accepts) > 1:
        arguments.append(scope.values)
    found = function.function(*arguments)
    if not isinstance(found, Tensor) or found.is_complex():
        what = "complex" if isinstance(found, Tensor) else type(found).__name__
        raise ArgumentError(f"{path}: {function.name} returns a real tensor; received {what}")
    return found


def _one(value: Tensor, path: str) -> Tensor:
    if value.numel() != 1:
        raise ArgumentError(
            f"{path}: one number is needed; the function returned shape {list(value.shape)}"
        )
    return value.reshape(())
