"""Do the gradients converge like gradients? The Taylor remainder test.

For a smooth J the remainder ``|J(p + h d) − J(p) − h dJ·d|`` falls like h². The observed order between
successive h is 2 for a right gradient, and 1 for a wrong one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.problems.derivatives.gradient import Output, leaves_of, scalar, value_and_grad

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch_sla.problems.solution import Solution
    from torch_sla.problems.specs.problem import Problem

__all__ = ["GradientCheck", "check_gradients", "order_of"]

ORDER = 1.95


@dataclass(frozen=True)
class GradientCheck:
    """Orders of the Taylor remainder by parameter.

    Parameters
    ----------
    orders
        Observed order; infinite where the remainder is below rounding from the start.
    remainders
        The remainders for each step.
    steps
        The steps h, relative to the size of the parameter.
    """

    orders: dict[str, float]
    remainders: dict[str, list[float]]
    steps: list[float]

    @property
    def passed(self) -> bool:
        """Whether every order is at least 1.95."""
        return all(order >= ORDER for order in self.orders.values())

    def __str__(self) -> str:
        head = "  ".join(f"h={h:.1e}" for h in self.steps)
        lines = [f"{'parameter':<16} order  {head}"]
        for name, order in self.orders.items():
            tail = "  ".join(f"{r:9.2e}" for r in self.remainders[name])
            verdict = "" if order >= ORDER else "  <- wrong"
            lines.append(f"{name:<16} {order:5.2f}  {tail}{verdict}")
        return "\n".join(lines)


def cubic(solution: Solution) -> Tensor:
    """Return a functional of degree three, so that no order is reached by accident."""
    total = solution.u.new_zeros((), dtype=solution.u.real.dtype)
    for u in solution.fields.values():
        parts = (u.real, u.imag) if u.is_complex() else (u,)
        total = total + sum((part**3).mean() + (part**2).mean() for part in parts)
    return total


def check_gradients(
    problem: Problem,
    values: Mapping[str, Any],
    *,
    output: Output | None = None,
    seed: int = 20261,
    step: float = 0.02,
    count: int = 4,
) -> GradientCheck:
    """Measure Taylor remainder orders; see `Problem.check_gradients`."""
    target = cubic if output is None else output
    value, gradients = value_and_grad(problem, target, values)
    generator = torch.Generator().manual_seed(seed)
    steps = [step / 2**i for i in range(count)]
    base = {name: leaf.detach() for name, leaf in leaves_of(values).items()}
    orders, remainders = {}, {}
    for name, leaf in base.items():
        direction = torch.randn(leaf.shape, generator=generator, dtype=torch.float64).to(leaf)
        size = _scale(problem, name, leaf)
        slope = float((gradients[name] * direction).sum())
        found = []
        for h in steps:
            moved = {**base, name: leaf + h * size * direction}
            points = moved.pop("points", None)
            with torch.no_grad():
                there = scalar(problem.solve(moved, points=points), target)
            found.append(abs(float(there) - float(value) - h * size * slope))
        remainders[name] = found
        orders[name] = order_of(found, steps, abs(float(value)))
    return GradientCheck(orders, remainders, steps)


def _scale(problem: Problem, name: str, leaf: Tensor) -> float:
    """Size of a step of one: that of the parameter, or of the cells for moving points."""
    if name == "points":
        mesh = problem.compile().mesh
        corners = leaf[mesh.vertices]
        edges = (corners - corners.roll(1, 1)).norm(dim=-1)
        return 0.5 * float(edges.min())
    return float(leaf.abs().mean()) or 1.0


def order_of(remainders: list[float], steps: list[float], value: float) -> float:
    """Least-squares slope of log remainder over log h, over steps above rounding."""
    floor = 1e-13 * max(value, 1e-300)
    points = [
        (math.log(h), math.log(r)) for h, r in zip(steps, remainders, strict=True) if r > 50 * floor
    ]
    if len(points) < 2:
        return math.inf
    (x1, y1), (x0, y0) = points[-2], points[-1]
    return (y1 - y0) / (x1 - x0)
