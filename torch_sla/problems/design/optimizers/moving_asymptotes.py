"""The convex separable subproblem of the method of moving asymptotes, and its solution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from torch_sla.errors import Result, SolveError

__all__ = ["Approximation", "solve_subproblem"]

LEAST = 1e-10
ENOUGH = 1e-4
NEWTON = 200


@dataclass(frozen=True, eq=False)
class Approximation:
    """Functions ``f̃_i(x) = r_i + Σ_j p_ij/(U_j − x_j) + q_ij/(x_j − L_j)``, the objective first.

    Parameters
    ----------
    p, q
        ``[1 + m, n]``, not negative.
    r
        ``[1 + m]``.
    low, high
        Asymptotes ``[n]``.
    least, most
        Bounds ``[n]`` of the next x, strictly between the asymptotes.
    """

    p: Tensor
    q: Tensor
    r: Tensor
    low: Tensor
    high: Tensor
    least: Tensor
    most: Tensor

    def at(self, x: Tensor) -> Tensor:
        """Return the values ``[1 + m]``."""
        return self.r + self.p @ (1 / (self.high - x)) + self.q @ (1 / (x - self.low))


def solve_subproblem(f: Approximation, penalty: float) -> Tensor:
    """Minimize ``f̃_0(x) + Σ c (y_i + ½ y_i²)`` subject to ``f̃_i(x) − y_i <= 0``, ``y >= 0`` and the bounds.

    A primal-dual interior point method on the relaxed Karush-Kuhn-Tucker conditions, whose Newton systems are reduced
    to the m multipliers (the approach of Svanberg, "MMA and GCMMA: two methods for nonlinear optimization", KTH, 2007,
    section 5). It works on variables measured from the middle in distances of the asymptotes, on an objective whose
    steepest slope is 1, and on constraints relative to their size, so that nothing depends on units.

    Parameters
    ----------
    penalty
        The price c of violating a constraint by its own size, over the change of the objective between the asymptotes.

    Returns
    -------
    Tensor
        x ``[n]``.

    Raises
    ------
    SolveError
        If the iteration does not converge.
    """
    middle, reach = 0.5 * (f.low + f.high), 0.5 * (f.high - f.low)
    f, penalty = _scaled(f, middle, reach, penalty)
    return middle + reach * _interior(f, penalty)


def _scaled(
    f: Approximation, middle: Tensor, reach: Tensor, penalty: float
) -> tuple[Approximation, float]:
    """Return the approximations without dimensions, and the price in the unit of the objective."""
    slopes = (f.p - f.q) / reach
    first = slopes[0].abs()
    steepest = float(first.max()) if first.numel() else 0.0
    weight = 1 / steepest if steepest > 0 else 1.0
    sizes = f.at(middle)[1:].abs() + slopes[1:].abs().sum(1)
    weights = torch.cat([sizes.new_tensor([weight]), 1 / torch.where(sizes > 0, sizes, 1.0)])
    return Approximation(
        p=weights[:, None] * f.p / reach,
        q=weights[:, None] * f.q / reach,
        r=weights * f.r,
        low=-torch.ones_like(reach),
        high=torch.ones_like(reach),
        least=(f.least - middle) / reach,
        most=(f.most - middle) / reach,
    ), penalty * max(1.0, float(first.sum()) * weight)


def _interior(f: Approximation, penalty: float) -> Tensor:
    v = _Point.start(f, penalty)
    barrier = 1.0
    while barrier > LEAST:
        for _ in range(NEWTON):
            size = v.residual(f, penalty, barrier)
            if float(size.abs().max()) < 0.9 * barrier:
                break
            direction = v.newton(f, penalty, barrier)
            # As far as everything positive stays so, then back until the residual has fallen.
            length = v.longest(f, direction)
            norm = float(size.norm())
            for _ in range(50):
                moved = v.moved(direction, length)
                if float(moved.residual(f, penalty, barrier).norm()) < norm:
                    break
                length *= 0.5
            else:
                break  # the norm is down to rounding
            v = moved
        barrier *= 0.1
    left = float(v.residual(f, penalty, LEAST).abs().max())
    if not left <= ENOUGH:
        raise SolveError(
            Result.STAGNATION,
            "the subproblem of moving asymptotes was not solved",
            iterations=NEWTON,
            residual=left,
        )
    return v.x.clamp(f.least, f.most)


class _Point(NamedTuple):
    """Unknowns of the interior point method: x, y, the multipliers, and those of the bounds."""

    x: Tensor
    y: Tensor
    multiplier: Tensor
    lower: Tensor
    upper: Tensor
    relaxed: Tensor
    slack: Tensor

    @staticmethod
    def start(f: Approximation, penalty: float) -> _Point:
        x = 0.5 * (f.least + f.most)
        ones = f.r.new_ones(f.r.numel() - 1)
        return _Point(
            x=x,
            y=ones,
            multiplier=ones,
            lower=(1 / (x - f.least)).clamp(min=1.0),
            upper=(1 / (f.most - x)).clamp(min=1.0),
            relaxed=ones * max(1.0, 0.5 * penalty),
            slack=ones,
        )

    def moved(self, direction: tuple[Tensor, ...], length: float) -> _Point:
        return _Point(*(a + length * d for a, d in zip(self, direction, strict=True)))

    def longest(self, f: Approximation, direction: tuple[Tensor, ...]) -> float:
        """Return the share of the step, at most 1, after which what is positive keeps 1 % of itself."""
        dx = direction[0]
        ratios = [-dx / (self.x - f.least), dx / (f.most - self.x)]
        ratios += [-d / a for a, d in zip(self[1:], direction[1:], strict=True)]
        steepest = max(float(t.max()) for t in ratios if t.numel())
        return 1.0 / max(1.0, steepest / 0.99)

    def _lagrangian(self, f: Approximation) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradient of objective + multipliers, its diagonal Hessian, and the constraints' gradients."""
        up, down = 1 / (f.high - self.x), 1 / (self.x - f.low)
        weights = torch.cat([self.multiplier.new_ones(1), self.multiplier])
        p, q = weights @ f.p, weights @ f.q
        rows = f.p[1:] * up**2 - f.q[1:] * down**2
        return p * up**2 - q * down**2, 2 * (p * up**3 + q * down**3), rows

    def residual(self, f: Approximation, penalty: float, barrier: float) -> Tensor:
        gradient, _, _ = self._lagrangian(f)
        return torch.cat(
            [
                gradient - self.lower + self.upper,
                penalty * (1 + self.y) - self.multiplier - self.relaxed,
                f.at(self.x)[1:] - self.y + self.slack,
                self.lower * (self.x - f.least) - barrier,
                self.upper * (f.most - self.x) - barrier,
                self.relaxed * self.y - barrier,
                self.multiplier * self.slack - barrier,
            ]
        )

    def newton(self, f: Approximation, penalty: float, barrier: float) -> tuple[Tensor, ...]:
        gradient, curvature, rows = self._lagrangian(f)
        below, above = self.x - f.least, f.most - self.x
        # The multipliers of bounds and slacks are eliminated first, then x and y, both diagonal.
        dx = gradient - barrier / below + barrier / above
        wx = curvature + self.lower / below + self.upper / above
        dy = penalty * (1 + self.y) - self.multiplier - barrier / self.y
        wy = penalty + self.relaxed / self.y
        dm = f.at(self.x)[1:] - self.y + barrier / self.multiplier
        wm = self.slack / self.multiplier + 1 / wy
        matrix = (rows / wx) @ rows.T + torch.diag(wm)
        multiplier = torch.linalg.solve(matrix, dm + dy / wy - rows @ (dx / wx))
        x = -(dx + multiplier @ rows) / wx
        y = (multiplier - dy) / wy
        return (
            x,
            y,
            multiplier,
            barrier / below - self.lower * (1 + x / below),
            barrier / above - self.upper * (1 - x / above),
            barrier / self.y - self.relaxed * (1 + y / self.y),
            barrier / self.multiplier - self.slack * (1 + multiplier / self.multiplier),
        )
