"""Estimates of the condition number from a few solves.

Hager, SIAM J. Sci. Stat. Comput. 5, 1984, pages 311-316; Higham, ACM Trans. Math. Softw. 14, 1988,
pages 381-396, algorithm 4.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from torch_sla.linalg.factor_cache import symbolics
from torch_sla.linalg.sparse.transforms import outside_transforms

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

__all__ = ["inverse_norm", "mixed_probe", "probe"]

_STEPS = 5


def inverse_norm(
    solve: Callable[[Tensor], Tensor], solve_adjoint: Callable[[Tensor], Tensor], like: Tensor
) -> float:
    """Estimate ``‖A⁻¹‖₁`` from below, rarely by more than a factor 3, in 4 to 11 solves.

    Parameters
    ----------
    solve, solve_adjoint
        ``A⁻¹ v`` and ``A⁻ᴴ v`` for ``v`` ``[M, 1]``.
    like
        ``[M, 1]``: size, dtype and device of a right-hand side.

    Examples
    --------
    >>> import torch
    >>> d = torch.tensor([[1.0], [0.25]])
    >>> inverse_norm(lambda v: v / d, lambda v: v / d, torch.ones(2, 1))
    4.0
    """
    n = like.shape[0]
    if n == 0:
        return 0.0
    x = torch.full_like(like, 1 / n)
    best = 0.0
    for _ in range(_STEPS):
        y = solve(x)
        size = float(y.abs().sum())
        if not size < float("inf"):
            return float("inf")
        if size <= best:
            break
        best = size
        magnitude = y.abs()
        sign = torch.where(magnitude > 0, y / magnitude.clamp(min=1e-300), torch.ones_like(y))
        z = solve_adjoint(sign)
        top = int(z.abs().argmax())
        if float(z.abs()[top]) <= float((z.conj() * x).sum().abs()):
            break
        x = torch.zeros_like(like)
        x[top] = 1
    i = torch.arange(n, dtype=torch.float64, device=like.device)
    alternating = (1 + i / max(n - 1, 1)) * (1 - 2 * (i % 2))
    other = float(solve(alternating.to(like.dtype).unsqueeze(1)).abs().sum()) * 2 / (3 * n)
    return max(best, other) if other < float("inf") else float("inf")


def probe(n: int, like: Tensor) -> Tensor:
    """Return two fixed vectors ``[n, 2]`` without pattern, the same on every machine.

    A solve with them shows a vanishing singular value. Sizes vary between 1/2 and 3/2, so that sums
    do not cancel exactly; the second column has no signs, so that it sees constants, the most
    common null vector, at full strength.
    """
    size, negative = _mixed(n, like)
    return torch.stack([size * (1.0 - 2.0 * negative), size], 1).to(like.dtype)


def mixed_probe(n: int, like: Tensor) -> Tensor:
    """Return one vector ``[n, 1]`` that keeps something of the signs of `probe`, and sees constants too.

    It is kept for the next factorisation, beside the analyses: do not write to it.
    """

    def make() -> Tensor:
        size, negative = _mixed(n, like)
        return size.mul_(negative.mul_(-2).add_(3)).mul_(0.5).to(like.dtype).unsqueeze(1)

    place = str(like.device)
    return symbolics.get(("probe", n, like.dtype, place), outside_transforms(make), place=place)


def _mixed(n: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Sizes ``[n]`` float64, and which are negative, 0 or 1 ``[n]`` int64. In place: they may be long."""
    mixed = torch.arange(1, n + 1, dtype=torch.int64, device=like.device)
    mixed.mul_(2654435761).bitwise_and_(0xFFFFFFFF)
    mixed.bitwise_xor_(mixed >> 15).mul_(2246822519).bitwise_and_(0xFFFFFFFF)
    size = (mixed & 0xFFFFF).double().mul_(1 / 0x100000).add_(0.5)
    return size, mixed.bitwise_right_shift_(21).bitwise_and_(1)
