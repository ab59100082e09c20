"""Smoothers that are polynomials in a diagonal times the matrix: parallel, and symmetric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from torch_sla.errors import ArgumentError
from torch_sla.linalg.kernels.rows import Rows, product, relax
from torch_sla.linalg.kernels.sparse import diagonal, segment_sum

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LOWER", "Smoother", "chebyshev_steps", "make_smoother", "scattered", "spectral_radius"]

_POWER_STEPS = 12
_SAFETY = 1.1  # over what the power method has seen
LOWER = 0.25  # end of the interval of Chebyshev's polynomial, over the radius, which is the other


@dataclass(frozen=True)
class Smoother:
    """Steps ``x += momentum (x - before) + alpha w (b - A x)``.

    Parameters
    ----------
    weight
        ``w`` ``[n]``.
    steps
        ``(alpha, momentum)`` of each, short enough for kernels that take them in single precision.
    """

    weight: Tensor
    steps: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        short = tuple((_short(alpha), _short(momentum)) for alpha, momentum in self.steps)
        object.__setattr__(self, "steps", short)

    def from_zero(self, A: Rows, b: Tensor) -> Tensor:
        """Smooth from a zero guess, ``b`` ``[n, K]``."""
        x, before = (self.steps[0][0] * self.weight).unsqueeze(1) * b, None
        for alpha, momentum in self.steps[1:]:
            x, before = relax(A, x, b, self.weight, alpha, before=before, momentum=momentum), x
        return x

    def __call__(self, A: Rows, x: Tensor, b: Tensor) -> Tensor:
        """Smooth from ``x``, which is left as it is."""
        before: Tensor | None = None
        for alpha, momentum in self.steps:
            x, before = relax(A, x, b, self.weight, alpha, before=before, momentum=momentum), x
        return x


def _short(x: float) -> float:
    """Round to a multiple of ``2**-20``: ``x`` and ``1 + x`` are then exact in float32."""
    return round(x * 2**20) / 2**20


def scattered(i: Tensor, dtype: torch.dtype) -> Tensor:
    """Return numbers between -1/2 and 1/2 that depend on the integers `i` without any pattern."""
    h = (i * 0x1E3779B97F4A7C15) ^ (i >> 3)
    return ((h >> 40) & 0xFFFF).to(dtype) / 65536.0 - 0.5


def spectral_radius(A: Rows, inverse: Tensor) -> float:
    """Estimate the largest eigenvalue of ``D⁻¹ A`` from above, by the power method.

    Starts from a fixed vector; the safety factor covers what the last steps would still have found.
    """
    n = A.n_rows
    v = scattered(torch.arange(n, device=A.values.device), A.values.dtype).unsqueeze(1)
    norm = v.new_ones(())
    for _ in range(_POWER_STEPS):
        v = product(A, v) * inverse.unsqueeze(1)
        norm = torch.linalg.vector_norm(v)
        v = v / norm.clamp(min=torch.finfo(v.dtype).tiny)
    return max(float(norm) * _SAFETY, torch.finfo(v.dtype).tiny)


def make_smoother(name: str, sweeps: int, A: Rows) -> tuple[Smoother, float]:
    """Make a smoother for the scalar matrix of a level; also returns the spectral radius.

    Parameters
    ----------
    name
        ``"chebyshev"``, ``"jacobi"``, ``"l1_jacobi"`` or ``"spai0"``.
    sweeps
        Steps; Chebyshev uses degree ``sweeps + 1``.
    """
    d = diagonal(A.crow, A.ccol, A.values, A.n_cols)
    inverse = torch.where(d != 0, 1.0 / torch.where(d != 0, d, 1.0), 0.0)
    radius = spectral_radius(A, inverse)
    if name == "chebyshev":
        return Smoother(inverse, chebyshev_steps(radius, sweeps + 1)), radius
    if name == "jacobi":
        return Smoother(inverse, ((4.0 / (3.0 * radius), 0.0),) * sweeps), radius
    if name == "l1_jacobi":
        size = _row_sums(A, A.values.abs())
        weight = torch.where(size > 0, d.sign() / torch.where(size > 0, size, 1.0), 0.0)
        return Smoother(weight, ((1.0, 0.0),) * sweeps), radius
    if name == "spai0":
        square = _row_sums(A, A.values.square())
        weight = torch.where(square > 0, d / torch.where(square > 0, square, 1.0), 0.0)
        return Smoother(weight, ((1.0, 0.0),) * sweeps), radius
    raise ArgumentError(
        f"`smoother` must be chebyshev, jacobi, l1_jacobi or spai0 on a device, got {name!r}; "
        "sweeps row after row have no parallel form"
    )


def _row_sums(A: Rows, x: Tensor) -> Tensor:
    order = torch.arange(A.nnz, dtype=A.crow.dtype, device=A.crow.device)
    return segment_sum(x.reshape(1, -1, 1), A.crow, order, longest=A.longest).flatten()


def chebyshev_steps(
    radius: float, degree: int, lower: float = LOWER
) -> tuple[tuple[float, float], ...]:
    """Return the steps of the polynomial that is smallest from ``lower * radius`` on (Saad, algorithm 12.1)."""
    theta = 0.5 * (1.0 + lower) * radius
    delta = 0.5 * (1.0 - lower) * radius
    sigma = theta / delta
    rho = 1.0 / sigma
    steps = [(1.0 / theta, 0.0)]
    for _ in range(degree - 1):
        following = 1.0 / (2.0 * sigma - rho)
        steps.append((2.0 * following / delta, following * rho))
        rho = following
    return tuple(steps)
