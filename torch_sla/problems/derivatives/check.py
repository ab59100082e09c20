"""Do derivatives behave like derivatives? Taylor remainders of first and second order, and the dot-product test.

For a smooth J the remainder ``|J(p + h d) − J(p) − h ∇J·d|`` falls like h², and like h³ once ``½ h² d·H d`` is taken
away as well. The observed order between successive h is 2 (and 3) for right derivatives, and one less for wrong ones.
J v and Jᵀ w belong together when ``⟨w, J v⟩ = ⟨Jᵀ w, v⟩`` to rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.errors import GradientError
from torch_sla.problems.derivatives.gradient import (
    Output,
    leaves_of,
    nothing_given,
    scalar,
    solved,
    value_and_grad,
)
from torch_sla.problems.derivatives.products import Linearised, hvp, jvp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch_sla.problems.solution import Solution
    from torch_sla.problems.specs.problem import Problem

__all__ = ["GradientCheck", "TaylorTest", "check_gradients", "taylor_test"]

ORDERS = {"gradient": 1.95, "Hessian": 2.75}
MISMATCH = 1e-6


@dataclass(frozen=True)
class TaylorTest:
    """One row of the table.

    Parameters
    ----------
    parameter, direction
        What was moved, and how: ``"random"``, or ``"entry 7"`` alone.
    derivative
        ``"gradient"`` or ``"Hessian"``.
    remainders
        For each step.
    order
        Observed; infinite where the remainder is below rounding from the start.
    """

    parameter: str
    direction: str
    derivative: str
    remainders: tuple[float, ...]
    order: float

    @property
    def passed(self) -> bool:
        """Whether the order is at least 1.95 for a gradient (wrong: 1), 2.75 for a Hessian (wrong: 2)."""
        return self.order >= ORDERS[self.derivative]


@dataclass(frozen=True)
class GradientCheck:
    """What `check_gradients` found; ``print`` it for the table.

    Parameters
    ----------
    tests
        Taylor tests.
    steps
        The steps h, relative to the size of the parameter.
    mismatch
        ``|⟨w, J v⟩ − ⟨Jᵀ w, v⟩|`` over the sizes of the two sides, for random v and w.
    notes
        What could not be tested, and why.
    """

    tests: tuple[TaylorTest, ...]
    steps: tuple[float, ...]
    mismatch: float
    notes: tuple[str, ...] = field(default=())

    @property
    def orders(self) -> dict[str, float]:
        """Least order of the gradient by parameter."""
        return self._least("gradient")

    @property
    def second_orders(self) -> dict[str, float]:
        """Least order of the Hessian by parameter; empty where there are no second derivatives."""
        return self._least("Hessian")

    @property
    def passed(self) -> bool:
        """Whether every test passed."""
        return all(test.passed for test in self.tests) and not self.mismatch > MISMATCH

    def _least(self, derivative: str) -> dict[str, float]:
        found: dict[str, float] = {}
        for test in self.tests:
            if test.derivative == derivative:
                found[test.parameter] = min(test.order, found.get(test.parameter, math.inf))
        return found

    def __str__(self) -> str:
        head = "  ".join(f"h={h:.1e}" for h in self.steps)
        lines = [f"{'parameter':<16} {'direction':<12} {'derivative':<10} order  {head}"]
        for test in self.tests:
            tail = "  ".join(f"{r:9.2e}" for r in test.remainders)
            verdict = "" if test.passed else "  <- wrong"
            lines.append(
                f"{test.parameter:<16} {test.direction:<12} {test.derivative:<10} {test.order:5.2f}  {tail}{verdict}"
            )
        if not math.isnan(self.mismatch):
            verdict = "" if self.mismatch <= MISMATCH else "  <- wrong"
            lines.append(f"<w, J v> = <J^T w, v> to {self.mismatch:.1e}{verdict}")
        return "\n".join([*lines, *self.notes])


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
    start: Tensor | None = None,
    output: Output | None = None,
    seed: int = 20261,
    step: float = 0.02,
    count: int = 4,
    entries: int = 1,
    second: bool = True,
    products: bool = True,
) -> GradientCheck:
    """Measure Taylor remainder orders; see `Problem.check_gradients`."""
    if not values:
        raise nothing_given(problem)
    target = cubic if output is None else output
    value, gradients = value_and_grad(problem, target, values, start)
    generator = torch.Generator().manual_seed(seed)
    steps = tuple(step / 2**i for i in range(count))
    base = {name: leaf.detach() for name, leaf in leaves_of(values).items()}
    tests, notes = [], []

    def value_at(at: dict[str, Tensor]) -> float:
        with torch.no_grad():
            return float(scalar(solved(problem, at, start), target))

    noise = _noise_of(problem, value_at, base, gradients, float(value), generator)
    for name, leaf in base.items():
        size = _scale(problem, name, leaf)
        directions = {"random": _noise(leaf, generator)}
        directions |= _entries(leaf, gradients[name], entries)
        for word, direction in directions.items():
            slope = float((gradients[name] * direction).sum())
            found = []
            for h in steps:
                there = value_at({**base, name: leaf + h * size * direction})
                found.append(there - float(value) - h * size * slope)
            tests.append(taylor_test(name, word, "gradient", found, steps, noise))
            if second and word == "random":
                try:
                    curved = hvp(problem, target, {name: direction}, base, start)[name]
                except GradientError as error:
                    notes.append(f"no second derivative with respect to {name}: {error}")
                    continue
                bend = 0.5 * float((curved * direction).sum())
                left = [r - (h * size) ** 2 * bend for r, h in zip(found, steps, strict=True)]
                tests.append(taylor_test(name, word, "Hessian", left, steps, noise))
    mismatch = math.nan
    if products:
        try:
            mismatch = _mismatch(problem, base, start, generator)
        except GradientError as error:
            notes.append(f"no product with the Jacobian: {error}")
    return GradientCheck(tuple(tests), steps, mismatch, tuple(notes))


def _noise_of(
    problem: Problem,
    value_at: Callable[[dict[str, Tensor]], float],
    base: dict[str, Tensor],
    gradients: dict[str, Tensor],
    value: float,
    generator: torch.Generator,
) -> float:
    """Return how exact values are: what a step too small for curvature leaves unexplained."""
    found = 1e-13 * max(abs(value), 1e-300)
    for _ in range(2):
        way = {n: 1e-8 * _scale(problem, n, t) * _noise(t, generator) for n, t in base.items()}
        there = value_at({n: t + way[n] for n, t in base.items()})
        slope = sum(float((gradients[n] * d).sum()) for n, d in way.items())
        found = max(found, abs(there - value - slope))
    return found


def _noise(like: Tensor, generator: torch.Generator) -> Tensor:
    kind = torch.complex128 if like.is_complex() else torch.float64
    return torch.randn(like.shape, generator=generator, dtype=kind, device="cpu").to(like)


def _entries(leaf: Tensor, gradient: Tensor, count: int) -> dict[str, Tensor]:
    """Return directions along single entries, those with the largest gradients first."""
    if leaf.numel() < 2:
        return {}
    found = {}
    for index in gradient.abs().flatten().topk(min(count, leaf.numel())).indices.tolist():
        direction = torch.zeros_like(leaf)
        direction.view(-1)[index] = 1.0
        found[f"entry {index}"] = direction
    return found


def _mismatch(
    problem: Problem,
    base: dict[str, Tensor],
    start: Tensor | None,
    generator: torch.Generator,
) -> float:
    """Return by how much ⟨w, J v⟩ and ⟨Jᵀ w, v⟩ differ, relative to the sizes of their terms."""
    v = {n: _noise(leaf, generator) * _scale(problem, n, leaf) for n, leaf in base.items()}
    forward = jvp(problem, v, base, start)
    w = {n: _noise(t, generator) for n, t in forward.items() if t.is_floating_point()}
    w |= {n: _noise(t, generator) for n, t in forward.items() if t.is_complex()}
    back = Linearised.at(problem, base, start).vjp(w)
    left = [(w[n].conj() * forward[n]).real.sum() for n in w]
    right = [(back[n] * v[n]).sum() for n in v]
    size = sum(float((w[n].abs() * forward[n].abs()).sum()) for n in w)
    size += sum(float((back[n].abs() * v[n].abs()).sum()) for n in v)
    return abs(float(sum(left)) - float(sum(right))) / (size or 1.0)


def _scale(problem: Problem, name: str, leaf: Tensor) -> float:
    """Size of a step of one: that of the parameter, or of the cells for moving points."""
    if name == "points":
        mesh = problem.compile().mesh
        corners = leaf[mesh.vertices]
        edges = (corners - corners.roll(1, 1)).norm(dim=-1)
        return 0.5 * float(edges.min())
    return float(leaf.abs().mean()) or 1.0


def taylor_test(
    name: str,
    direction: str,
    derivative: str,
    remainders: list[float],
    steps: tuple[float, ...],
    noise: float,
) -> TaylorTest:
    """Return the row of remainders at steps, of values that are exact to `noise`."""
    sizes = tuple(abs(r) for r in remainders)
    return TaylorTest(name, direction, derivative, sizes, _order(sizes, steps, noise))


def _order(remainders: tuple[float, ...], steps: tuple[float, ...], noise: float) -> float:
    """Slope of log remainder over log h between the two smallest steps whose remainders stand out of the noise."""
    points = [
        (math.log(h), math.log(r)) for h, r in zip(steps, remainders, strict=True) if r > 50 * noise
    ]
    if len(points) < 2:
        return math.inf
    (x1, y1), (x0, y0) = points[-2], points[-1]
    return (y1 - y0) / (x1 - x0)
