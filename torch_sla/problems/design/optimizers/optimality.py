"""How far a point is from being a minimum: what is left to gain, multipliers, violations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.problems.design.optimizers.oracle import RejectedPoint

if TYPE_CHECKING:
    from torch_sla.problems.design.optimizers.oracle import Evaluation, Oracle

__all__ = ["astray", "farther", "gap", "multipliers", "ranges", "reaches", "violation"]

_FARTHEST = 1e9
"""Beyond that many lengths, a slope that matters would be within the rounding of gradients."""
_NEAR = 1e4
"""Of lengths, within which the first trial lies; a slope that foretells less is that of a minimum."""
_ASTRAY = 1e12
"""Of lengths; no variable that something bounds goes beyond, but for one that starts at a wrong size."""


def gap(x: Tensor, gradient: Tensor, lower: Tensor, upper: Tensor, lengths: Tensor) -> float:
    """Return by how much a function could still fall, to first order, within bounds and `lengths` ``[n]`` of x.

    Of a convex function within bounds it is a bound on what is left (Frank and Wolfe, Naval Research Logistics
    Quarterly 3, 1956; Jaggi, ICML 2013, eq. 2).

    Examples
    --------
    >>> one = torch.ones(1)
    >>> gap(one, -one, 0 * one, one, one), gap(one, 3 * one, 0 * one, one, one)
    (0.0, 3.0)
    """
    room = torch.where(gradient > 0, x - lower, upper - x).clamp(min=0.0)
    return float((gradient.abs() * torch.minimum(room, lengths)).sum())


def ranges(x: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Return how far each variable may be expected to go ``[n]``: the width of its bounds, or its size.

    Examples
    --------
    >>> ranges(torch.tensor([0.5, 3.0]), torch.tensor([0.0, 0.0]), torch.tensor([0.2, torch.inf]))
    tensor([0.2000, 3.0000])
    """
    width = upper - lower
    free = torch.isinf(width) | (width <= 0)
    return torch.where(free, x.abs().clamp(min=1.0), width)


def reaches(x: Tensor, lower: Tensor, upper: Tensor, lengths: Tensor) -> Tensor:
    """Return how far each variable may be expected to go from x ``[n]``: without bounds, as far as it has come.

    Of an objective that falls for ever, the slope is little beside the value in the end, and its product with the
    variable is not.

    Examples
    --------
    >>> one, far = torch.ones(1), torch.full((1,), torch.inf)
    >>> reaches(7 * one, -far, far, one), reaches(7 * one, 0 * one, 9 * one, 9 * one)
    (tensor([7.]), tensor([9.]))
    """
    return torch.where(torch.isinf(upper - lower), torch.maximum(lengths, x.abs()), lengths)


def astray(
    oracle: Oracle, x: Tensor, value: float, lower: Tensor, upper: Tensor, lengths: Tensor
) -> str:
    """Return what to do about a variable that went far beyond its length towards no bound; nothing where none did.

    Examples
    --------
    >>> from torch_sla.problems.design.optimizers import FunctionOracle
    >>> x, far = torch.tensor([1.0, 1e13]), torch.full((2,), torch.inf)
    >>> astray(FunctionOracle(), x, -1e13, -far, far, torch.ones(2))
    'entry 1 of x went to 1e+13, ... give it a bound or a constraint, or start it near its size'
    >>> astray(FunctionOracle(), x, -1e13, -far, far, torch.full((2,), 1e7))
    ''
    """
    bound = torch.where(x > 0, upper, lower)
    beyond = torch.where(torch.isinf(bound), x.abs() / lengths, 0.0)
    if not bool((beyond > _ASTRAY).any()):
        return ""
    entry = int(beyond.argmax())
    return (
        f"{oracle.called(entry)} went to {float(x[entry]):.3g}, far beyond its size at the start, and the objective, "
        f"{value:.3g} there, still falls: nothing bounds it; give it a bound or a constraint, or start it near its size"
    )


