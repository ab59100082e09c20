"""Preconditioned conjugate gradients with one reduction in each iteration.

Chronopoulos and Gear, J. Comput. Appl. Math. 25, 1989, pages 153-168. The step length follows from a
recurrence instead of ``pᴴ A p``, so all inner products of an iteration are of vectors known at one moment. That
costs a vector more and a little accuracy (D'Azevedo, Eijkhout and Romine, LAPACK working note 56), and saves two of
three reductions, which are what an iteration waits for where vectors live on many processes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from torch_sla.linalg.methods.cg import Watch
from torch_sla.linalg.methods.outcome import KrylovOptions, Outcome
from torch_sla.linalg.methods.space import Operator, VectorSpace, divide

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["merged_cg"]


def merged_cg(
    A: Operator,
    b: Tensor,
    *,
    M: Operator | None = None,
    x0: Tensor | None = None,
    options: KrylovOptions = KrylovOptions(),  # noqa: B008
    space: VectorSpace | None = None,
) -> Outcome:
    """Solve ``A x = b`` for Hermitian positive definite ``A``.

    Parameters and results as in `torch_sla.linalg.methods.cg.cg`, from which it differs by rounding.

    Examples
    --------
    >>> import torch
    >>> d = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    >>> merged_cg(lambda v: d * v, torch.ones(2, 1, dtype=torch.float64)).x.squeeze()
    tensor([1.0000, 0.5000], dtype=torch.float64)
    """
    space = space or VectorSpace()
    limit = options.maxiter or max(10 * space.size(b), 50)
    x = torch.zeros_like(b) if x0 is None else x0.clone()
    r = b.clone() if x0 is None else b - A(x)
    u = r if M is None else M(r)
    w = A(u)
    rho, delta, square, b_square = space.inner((r, u), (w, u), (r, r), (b, b)).unbind()
    b_norm, r_norm = b_square.real.sqrt(), square.real.sqrt()
    target = torch.clamp(options.rtol * b_norm, min=options.atol)
    out = Outcome(x)
    watch = Watch(out, options, torch.stack([r_norm, target, b_norm]).cpu())
    active = r_norm > target
    p, s = torch.zeros_like(b), torch.zeros_like(b)
    alpha, beta = torch.ones_like(rho), torch.zeros_like(rho)
    curvature = delta
    for steps, seen in watch.rounds(limit, b.device.type):
        for _ in steps:
            # A column that is done, or broke down, takes steps of length zero.
            active = active & (curvature.real > 0)
            alpha = divide(rho, curvature, active)
            p = space.direction(u, beta, p)
            s = space.direction(w, beta, s)
            x.addcmul_(alpha, p)
            r.addcmul_(alpha, s, value=-1)
            u = r if M is None else M(r)
            w = A(u)
            rho_new, delta, square = space.inner((r, u), (w, u), (r, r)).unbind()
            r_norm = square.real.sqrt()
            seen += [curvature.real, r_norm]
            active = active & (r_norm > target)
            beta = divide(rho_new, rho, active)
            curvature = delta - beta * divide(rho_new, alpha, active)
            rho = rho_new
    return out
