"""Newton, Picard and Anderson: what each does in one step of the loop.

Kelley, Iterative Methods for Linear and Nonlinear Equations, SIAM 1995, chapters 5 to 8; Walker and
Ni, SIAM J. Numer. Anal. 49, 2011, pages 1715-1735 (Anderson acceleration).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from torch_sla.errors import Result

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch_sla.linalg.nonlinear.options import NonlinearOptions

__all__ = ["Anderson", "Method", "Newton", "Picard", "make_method"]

Residual = "Callable[[Tensor], Tensor]"
_HALVINGS = 25


def _triangle(X: Tensor) -> Tensor:
    """Triangular factor of a few columns, which has all their inner products."""
    return torch.linalg.qr(X, mode="r").R


class Method(Protocol):
    """Supplies the steps."""

    def step(
        self, residual: Callable[[Tensor], Tensor], u: Tensor, F: Tensor
    ) -> tuple[Tensor, Tensor, Result | None]:
        """Return the next ``u``, its ``F``, and a result when the iteration cannot go on."""


class Newton:
    """``J δ = -F``, with backtracking until ``‖F‖`` decreases."""

    def __init__(
        self,
        solve: Callable[[Tensor, Tensor], Tensor],
        *,
        line_search: bool = True,
        norm: Callable[[Tensor], Tensor] = torch.linalg.vector_norm,
    ) -> None:
        self._solve, self._search, self._norm = solve, line_search, norm

    def step(
        self, residual: Callable[[Tensor], Tensor], u: Tensor, F: Tensor
    ) -> tuple[Tensor, Tensor, Result | None]:
        """Take one step."""
        delta = -self._solve(u, F)
        before = float(self._norm(F))
        length = 1.0
        for _ in range(_HALVINGS if self._search else 1):
            trial = u + length * delta
            G = residual(trial)
            after = float(self._norm(G))
            # A NaN compares false, so the step is shortened.
            if after <= (1 - 1e-4 * length) * before or not self._search:
                return trial, G, None
            length /= 2
        # Nothing decreases: at the floor of the dtype when the full step is rounding already.
        eps = torch.finfo(u.dtype).eps
        size = float(self._norm(delta))
        scale = float(self._norm(u))
        done = size <= 1e4 * eps * max(scale, torch.finfo(u.dtype).tiny)
        return u, F, Result.ROUNDOFF if done else Result.STAGNATION


class Picard:
    """``u - damping B F(u)``."""

    def __init__(self, precondition: Callable[[Tensor], Tensor], damping: float) -> None:
        self._apply, self._damping = precondition, damping

    def step(
        self, residual: Callable[[Tensor], Tensor], u: Tensor, F: Tensor
    ) -> tuple[Tensor, Tensor, Result | None]:
        """Take one step."""
        trial = u - self._damping * self._apply(F)
        return trial, residual(trial), None


class Anderson:
    """The fixed point of Picard, extrapolated from the last few steps by least squares."""

    def __init__(
        self,
        precondition: Callable[[Tensor], Tensor],
        damping: float,
        memory: int,
        triangle: Callable[[Tensor], Tensor] = _triangle,
    ) -> None:
        self._apply, self._damping, self._memory = precondition, damping, memory
        self._triangle = triangle
        self._last: tuple[Tensor, Tensor] | None = None
        self._du: list[Tensor] = []
        self._dr: list[Tensor] = []

    def step(
        self, residual: Callable[[Tensor], Tensor], u: Tensor, F: Tensor
    ) -> tuple[Tensor, Tensor, Result | None]:
        """Take one step."""
        r = -self._apply(F)
        if self._last is not None:
            self._du.append((u - self._last[0]).reshape(-1))
            self._dr.append((r - self._last[1]).reshape(-1))
            self._du, self._dr = self._du[-self._memory :], self._dr[-self._memory :]
        self._last = (u, r)
        move = self._damping * r
        if self._dr:
            R, U = torch.stack(self._dr, 1), torch.stack(self._du, 1)
            # By singular values: steps become parallel as the iteration converges.
            T = self._triangle(torch.cat([R, r.reshape(-1, 1)], 1))
            Q, s, W = torch.linalg.svd(T[:, :-1], full_matrices=False)
            kept = s > 1e-12 * s[0]
            gamma = W.mH[:, kept] @ ((Q[:, kept].mH @ T[:, -1]) / s[kept])
            move = move - ((U + self._damping * R) @ gamma).reshape(u.shape)
        trial = u + move
        return trial, residual(trial), None


def make_method(
    options: NonlinearOptions,
    solve: Callable[[Tensor, Tensor], Tensor],
    precondition: Callable[[Tensor], Tensor],
    norm: Callable[[Tensor], Tensor] = torch.linalg.vector_norm,
    triangle: Callable[[Tensor], Tensor] = _triangle,
) -> Method:
    """Make the method that `options` name.

    Parameters
    ----------
    solve
        ``(u, F) -> J(u)⁻¹ F``, for Newton.
    precondition
        ``F -> B F``, for the fixed-point methods.
    norm, triangle
        Of vectors, and of a few columns, over all processes where each holds a part.
    """
    if options.method == "newton":
        return Newton(solve, line_search=options.line_search, norm=norm)
    if options.method == "picard":
        return Picard(precondition, options.damping)
    return Anderson(precondition, options.damping, options.memory, triangle)