def farther(
    oracle: Oracle,
    x: Tensor,
    at: Evaluation,
    lower: Tensor,
    upper: Tensor,
    lengths: Tensor,
    gain: float,
) -> Tensor | None:
    """Return longer `lengths` where variables without bounds go farther downhill than these; None where none does.

    The length of such a variable is a guess: 0 is where a heat flux of 1e7 W/m² starts as well. Each group of them is
    moved down the slope of the Lagrangian until that foretells a change by `gain`. Where the fall is at least half of
    what is foretold, it is moved ten times as far, and so on.
    """
    free = torch.isinf(upper - lower)
    if not bool(free.any()) or not gain > 0:
        return None
    price = multipliers(x, at, lower, upper, lengths, oracle.equalities)
    slope = at.gradient + price @ at.jacobian
    found = lengths.clone()
    for group in oracle.groups:
        own = torch.zeros_like(x)
        own[group] = torch.where(free[group], slope[group], 0.0)
        steepest = float(own.abs().max()) if own.numel() else 0.0
        if steepest == 0:
            continue
        way = -own / steepest * lengths
        times = 10.0 * gain / max(float(-(slope @ way)), 1e-300)
        if times > _NEAR:
            continue
        while times <= _FARTHEST:
            to = (x + times * way).clamp(lower, upper)
            foretold = float(slope @ (x - to))
            try:
                there = oracle.value_and_grad(to)
            except RejectedPoint:
                break
            fall = at.value - there.value + float(price @ (at.constraints - there.constraints))
            if not fall >= 0.5 * foretold > 0:
                break
            moved = torch.maximum(times * lengths[group], found[group])
            found[group] = torch.where(own[group] != 0, moved, found[group])
            times *= 10.0
    return None if torch.equal(found, lengths) else found


def violation(constraints: Tensor, equalities: Tensor) -> float:
    """Return the largest violation of ``c <= 0`` and, for equalities, ``c = 0``.

    Examples
    --------
    >>> violation(torch.tensor([-3.0, -0.5]), torch.tensor([False, True]))
    0.5
    """
    if not constraints.numel():
        return 0.0
    return float(torch.where(equalities, constraints.abs(), constraints.clamp(min=0.0)).max())


def multipliers(
    x: Tensor,
    at: Evaluation,
    lower: Tensor,
    upper: Tensor,
    lengths: Tensor,
    equalities: Tensor,
) -> Tensor:
    """Return the multipliers ``[m]`` that make the point look most like a minimum.

    They minimize ``‖w (∇f + Jᵀλ)‖²``, each entry weighted by its distance from its bounds (at most its length), plus
    ``Σ (c_i λ_i)²`` over inequalities that hold, with ``λ_i >= 0`` for inequalities: least-squares multipliers
    (Nocedal and Wright, Numerical Optimization, 2nd edition, eq. 18.21) with complementarity.
    """
    from scipy.optimize import lsq_linear

    m = at.constraints.numel()
    if not m:
        return x.new_zeros(0)
    weight = torch.minimum(torch.minimum(x - lower, upper - x), lengths).clamp(min=0.0)
    slack = torch.where(equalities, 0.0, at.constraints.clamp(max=0.0))
    # The normal equations would square the condition; the triangular factor keeps the problem m by m.
    stacked = torch.cat([(at.jacobian * weight).T, torch.diag(slack)])
    target = torch.cat([-at.gradient * weight, x.new_zeros(m)])
    q, r = torch.linalg.qr(stacked)
    least = torch.where(equalities, -torch.inf, 0.0).to(torch.float64)
    # By its active set: inside of the bounds, none would be zero, and what it leaves out would count as left to gain.
    sizes = torch.linalg.vector_norm(r, dim=0)
    sizes = torch.where(sizes > 0, sizes, 1.0)
    found = lsq_linear(
        (r / sizes).numpy(),
        (q.T @ target).numpy(),
        bounds=(least.numpy(), [torch.inf] * m),
        method="bvls",
        tol=1e-15,
        max_iter=10 * m,
    )
    return torch.maximum(torch.from_numpy(found.x), least).div(sizes).to(x)
