"""Minimal residuals for Hermitian matrices, definite or not.

Paige and Saunders, SIAM J. Numer. Anal. 12, 1975, pages 617-629; the preconditioned form of
Elman, Silvester and Wathen, Finite Elements and Fast Iterative Solvers, 2nd ed., algorithm 4.1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from torch_sla.errors import Result
from torch_sla.linalg.checks import read
from torch_sla.linalg.methods.outcome import KrylovOptions, Outcome
from torch_sla.linalg.methods.space import Operator, VectorSpace, divide

__all__ = ["minres"]


def minres(
    A: Operator,
    b: Tensor,
    *,
    M: Operator | None = None,
    x0: Tensor | None = None,
    options: KrylovOptions = KrylovOptions(),  # noqa: B008
    space: VectorSpace | None = None,
) -> Outcome:
    """Solve ``A x = b`` for Hermitian ``A``.

    Parameters and shapes as in `torch_sla.linalg.methods.cg.cg`; `M` must be Hermitian positive
    definite although ``A`` need not be (``BREAKDOWN`` otherwise). Without `M` the 2-norm of the
    residual is minimal at every step; with it the norm of ``M``, and the true one is followed by a
    recurrence of its own. A singular, inconsistent system ends in ``STAGNATION``.

    Examples
    --------
    >>> import torch
    >>> d = torch.tensor([[1.0], [-2.0]], dtype=torch.float64)
    >>> minres(lambda v: d * v, torch.ones(2, 1, dtype=torch.float64)).x.squeeze()
    tensor([ 1.0000, -0.5000], dtype=torch.float64)
    """
    space = space or VectorSpace()
    limit = options.maxiter or max(10 * space.size(b), 50)
    precondition = M or (lambda v: v)
    x = torch.zeros_like(b) if x0 is None else x0.clone()
    r = b if x0 is None else b - A(x)
    b_norm = space.norm(b)
    target = torch.clamp(options.rtol * b_norm, min=options.atol)
    unit = b_norm.clamp(min=torch.finfo(b_norm.dtype).tiny)
    eps = torch.finfo(b_norm.dtype).eps
    out = Outcome(x)
    r_norm = space.norm(r)
    active = r_norm > target
    finite, going = read(torch.isfinite(r_norm + b_norm).all(), active.any())
    if not (finite and going):
        out.result = Result.CONVERGED if finite else Result.NONFINITE
        return out

    # Lanczos: beta v = residual space, q = M v the direction; u and u_old are beta v, not scaled.
    u, u_old, z = r.clone(), torch.zeros_like(r), precondition(r)
    energy = space.dot(u, z).real
    if bool((active & (energy <= 0)).any()):
        out.result = Result.BREAKDOWN
        return out
    beta = energy.clamp(min=0).sqrt()
    beta_old, phi_bar = torch.ones_like(beta), beta.clone()
    cs, sn = -torch.ones_like(beta), torch.zeros_like(beta)
    d_bar, epsilon, size = (torch.zeros_like(beta) for _ in range(3))
    w, w_old = torch.zeros_like(r), torch.zeros_like(r)
    best, since = float("inf"), 0
    for _ in range(limit):
        q = z * divide(torch.ones_like(beta), beta)
        y = A(q) - divide(beta, beta_old) * u_old
        alpha = space.dot(q, y).real
        y = y - divide(alpha, beta) * u
        u_old, u, z = u, y, precondition(y)
        energy = space.dot(u, z).real
        # The first beta is the size of b, not an entry of the tridiagonal matrix.
        size = torch.maximum(size, alpha.abs() + (beta if out.iterations else 0.0))
        negative = active & (energy < -eps * size * space.norm(u))
        finite, broken = read(torch.isfinite(energy).all(), negative.any())
        if not finite or broken:
            out.result = Result.BREAKDOWN if finite else Result.NONFINITE
            return out
        beta_old, beta = beta, energy.clamp(min=0).sqrt()
        exhausted = beta <= 8 * eps * size
        beta = torch.where(exhausted, 0.0, beta)
        # The tridiagonal matrix is made triangular by one reflection per step.
        epsilon_old, delta, gamma_bar = epsilon, cs * d_bar + sn * alpha, sn * d_bar - cs * alpha
        epsilon, d_bar = sn * beta, -cs * beta
        gamma = torch.hypot(gamma_bar, beta)
        step = active & (gamma > 8 * eps * size)
        cs, sn = divide(gamma_bar, gamma, step), divide(beta, gamma, step)
        phi, phi_bar = cs * phi_bar, torch.where(step, sn * phi_bar, phi_bar)
        w, w_old = divide(q - epsilon_old * w_old - delta * w, gamma, step), w
        x += phi * w
        change = torch.where(step, sn * sn, 1.0)
        r = change * r - divide(torch.where(step, phi_bar * cs, 0.0), beta) * u
        r_norm = torch.where(step, space.norm(r), r_norm)
        out.iterations += 1
        wanting = r_norm > target
        # ‖A r‖ / ‖r‖ before this step: zero when what is left of b is outside the range.
        outside = torch.hypot(gamma_bar, d_bar) <= 64 * eps * size
        active = step & ~exhausted & ~outside & wanting
        worst, unsolved, going = read((r_norm / unit).max(), wanting.any(), active.any())
        out.history.append(worst)
        if not unsolved:
            return out
        since = 0 if worst < 0.999 * best else since + 1
        best = min(best, worst)
        if not going or since >= options.stagnation:
            out.result = Result.STAGNATION
            return out
    out.result = Result.MAXITER
    return out
