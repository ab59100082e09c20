"""Functions with known minima, with and without constraints."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.problems.design.optimizers import FunctionOracle, Quantities

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MINIMA", "FailedError", "Minimum", "hs71", "quadratic", "rosenbrock", "row"]


def row(*numbers: float) -> Tensor:
    """Return float64."""
    return torch.tensor(numbers, dtype=torch.float64)


@dataclass
class Minimum:
    """A function, where to begin, bounds, and where it is least."""

    evaluate: Callable[[Tensor], Quantities]
    start: Tensor
    lower: Tensor
    upper: Tensor
    best: Tensor
    value: float
    equalities: tuple[bool, ...] = ()
    squares: bool = False

    def oracle(self, evaluate: Callable[[Tensor], Quantities] | None = None) -> FunctionOracle:
        """Return the function, or another one, as an oracle."""
        return FunctionOracle(
            evaluate or self.evaluate,
            equalities=torch.tensor(self.equalities, dtype=torch.bool),
            least_squares=self.squares,
            second_order=True,
            rejects=(FailedError,),
        )


class FailedError(Exception):
    """There is no value."""


def quadratic() -> Minimum:
    """Convex; two bounds are active at the minimum, which is known from its conditions."""
    n = 6
    i = torch.arange(n, dtype=torch.float64)
    A = torch.diag(2 + i) - torch.diag(torch.ones(n - 1), 1) - torch.diag(torch.ones(n - 1), -1)
    best = row(0.0, 0.5, 1.0, 0.3, 0.7, 0.2)
    force = row(-2.0, 0.0, 3.0, 0.0, 0.0, 0.0)  # into the bounds at 0 and at 1
    b = A @ best + force

    def evaluate(x: Tensor) -> Quantities:
        return Quantities(0.5 * x @ A @ x - b @ x)

    value = float(0.5 * best @ A @ best - b @ best)
    return Minimum(evaluate, torch.full((n,), 0.9).double(), 0 * best, 0 * best + 1, best, value)


def rosenbrock(*, squares: bool = False) -> Minimum:
    """Return the valley, as a value or as a sum of squares."""

    def residual(x: Tensor) -> Tensor:
        return torch.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]]) * math.sqrt(2)

    def evaluate(x: Tensor) -> Quantities:
        r = residual(x)
        return Quantities(residual=r) if squares else Quantities(0.5 * r.square().sum())

    far = row(5.0, 5.0)
    return Minimum(evaluate, row(-1.2, 1.0), -far, far, row(1.0, 1.0), 0.0, squares=squares)


def decay() -> Minimum:
    """Two exponentials fitted to what they give, plus a term that is no square and vanishes at the minimum."""
    t = torch.linspace(0, 2, 15, dtype=torch.float64)
    best = row(2.0, 1.0, 1.0, 3.0)

    def curve(x: Tensor) -> Tensor:
        return x[0] * torch.exp(-x[1] * t) + x[2] * torch.exp(-x[3] * t)

    target = curve(best)

    def evaluate(x: Tensor) -> Quantities:
        return Quantities(1e-3 * ((x - best) ** 4).sum(), residual=curve(x) - target)

    return Minimum(
        evaluate, row(1.0, 0.5, 0.5, 5.0), 0 * best, 0 * best + 10, best, 0.0, squares=True
    )


def cantilever() -> Minimum:
    """Svanberg 1987, section 5: a beam of five hollow segments; published 1.340 at 6.016 5.309 4.494 3.502 2.153."""
    c = row(61, 37, 19, 7, 1)

    def evaluate(x: Tensor) -> Quantities:
        return Quantities(0.0624 * x.sum(), constraints=((c / x**3).sum() - 1).reshape(1))

    # Lagrange: x_j = (3 c_j λ / 0.0624)^(1/4), the constraint active.
    k = c ** (1 / 4)
    best = k * (c / k**3).sum() ** (1 / 3)
    value = float(0.0624 * best.sum())
    assert abs(value - 1.340) < 5e-4
    assert torch.allclose(best, row(6.016, 5.309, 4.494, 3.502, 2.153), atol=2e-3)
    ones = torch.ones(5).double()
    return Minimum(evaluate, 5 * ones, ones, 10 * ones, best, value, equalities=(False,))


def two_bars() -> Minimum:
    """Svanberg 1987, section 5: a truss of two bars; published weight 1.51 at 1.41 0.38."""

    def evaluate(x: Tensor) -> Quantities:
        root = 0.124 * torch.sqrt(1 + x[1] ** 2)
        left = root * (8 / x[0] + 1 / (x[0] * x[1])) - 1
        right = root * (8 / x[0] - 1 / (x[0] * x[1])) - 1
        return Quantities(x[0] * torch.sqrt(1 + x[1] ** 2), constraints=torch.stack([left, right]))

    # The first constraint is active: x1 is a function of x2, and the weight 0.124 (1 + s²)(8 + 1/s) is least where
    # 16 s³ + s² = 1.
    s = 0.377
    for _ in range(50):
        s -= (16 * s**3 + s**2 - 1) / (48 * s**2 + 2 * s)
    first = 0.124 * math.sqrt(1 + s**2) * (8 + 1 / s)
    value = first * math.sqrt(1 + s**2)
    assert abs(value - 1.51) < 5e-3
    return Minimum(
        evaluate,
        row(1.5, 0.5),
        row(0.2, 0.1),
        row(4.0, 1.6),
        row(first, s),
        value,
        equalities=(False, False),
    )


def rosen_suzuki() -> Minimum:
    """Hock and Schittkowski 43: three inequalities, −44 at (0, 1, 2, −1)."""

    def evaluate(x: Tensor) -> Quantities:
        a, b, c, d = x
        f = a**2 + b**2 + 2 * c**2 + d**2 - 5 * a - 5 * b - 21 * c + 7 * d
        g = torch.stack(
            [
                a**2 + b**2 + c**2 + d**2 + a - b + c - d - 8,
                a**2 + 2 * b**2 + c**2 + 2 * d**2 - a - d - 10,
                2 * a**2 + b**2 + c**2 + 2 * a - b - d - 5,
            ]
        )
        return Quantities(f, constraints=g)

    far = torch.full((4,), 5.0).double()
    return Minimum(evaluate, 0 * far, -far, far, row(0, 1, 2, -1), -44.0, equalities=(False,) * 3)


def hs71() -> Minimum:
    """Hock and Schittkowski 71: an equality and an inequality within bounds, 17.0140173."""

    def evaluate(x: Tensor) -> Quantities:
        f = x[0] * x[3] * (x[0] + x[1] + x[2]) + x[2]
        return Quantities(f, constraints=torch.stack([x.square().sum() - 40, 25 - x.prod()]))

    ones = torch.ones(4).double()
    best = row(1.0, 4.7429994, 3.8211503, 1.3794082)
    return Minimum(
        evaluate, row(1, 5, 5, 1), ones, 5 * ones, best, 17.0140173, equalities=(True, False)
    )


def resource() -> Minimum:
    """Least Σ c/x under Σ v x <= 1: x is in proportion to √(c/v)."""
    c, v = row(1, 4, 9, 16), row(1, 1, 2, 1)
    shape = torch.sqrt(c / v)
    best = shape / (v @ shape)
    value = float((c / best).sum())

    def evaluate(x: Tensor) -> Quantities:
        return Quantities((c / x).sum(), constraints=(v @ x - 1).reshape(1))

    fifth = torch.full((4,), 0.2).double()
    return Minimum(
        evaluate, fifth, 0.01 + 0 * fifth, 1 + 0 * fifth, best, value, equalities=(False,)
    )


MINIMA: dict[str, Callable[[], Minimum]] = {
    f.__name__: f
    for f in (
        quadratic,
        rosenbrock,
        decay,
        cantilever,
        two_bars,
        rosen_suzuki,
        hs71,
        resource,
    )
}
MINIMA["squares"] = lambda: rosenbrock(squares=True)
