"""Preconditioned conjugate gradients.

Hestenes and Stiefel, J. Res. Nat. Bur. Standards 49, 1952; Saad, Iterative Methods for Sparse
Linear Systems, 2nd ed., algorithm 9.1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from torch_sla.errors import Result
from torch_sla.linalg.methods.outcome import KrylovOptions, Outcome
from torch_sla.linalg.methods.space import Operator, VectorSpace

__all__ = ["cg"]


def cg(
    A: Operator,
    b: Tensor,
    *,
    M: Operator | None = None,
    x0: Tensor | None = None,
    options: KrylovOptions = KrylovOptions(),  # noqa: B008
    space: VectorSpace | None = None,
) -> Outcome:
    """Solve ``A x = b`` for Hermitian positive definite ``A``.

    Parameters
    ----------
    A
        ``[n, K] -> [n, K]``.
    b
        Right-hand sides ``[n, K]``; each column has its own step lengths and stops on its own.
    M
        Preconditioner, an approximate inverse of ``A``; Hermitian positive definite.
    x0
        Starting value ``[n, K]``.
    options
        Tolerances and limits.
    space
        Where vectors live.

    Returns
    -------
    Outcome
        ``BREAKDOWN`` when ``pᴴ A p <= 0``, so ``A`` is not positive definite.

    Examples
    --------
    >>> import torch
    >>> d = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    >>> cg(lambda v: d * v, torch.ones(2, 1, dtype=torch.float64)).x.squeeze()
    tensor([1.0000, 0.5000], dtype=torch.float64)
    """
    space = space or VectorSpace()
    limit = options.maxiter or max(10 * space.size(b), 50)
    x = torch.zeros_like(b) if x0 is None else x0.clone()
    r = b.clone() if x0 is None else b - A(x)
    b_norm = space.norm(b)
    target = torch.clamp(options.rtol * b_norm, min=options.atol)
    tiny = torch.finfo(b_norm.dtype).tiny
    unit = b_norm.clamp(min=tiny)
    r_norm = space.norm(r)
    active = r_norm > target
    out = Outcome(x)
    if not bool(active.any()):
        return out
    z = r if M is None else M(r)
    p = z.clone()
    rho = space.dot(r, z)
    best, since = float("inf"), 0
    for _ in range(limit):
        q, pq = space.apply_dot(A, p)
        curvature = pq.real
        if not bool(torch.isfinite(curvature).all()):
            out.result = Result.NONFINITE
            return out
        if bool((active & (curvature <= 0)).any()):
            out.result = Result.BREAKDOWN
            return out
        # A column that is done takes steps of length zero.
        alpha = torch.where(active, rho / torch.where(active, pq, torch.ones_like(pq)), 0.0)
        r_norm = space.update_norm(alpha, p, q, x, r)
        out.iterations += 1
        worst = float((r_norm / unit).max())
        out.history.append(worst)
        active = r_norm > target
        if not bool(active.any()):
            return out
        if worst < 0.999 * best:
            best, since = worst, 0
        else:
            since += 1
            if since >= options.stagnation:
                out.result = Result.STAGNATION
                return out
        z = r if M is None else M(r)
        rho_new = space.dot(r, z)
        safe = torch.where(rho == 0, torch.ones_like(rho), rho)
        p = space.direction(z, rho_new / safe, p)
        rho = rho_new
    out.result = Result.MAXITER
    return out
