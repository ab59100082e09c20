"""Stabilised biconjugate gradients.

van der Vorst, SIAM J. Sci. Stat. Comput. 13, 1992, pages 631-644; Saad, Iterative Methods for
Sparse Linear Systems, 2nd ed., algorithm 7.7, preconditioned from the right.
"""

from __future__ import annotations

import torch
from torch import Tensor

from torch_sla.errors import Result
from torch_sla.linalg.methods.cg import Watch
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
    out = Outcome(x)
    r_norm = space.norm(r)
    watch = _Restarts(out, options, torch.stack([r_norm, target, b_norm]).cpu())
    active = r_norm > target
    eps = torch.finfo(b_norm.dtype).eps
    shadow, p, rho = r.clone(), r.clone(), space.dot(r, r)

    def ratio(above: Tensor, below: Tensor) -> Tensor:
        usable = active & (below != 0)
        return torch.where(usable, above / torch.where(usable, below, torch.ones_like(below)), 0.0)

    for steps, seen in watch.rounds(limit, b.device.type):
        for _ in steps:
            y = precondition(p)
            v = A(y)
            alpha = ratio(rho, space.dot(shadow, v))
            s = r - alpha * v
            z = precondition(s)
            t = A(z)
            omega = ratio(space.dot(t, s), space.dot(t, t))
            # A column that is done takes steps of length zero.
            x.addcmul_(alpha, y).addcmul_(omega, z)
            r = s - omega * t
            r_norm = space.norm(r)
            active = r_norm > target
            rho_new = space.dot(shadow, r)
            lost = active & (
                (rho_new.abs() <= eps * eps * r_norm * space.norm(shadow))
                | (omega == 0)
                | (alpha == 0)
            )
            if not b.is_cpu or bool(lost.any()):  # a device is not asked
                shadow = torch.where(lost, r, shadow)
                rho_new = space.dot(shadow, r)
                p = torch.where(lost, torch.zeros_like(p), p)
            beta = ratio(rho_new, rho) * ratio(alpha, omega)
            p = r + beta * (p - omega * v)
            p = torch.where(lost, r, p)
            rho = rho_new
            seen += [r_norm, lost.to(r_norm)]
    return out


class _Restarts(Watch):
    """Counts the restarts without progress between them, too."""

    _restarts = 0

    def read(self, seen: Tensor) -> None:
        """Take in residual norms and lost columns of some iterations in turn, ``[2 s, K]``."""
        for r_norm, lost in zip(seen[0::2], seen[1::2], strict=True):
            self._took(r_norm)
            if not bool(torch.isfinite(r_norm).all()):
                return self._stop(Result.NONFINITE)
            if not self.going:
                return None
            self._restarts = 0 if not self._since else self._restarts
            self._restarts += bool(lost.any())
            if self._restarts > 3:
                return self._stop(Result.BREAKDOWN)
        return None
