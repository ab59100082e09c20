"""What LSQR and LSMR share: the bidiagonalisation of Golub and Kahan, and when to stop.

Golub and Kahan, J. SIAM Numer. Anal. B 2, 1965, pages 205-224.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.errors import Result
from torch_sla.linalg.checks import read
from torch_sla.linalg.methods.outcome import Outcome
from torch_sla.linalg.methods.space import Operator, VectorSpace, divide

if TYPE_CHECKING:
    from torch_sla.linalg.methods.outcome import KrylovOptions

__all__ = ["Bidiagonal", "Descent", "rotate"]


class Bidiagonal:
    """``β₁ u₁ = r``, then ``A vₖ = αₖ uₖ + βₖ₊₁ uₖ₊₁`` and ``Aᴴ uₖ₊₁ = βₖ₊₁ vₖ + αₖ₊₁ vₖ₊₁``.

    Parameters
    ----------
    A, adjoint
        ``[n, K] -> [m, K]`` and back.
    r
        ``[m, K]``, where it starts.
    space
        Where vectors live.

    Attributes
    ----------
    u, v
        Present vectors.
    alpha, beta
        Present coefficients ``[K]``; zero once a column is exhausted.
    """

    def __init__(self, A: Operator, adjoint: Operator, r: Tensor, space: VectorSpace) -> None:
        self._A, self._adjoint, self._space = A, adjoint, space
        self.beta = space.norm(r)
        self.u = divide(r, self.beta.to(r.dtype))
        # The first beta is the size of b, not of the matrix: nothing tells yet what is rounding.
        self.v, self.alpha = self._unit(adjoint(self.u), torch.zeros_like(self.beta))

    def _unit(self, w: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
        norm = self._space.norm(w)
        norm = torch.where(norm <= torch.finfo(norm.dtype).eps * size, 0.0, norm)
        return divide(w, norm.to(w.dtype)), norm

    def step(self) -> None:
        """Advance by one."""
        w = self._A(self.v)
        size = torch.maximum(self._space.norm(w), self.alpha)
        self.u, self.beta = self._unit(w - self.alpha * self.u, size)
        w = self._adjoint(self.u)
        size = torch.maximum(self._space.norm(w), self.beta)
        self.v, self.alpha = self._unit(w - self.beta * self.v, size)


class Descent:
    """A least-squares problem on its way down: where it is, and whether to go on.

    Parameters
    ----------
    A, adjoint, b, x0, options, space
        As for `torch_sla.linalg.methods.lsqr.lsqr`.

    Attributes
    ----------
    pair
        The bidiagonalisation, from the first residual on.
    out
        The solution, and how it ended.
    active
        Columns that have not converged ``[K]``.
    """

    def __init__(
        self,
        A: Operator,
        adjoint: Operator,
        b: Tensor,
        x0: Tensor | None,
        options: KrylovOptions,
        space: VectorSpace,
    ) -> None:
        r = b if x0 is None else b - A(x0)
        b_norm = space.norm(b)
        self._target = torch.clamp(options.rtol * b_norm, min=options.atol)
        self._unit = b_norm.clamp(min=torch.finfo(b_norm.dtype).tiny)
        self.pair = pair = Bidiagonal(A, adjoint, r, space)
        self.out = Outcome(torch.zeros_like(pair.v) if x0 is None else x0.clone())
        self._options = options
        self._limit = options.maxiter or max(10 * max(space.size(b), space.size(self.out.x)), 50)
        self._norm2 = pair.alpha**2  # of A, from below
        self._residual = pair.beta
        self.active = (pair.beta > self._target) & (pair.alpha > 0)
        finite, going = read(torch.isfinite(pair.beta + b_norm).all(), self.active.any())
        self._going = bool(going)
        if not finite:
            self.out.result = Result.NONFINITE
        self._best, self._since = float("inf"), 0

    def goes_on(self) -> bool:
        """Whether to take another step; if not, `out` says why."""
        out = self.out
        if out.result is not Result.CONVERGED:
            return False
        if self._going:
            if out.iterations < self._limit:
                return True
            out.result = Result.MAXITER
        elif not self._options.least_squares and bool((self._residual > self._target).any()):
            out.result = Result.STAGNATION
        return False

    def stepped(self, residual: Tensor, slope: Tensor) -> None:
        """Take note of a step of `pair` that led to ``‖r‖`` and ``‖Aᴴ r‖``, each ``[K]``."""
        pair, out, options = self.pair, self.out, self._options
        self._residual = residual
        self._norm2 = self._norm2 + pair.beta**2 + pair.alpha**2
        norm = self._norm2.sqrt()
        out.iterations += 1
        done = (residual <= self._target) | (pair.alpha == 0) | (pair.beta == 0)
        if options.least_squares:
            done |= slope <= options.rtol * norm * residual
        self.active &= ~done
        worst, steepest, going = read(
            (residual / self._unit).max(), (slope / (norm * self._unit)).max(), self.active.any()
        )
        self._going = bool(going)
        out.history.append(worst)
        if not worst < float("inf"):
            out.result = Result.NONFINITE
            return
        self._since = 0 if min(worst, steepest) < 0.999 * self._best else self._since + 1
        self._best = min(self._best, worst, steepest)
        if self._since >= options.stagnation:
            out.result = Result.STAGNATION


def rotate(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``c, s, r`` with ``c a + s b = r`` and ``s a = c b``, for real ``a`` and ``b``.

    Examples
    --------
    >>> import torch
    >>> rotate(torch.tensor(3.0), torch.tensor(4.0))
    (tensor(0.6000), tensor(0.8000), tensor(5.))
    """
    r = torch.hypot(a, b)
    return divide(a, r), divide(b, r), r
