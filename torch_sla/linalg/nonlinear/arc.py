"""Following equilibria past limit points: load and solution as functions of arc length."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.errors import Result, SolveError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Path", "follow"]

_CUTS = 14
_WANTED = 5
# Cosine between two tangents below which a step was too long.
_TURN = 0.95
_CORRECTIONS = 12
_MOST = 1000
_FLOOR = 1e4


@dataclass
class Path:
    """What was followed.

    Parameters
    ----------
    u
        Solution at the end ``[n]``.
    factors
        Load factor at the start and after each step.
    limits
        Load factors at limit points, by a cubic through the ends and slopes of a step.
    iterations
        Corrections of all steps.
    residual
        Of the last one, relative to its reference.
    result
        Whether the wanted factor was reached.
    """

    u: Tensor
    factors: list[float] = field(default_factory=lambda: [0.0])
    limits: list[float] = field(default_factory=list)
    iterations: int = 0
    residual: float = 0.0
    result: Result = Result.CONVERGED


def follow(
    residual: Callable[[Tensor, float], Tensor],
    solve: Callable[[Tensor, float, Tensor], Tensor],
    u: Tensor,
    *,
    first: float = 0.1,
    to: float = 1.0,
    rtol: float = 1e-10,
    reference: float = 0.0,
    tell: Callable[[int, float], None] | None = None,
) -> Path:
    """Follow ``F(u, λ) = 0`` from λ = 0 until λ first reaches `to`, over any number of limit points.

    Each step goes along the tangent of the path and returns to it in the plane normal to that tangent.
    The extended system is solved by two solves with the tangent matrix, which is singular at a limit
    point alone. Riks, Int. J. Solids Struct. 15 (1979), 529-551; Keller, in Applications of Bifurcation
    Theory, Academic Press 1977, 359-384. Branches are not searched for.

    Parameters
    ----------
    residual
        ``(u, λ) -> F [n]``.
    solve
        ``(u, λ, b) -> J(u, λ)⁻¹ b``.
    u
        Solution at λ = 0 ``[n]``.
    first
        Change of the load factor in the first step.
    to
        Load factor to end at.
    rtol, reference
        A step has converged when ``‖F‖ <= rtol max(reference, ‖∂F/∂λ‖)``.
    tell
        Called after each step with how many were taken and the load factor; what it raises ends the work.

    Examples
    --------
    A load of 1 on a shallow truss that carries 0.385 and then snaps through:

    >>> path = follow(
    ...     lambda w, t: w * (w - 1) * (w - 2) - t,
    ...     lambda w, t, b: b / (3 * w**2 - 6 * w + 2),
    ...     torch.zeros(1, dtype=torch.float64),
    ... )
    >>> [round(x, 1) for x in path.limits], round(float(path.u), 4)
    ([0.4, -0.4], 2.3247)
    """
    path = Path(u)
    h, at = 1e-3 * abs(first), 0.0

    def load(v: Tensor, factor: float) -> Tensor:
        """``-∂F/∂λ``, exact where the loads are proportional."""
        return (residual(v, factor - h) - residual(v, factor + h)) / (2 * h)

    v = solve(u, at, load(u, at))
    # The first step goes as far in the solution as in the load.
    weight = 1.0 / max(float(v @ v), torch.finfo(u.dtype).tiny)
    slope = (v / 2**0.5, 0.5**0.5)
    step = abs(first) * 2**0.5
    smallest = step / 2**_CUTS
    while len(path.factors) <= _MOST:
        if step < smallest:
            path.result = Result.STAGNATION
            return path
        found = _corrected(residual, solve, load, u, at, slope, weight, step, rtol, reference)
        turned = None if found is None else _slope(solve, load, found, slope, weight)
        if found is None or turned is None or (turned[2] < _TURN and step > 8 * smallest):
            step *= 0.5
            continue
        w, factor, count, left = found
        # Slopes along the old tangent; a path that turns by a right angle has none there.
        limit = _limit(at, factor, slope[1], turned[1] / turned[2], step) if turned[2] else None
        highest = max(at, factor)
        over = limit is not None and limit >= highest and limit + (limit - highest) > to
        if over and step >= 2 * smallest:
            # Over a maximum: the wanted factor is reached before it, and maybe left again between the ends.
            step *= 0.5
            continue
        path.iterations += count
        if factor >= to:
            between = u + (to - at) / (factor - at) * (w - u)
            scale = max(reference, float(torch.linalg.vector_norm(load(between, to))))
            ended = _at(residual, solve, between, to, rtol, scale)
            if ended is None or float((ended[0] - u).norm()) > 2 * float((w - u).norm()):
                step *= 0.5
                continue
            path.u, path.residual = ended[0], ended[2]
            path.iterations += ended[1]
            path.factors.append(to)
            if tell is not None:
                tell(len(path.factors) - 1, to)
            return path
        u, at, slope = w, factor, turned[:2]
        path.u, path.residual = u, left
        path.factors.append(at)
        if limit is not None:
            path.limits.append(limit)
        if tell is not None:
            tell(len(path.factors) - 1, at)
        step *= min(2.0, max(0.5, (_WANTED / max(count, 1)) ** 0.5))
    path.result = Result.MAXITER
    return path


def _slope(
    solve: Callable[[Tensor, float, Tensor], Tensor],
    load: Callable[[Tensor, float], Tensor],
    place: tuple[Tensor, float, int, float],
    before: tuple[Tensor, float],
    weight: float,
) -> tuple[Tensor, float, float] | None:
    """Return the unit tangent of the path at a place, onwards, and its cosine with the one before."""
    w, factor, _, _ = place
    try:
        v = solve(w, factor, load(w, factor))
    except SolveError:
        return None
    size = float(weight * (v @ v) + 1.0) ** 0.5
    cosine = (float(weight * (v @ before[0])) + before[1]) / size
    if cosine < 0:
        size, cosine = -size, -cosine
    return v / size, 1.0 / size, cosine


def _corrected(
    residual: Callable[[Tensor, float], Tensor],
    solve: Callable[[Tensor, float, Tensor], Tensor],
    load: Callable[[Tensor, float], Tensor],
    u: Tensor,
    at: float,
    slope: tuple[Tensor, float],
    weight: float,
    step: float,
    rtol: float,
    reference: float,
) -> tuple[Tensor, float, int, float] | None:
    """Go one step along the tangent and back to the path; None where that fails."""
    w, factor = u + step * slope[0], at + step * slope[1]
    for count in range(_CORRECTIONS):
        F, q = residual(w, factor), load(w, factor)
        scale = max(reference, float(torch.linalg.vector_norm(q)))
        size = float(torch.linalg.vector_norm(F))
        if not size < float("inf"):
            return None
        if size <= rtol * scale:
            return w, factor, count, size / scale
        try:
            back, along = solve(w, factor, F), solve(w, factor, q)
        except SolveError:
            return None
        below = slope[1] + weight * float(slope[0] @ along)
        if below == 0.0:
            return None
        change = weight * float(slope[0] @ back) / below
        moved = change * along - back
        w, factor = w + moved, factor + change
        if float(moved.norm()) <= 8 * torch.finfo(w.dtype).eps * float(w.norm()):
            # At the floor of the dtype; the residual is as small as it gets.
            size = float(residual(w, factor).norm())
            return (w, factor, count, size / scale) if size <= _FLOOR * rtol * scale else None
    return None


def _at(
    residual: Callable[[Tensor, float], Tensor],
    solve: Callable[[Tensor, float, Tensor], Tensor],
    u: Tensor,
    factor: float,
    rtol: float,
    scale: float,
) -> tuple[Tensor, int, float] | None:
    """Newton's method at a given load factor; None where it fails."""
    for count in range(_CORRECTIONS):
        F = residual(u, factor)
        size = float(torch.linalg.vector_norm(F))
        if not size < float("inf"):
            return None
        if size <= rtol * scale:
            return u, count, size / scale
        try:
            u = u - solve(u, factor, F)
        except SolveError:
            return None
    return None


def _limit(a: float, b: float, before: float, after: float, step: float) -> float | None:
    """Return the extremum of the load factor on a step, of the cubic with these ends and slopes; None without one."""
    if before * after >= 0:
        return None
    # a + step (before t + c t² + d t³) for t in [0, 1]; its slope changes sign once between the ends.
    rise = (b - a) / step
    c, d = 3 * rise - 2 * before - after, before + after - 2 * rise
    root = math.sqrt(c * c - 3 * d * before)
    t = -before / (c + (root if before < 0 else -root))
    return a + step * t * (before + t * (c + d * t))
