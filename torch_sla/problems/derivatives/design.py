"""Do the gradients of a design problem converge like gradients? At its start, for each goal and variable."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.errors import GradientError
from torch_sla.problems.derivatives.check import GradientCheck, taylor_test

if TYPE_CHECKING:
    from torch_sla.problems.analyses.design.oracle import DesignOracle

__all__ = ["check_design"]


STEPS = tuple(0.02 / 2**i for i in range(4))


def check_design(oracle: DesignOracle, *, seed: int) -> GradientCheck:
    """Measure Taylor remainder orders of all goals, along random directions and the steepest coordinate.

    Along the random ones the Hessian of the objective is tested too.
    """
    oracle.second_order = True  # the graph of the point is kept
    x = oracle.start.clamp(oracle.lower, oracle.upper)
    found = oracle.begin(x)
    goals = {"objective": (found.value, found.gradient)}
    for i, (value, row) in enumerate(zip(found.constraints, found.jacobian, strict=True)):
        goals[f"constraint_{i}"] = (float(value), row)
    generator = torch.Generator().manual_seed(seed)
    steps = STEPS
    tests, notes = [], []
    for variable, where in oracle.unknowns.ranges.items():
        directions = {"random": _random(x, where, generator, _size(oracle, variable, x[where]))}
        if where.stop - where.start > 1:
            steepest = where.start + int(found.gradient[where].abs().argmax())
            one = torch.zeros_like(x)
            one[steepest] = _size(oracle, variable, x[where])
            directions[f"entry {steepest - where.start}"] = one
        for word, direction in directions.items():
            values = [_goals(oracle, x + h * direction) for h in steps]
            for goal, (value, gradient) in goals.items():
                slope = float(gradient @ direction)
                noise = 1e-13 * max(abs(value), abs(slope))
                name = f"{goal} by {variable}"
                left = [v[goal] - value - h * slope for h, v in zip(steps, values, strict=True)]
                tests.append(taylor_test(name, word, "gradient", left, steps, noise))
                if goal != "objective" or word != "random":
                    continue
                try:
                    bend = 0.5 * float(direction @ oracle.hvp(x, direction))
                except GradientError as error:
                    notes.append(f"no second derivative with respect to {variable}: {error}")
                    continue
                left = [r - h * h * bend for h, r in zip(steps, left, strict=True)]
                tests.append(taylor_test(name, word, "Hessian", left, steps, noise))
    return GradientCheck(tuple(tests), steps, math.nan, tuple(notes))


def _random(x: Tensor, where: slice, generator: torch.Generator, size: float) -> Tensor:
    direction = torch.zeros_like(x)
    part = torch.randn(where.stop - where.start, generator=generator, dtype=x.dtype, device="cpu")
    direction[where] = size * part
    return direction


def _size(oracle: DesignOracle, name: str, part: Tensor) -> float:
    """Size of a step of one: that of the unknowns, or of the cells where points move."""
    if name == "points":
        mesh = oracle.unknowns.chains[name].place.on_mesh
        corners = mesh.points[mesh.vertices]
        return 0.5 * float((corners - corners.roll(1, 1)).norm(dim=-1).min())
    return float(part.abs().mean()) or 1.0


def _goals(oracle: DesignOracle, x: Tensor) -> dict[str, float]:
    with torch.no_grad():
        found = oracle.evaluate(x)
    parts: list[Any] = [found.objective]
    if found.residual is not None:
        parts.append(0.5 * found.residual.square().sum())
    values = {"objective": sum(float(part) for part in parts if part is not None)}
    if found.constraints is not None:
        values |= {f"constraint_{i}": float(c) for i, c in enumerate(found.constraints)}
    return values
