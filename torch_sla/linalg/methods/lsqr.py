"""Least squares by bidiagonalisation: LSQR.

Paige and Saunders, ACM Trans. Math. Softw. 8, 1982, pages 43-71.
"""

from __future__ import annotations

import torch
from torch import Tensor

from torch_sla.errors import Result
from torch_sla.linalg.methods.bidiagonal import Bidiagonal, rotate
from torch_sla.linalg.methods.outcome import KrylovOptions, Outcome
from torch_sla.linalg.methods.space import Operator, VectorSpace, divide

__all__ = ["lsqr"]


def lsqr(
    A: Operator,
    b: Tensor,
    *,
    adjoint: Operator,
    x0: Tensor | None = None,
    options: KrylovOptions = KrylovOptions(),  # noqa: B008
    space: VectorSpace | None = None,
) -> Outcome:
    """Minimise ``‖b - A x‖₂`` for any shape and rank; the shortest such ``x`` when there are many.

    Equal to conjugate gradients on the normal equations in exact arithmetic, and more accurate: the
    residual falls at every step.

    Parameters
    ----------
    A, adjoint
        ``[n, K] -> [m, K]`` and its conjugate transpose.
    b
        Right-hand sides ``[m, K]``.
    x0
        Starting value ``[n, K]``. The shortest *correction* to it is found.
    options
        Stops at ``‖r‖ <= max(rtol ‖b‖, atol)``, or, with `least_squares`, at
        ``‖Aᴴ r‖ <= rtol ‖A‖ ‖r‖`` with ``‖A‖`` estimated from below.
    space
        Where vectors live.

    Examples
    --------
    >>> import torch
    >>> A = torch.tensor([[1.0], [1.0]], dtype=torch.float64)
    >>> b = torch.tensor([[1.0], [3.0]], dtype=torch.float64)
    >>> lsqr(lambda v: A @ v, b, adjoint=lambda u: A.T @ u).x
    tensor([[2.]], dtype=torch.float64)
    """
    space = space or VectorSpace()
    r = b if x0 is None else b - A(x0)
    b_norm = space.norm(b)
    target = torch.clamp(options.rtol * b_norm, min=options.atol)
    unit = b_norm.clamp(min=torch.finfo(b_norm.dtype).tiny)
    pair = Bidiagonal(A, adjoint, r, space)
    x = torch.zeros_like(pair.v) if x0 is None else x0.clone()
    out = Outcome(x)
    limit = options.maxiter or max(10 * max(space.size(b), space.size(x)), 50)
    w, phi_bar, rho_bar = pair.v.clone(), pair.beta, pair.alpha
    norm2 = pair.alpha**2
    active = (phi_bar > target) & (rho_bar > 0)
    best, since = float("inf"), 0
    while bool(active.any()):
        if out.iterations >= limit:
            out.result = Result.MAXITER
            return out
        pair.step()
        c, s, rho = rotate(rho_bar, pair.beta)
        theta, rho_bar = s * pair.alpha, -c * pair.alpha
        phi, phi_bar = c * phi_bar, torch.where(active, s * phi_bar, phi_bar)
        x += divide(phi, rho, active) * w
        w = pair.v - divide(theta, rho) * w
        norm2 = norm2 + pair.beta**2 + pair.alpha**2
        slope = phi_bar * pair.alpha * c.abs()
        out.iterations += 1
        worst = float((phi_bar / unit).max())
        steepest = float((slope / (norm2.sqrt() * unit)).max())
        out.history.append(worst)
        if not worst < float("inf"):
            out.result = Result.NONFINITE
            return out
        done = (phi_bar <= target) | (pair.alpha == 0) | (pair.beta == 0)
        if options.least_squares:
            done |= slope <= options.rtol * norm2.sqrt() * phi_bar
        active &= ~done
        since = 0 if min(worst, steepest) < 0.999 * best else since + 1
        best = min(best, worst, steepest)
        if since >= options.stagnation:
            out.result = Result.STAGNATION
            return out
    if not options.least_squares and bool((phi_bar > target).any()):
        out.result = Result.STAGNATION
    return out
