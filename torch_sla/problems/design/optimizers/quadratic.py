"""A step that lowers a quadratic model within bounds and a trust region, from products with its matrix alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

__all__ = ["ModelStep", "bounded_step"]

DECREASE = 1e-2
MINOR = 6


@dataclass(frozen=True, eq=False)
class ModelStep:
    """A step, what the model predicts, and what it took.

    Parameters
    ----------
    step
        ``[n]``; x + step lies within the bounds.
    predicted
        By how much the model falls.
    products
        Products with the matrix.
    """

    step: Tensor
    predicted: float
    products: int


def bounded_step(
    x: Tensor,
    gradient: Tensor,
    lower: Tensor,
    upper: Tensor,
    product: Callable[[Tensor], Tensor],
    *,
    radius: float,
    rtol: float,
    limit: int,
) -> ModelStep:
    """Lower ``gᵀs + ½ sᵀHs`` over ``lower <= x + s <= upper``, about ``‖s‖ <= radius``.

    A Cauchy step along the projected gradient, then truncated conjugate gradients over the entries that are not at a
    bound, each followed by a projected search (Lin and Moré, SIAM J. Optim. 9(4), 1999, algorithm 4.2 and section 5;
    the conjugate gradients are Steihaug's, SIAM J. Numer. Anal. 20(3), 1983).

    Parameters
    ----------
    rtol
        The model's gradient over the free entries is brought below this share of its first norm.
    limit
        Largest number of conjugate gradient iterations.
    """
    model = _Model(gradient, product)
    s, hs = _cauchy(model, x, lower, upper, radius)
    target = rtol * float(_open(x, gradient, lower, upper).norm())
    left = limit
    for _ in range(MINOR):
        at = x + s
        free = (at > lower) & (at < upper)
        r = torch.where(free, -(gradient + hs), 0.0)
        if left <= 0 or float(r.norm()) <= target:
            break
        w, hw, used, edge = _truncated(model, r, free, radius, target, left)
        left -= used
        t, ht = _search(model, x, s, hs, w, hw, lower, upper)
        moved = not torch.equal(t, s)
        s, hs = t, ht
        if edge or not moved:
            break
    return ModelStep(s, -model.value(s, hs), model.products)


class _Model:
    def __init__(self, gradient: Tensor, product: Callable[[Tensor], Tensor]) -> None:
        self.gradient, self._product, self.products = gradient, product, 0

    def times(self, v: Tensor) -> Tensor:
        self.products += 1
        return self._product(v)

    def value(self, s: Tensor, hs: Tensor) -> float:
        return float(s @ (self.gradient + 0.5 * hs))


def _open(x: Tensor, gradient: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Return the gradient without the entries that a bound holds."""
    held = ((x <= lower) & (gradient > 0)) | ((x >= upper) & (gradient < 0))
    return torch.where(held, 0.0, gradient)


def _cauchy(
    model: _Model, x: Tensor, lower: Tensor, upper: Tensor, radius: float
) -> tuple[Tensor, Tensor]:
    """Step along the projected gradient until the model has fallen enough."""
    g = _open(x, model.gradient, lower, upper)
    size = float(g.norm())
    if size == 0:
        return torch.zeros_like(x), torch.zeros_like(x)
    hg = model.times(g)
    curvature = float(g @ hg)
    alpha = radius / size
    if curvature > 0:
        alpha = min(alpha, size**2 / curvature)
    straight = x - alpha * g
    if bool(((straight >= lower) & (straight <= upper)).all()):
        return -alpha * g, -alpha * hg
    for _ in range(60):
        s = (x - alpha * g).clamp(lower, upper) - x
        hs = model.times(s)
        if model.value(s, hs) <= DECREASE * float(model.gradient @ s):
            return s, hs
        alpha *= 0.25
    return torch.zeros_like(x), torch.zeros_like(x)


def _truncated(
    model: _Model, r: Tensor, free: Tensor, radius: float, target: float, limit: int
) -> tuple[Tensor, Tensor, int, bool]:
    """Conjugate gradients over the free entries; return w, H w, iterations, and whether it met the radius."""
    w, hw = torch.zeros_like(r), torch.zeros_like(r)
    p, rho = r.clone(), float(r @ r)
    for k in range(1, limit + 1):
        hp = model.times(p)
        curvature = float(p @ hp)
        alpha = rho / curvature if curvature > 0 else float("inf")
        if curvature <= 0 or float((w + alpha * p).norm()) >= radius:
            alpha = _to_edge(w, p, radius)
            return w + alpha * p, hw + alpha * hp, k, True
        w, hw = w + alpha * p, hw + alpha * hp
        r = r - alpha * torch.where(free, hp, 0.0)
        new = float(r @ r)
        if new**0.5 <= target:
            return w, hw, k, False
        p, rho = r + (new / rho) * p, new
    return w, hw, limit, False


def _to_edge(w: Tensor, p: Tensor, radius: float) -> float:
    """Return t >= 0 with ‖w + t p‖ = radius."""
    a, b, c = float(p @ p), float(w @ p), float(w @ w) - radius**2
    root = math.sqrt(max(b * b - a * c, 0.0))
    return -c / (b + root) if b > 0 else (root - b) / a


def _search(
    model: _Model,
    x: Tensor,
    s: Tensor,
    hs: Tensor,
    w: Tensor,
    hw: Tensor,
    lower: Tensor,
    upper: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return a step towards s + w that keeps to the bounds and lowers the model enough."""
    whole = x + s + w
    if bool(((whole >= lower) & (whole <= upper)).all()):
        return s + w, hs + hw
    now = model.value(s, hs)
    slope = float((model.gradient + hs) @ w)
    room = torch.where(w > 0, (upper - x - s) / w, (lower - x - s) / w)
    first = float(torch.where(w == 0, torch.inf, room).min())
    beta = 1.0
    while beta > first:
        t = (x + s + beta * w).clamp(lower, upper) - x
        ht = model.times(t)
        if model.value(t, ht) <= now + DECREASE * min(slope, 0.0) * beta:
            return t, ht
        beta *= 0.5
    # Up to the first bound the way is straight, and the model falls all along it.
    t = (x + s + first * w).clamp(lower, upper) - x
    return t, hs + first * hw
