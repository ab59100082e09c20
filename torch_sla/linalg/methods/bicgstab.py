"""Stabilised biconjugate gradients.

van der Vorst, SIAM J. Sci. Stat. Comput. 13, 1992, pages 631-644; Saad, Iterative Methods for
Sparse Linear Systems, 2nd ed., algorithm 7.7, preconditioned from the right.
"""

from __future__ import annotations

import torch
from torch import Tensor

from torch_sla.errors import Result
from torch_sla.linalg.methods.outcome import KrylovOptions, Outcome
from torch_sla.linalg.methods.space import Operator, VectorSpace

__all__ = ["bicgstab"]


def bicgstab(
    A: Operator,
    b: Tensor,
    *,
    M: Operator | None = None,
    x0: Tensor | None = None,
    options: KrylovOptions = KrylovOptions(),  # noqa: B008
    space: VectorSpace | None = None,
) -> Outcome:
    """Solve ``A x = b`` for a general square ``A``.

    Parameters and shapes as in `torch_sla.linalg.methods.cg.cg`. A vanishing inner product restarts
    from the current residual; three restarts without progress are a ``BREAKDOWN``.

    Examples
    --------
    >>> import torch
    >>> A = torch.tensor([[2.0, 1.0], [-1.0, 3.0]], dtype=torch.float64)
    >>> x = bicgstab(lambda v: A @ v, torch.ones(2, 1, dtype=torch.float64)).x
    >>> torch.allclose(A @ x, torch.ones(2, 1, dtype=torch.float64))
    True
    """
    space = space or VectorSpace()
    limit = options.maxiter or max(10 * space.size(b), 50)
    precondition = M or (lambda v: v)
    x = torch.zeros_like(b) if x0 is None else x0.clone()
    r = b.clone() if x0 is None else b - A(x)
    b_norm = space.norm(b)
    target = torch.clamp(options.rtol * b_norm, min=options.atol)
    unit = b_norm.clamp(min=torch.finfo(b_norm.dtype).tiny)
    out = Outcome(x)
    active = space.norm(r) > target
    if not bool(active.any()):
        return out
    eps = torch.finfo(b_norm.dtype).eps
    shadow, p, rho = r.clone(), r.clone(), space.dot(r, r)
    best, since, restarts = float("inf"), 0, 0

    def ratio(above: Tensor, below: Tensor) -> Tensor:
        usable = active & (below != 0)
        return torch.where(usable, above / torch.where(usable, below, torch.ones_like(below)), 0.0)

    for _ in range(limit):
        y = precondition(p)
        v = A(y)
        alpha = ratio(rho, space.dot(shadow, v))
        s = r - alpha * v
        z = precondition(s)
        t = A(z)
        omega = ratio(space.dot(t, s), space.dot(t, t))
        x.addcmul_(alpha, y).addcmul_(omega, z)
        r = s - omega * t
        out.iterations += 1
        r_norm = space.norm(r)
        worst = float((r_norm / unit).max())
        out.history.append(worst)
        if worst != worst or worst == float("inf"):
            out.result = Result.NONFINITE
            return out
        active = r_norm > target
        if not bool(active.any()):
            return out
        if worst < 0.999 * best:
            best, since, restarts = worst, 0, 0
        else:
            since += 1
            if since >= options.stagnation:
                out.result = Result.STAGNATION
                return out
        rho_new = space.dot(shadow, r)
        lost = active & (
            (rho_new.abs() <= eps * eps * r_norm * space.norm(shadow)) | (omega == 0) | (alpha == 0)
        )
        if bool(lost.any()):
            restarts += 1
            if restarts > 3:
                out.result = Result.BREAKDOWN
                return out
            shadow = torch.where(lost, r, shadow)
            rho_new = space.dot(shadow, r)
            p = torch.where(lost, torch.zeros_like(p), p)
        beta = ratio(rho_new, rho) * ratio(alpha, omega)
        p = r + beta * (p - omega * v)
        p = torch.where(lost, r, p)
        rho = rho_new
    out.result = Result.MAXITER
    return out
