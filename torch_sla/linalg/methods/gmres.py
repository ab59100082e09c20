"""Restarted generalised minimal residuals, preconditioned from the right.

Saad and Schultz, SIAM J. Sci. Stat. Comput. 7, 1986, pages 856-869. The basis is orthogonalised by
classical Gram-Schmidt done twice, which is as good as Householder's (Giraud, Langou, Rozložník and
van den Eshof, Numer. Math. 101, 2005, pages 87-100) and needs two reductions for any number of basis
vectors.
"""

from __future__ import annotations

import torch
from torch import Tensor

from torch_sla.errors import Result
from torch_sla.linalg.checks import read
from torch_sla.linalg.methods.outcome import KrylovOptions, Outcome
from torch_sla.linalg.methods.space import Operator, VectorSpace, divide

__all__ = ["gmres"]

# Cycles in a row that may pass without lowering the residual by a thousandth.
_IDLE_CYCLES = 3


def gmres(
    A: Operator,
    b: Tensor,
    *,
    M: Operator | None = None,
    x0: Tensor | None = None,
    options: KrylovOptions = KrylovOptions(),  # noqa: B008
    space: VectorSpace | None = None,
) -> Outcome:
    """Solve ``A x = b`` for a general square ``A``, minimising the residual over Krylov spaces.

    Parameters and shapes as in `torch_sla.linalg.methods.cg.cg`; `options.restart` vectors of ``[n,
    K]`` are kept. The residual that is minimised and reported is the true one. A cycle that cannot
    lower it ends in ``STAGNATION``.

    Examples
    --------
    >>> import torch
    >>> A = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    >>> x = gmres(lambda v: A @ v, torch.tensor([[3.0], [4.0]], dtype=torch.float64)).x
    >>> x.round(decimals=8).flatten().tolist()
    [4.0, 3.0]
    """
    space = space or VectorSpace()
    limit = options.maxiter or max(10 * space.size(b), 50)
    precondition = M or (lambda v: v)
    x = torch.zeros_like(b) if x0 is None else x0.clone()
    r = b.clone() if x0 is None else b - A(x)
    b_norm = space.norm(b)
    target = torch.clamp(options.rtol * b_norm, min=options.atol)
    unit = b_norm.clamp(min=torch.finfo(b_norm.dtype).tiny)
    r_norm = space.norm(r)
    out = Outcome(x)
    steps = min(options.restart, limit, max(space.size(b), 1))
    V = b.new_empty(steps + 1, *b.shape)
    idle = 0
    finite, going = read(torch.isfinite(r_norm + b_norm).all(), (r_norm > target).any())
    if not finite:
        out.result = Result.NONFINITE
        return out
    while going:
        if out.iterations >= limit:
            out.result = Result.MAXITER
            return out
        y, used = _cycle(A, precondition, r, r_norm, target, unit, V, space, out, limit)
        x += precondition(space.combine(V[:used], y))
        before, r = r_norm, b - A(x)
        r_norm = space.norm(r)
        if not bool(torch.isfinite(r_norm).all()):
            out.result = Result.NONFINITE
            return out
        out.history[-1] = float((r_norm / unit).max())
        wanting = r_norm > target
        idle = idle + 1 if bool((wanting & (r_norm > 0.999 * before)).any()) else 0
        if idle >= _IDLE_CYCLES:
            out.result = Result.STAGNATION
            return out
        going = bool(wanting.any())
    return out


def _cycle(
    A: Operator,
    precondition: Operator,
    r: Tensor,
    r_norm: Tensor,
    target: Tensor,
    unit: Tensor,
    V: Tensor,
    space: VectorSpace,
    out: Outcome,
    limit: int,
) -> tuple[Tensor, int]:
    """Build one Krylov space from `r`; return the coefficients ``[j, K]`` in it and j.

    ``Q`` ``[K, j+1, j+1]`` gathers the rotations that make the Hessenberg matrix triangular, so the
    residual of the reduced problem is ``‖r‖ |Q[j+1, 0]|``. A column that has converged, or whose
    space is exhausted, adds zero columns from then on.
    """
    steps, K = min(V.shape[0] - 1, limit - out.iterations), r.shape[1]
    eps = torch.finfo(r_norm.dtype).eps
    R = r.new_zeros(K, steps, steps)
    Q = torch.eye(steps + 1, dtype=r.dtype, device=r.device).repeat(K, 1, 1)
    taken = torch.zeros(K, steps, dtype=torch.bool, device=r.device)
    live = r_norm > target
    now = r_norm.clone()
    V[0] = divide(r, r_norm.to(r.dtype), live)
    j, (going,) = 0, read(live.any())
    while j < steps and going:
        w = A(precondition(V[j]))
        size = space.norm(w)
        h = space.dots(V[: j + 1], w)
        w = w - space.combine(V[: j + 1], h)
        again = space.dots(V[: j + 1], w)
        w = w - space.combine(V[: j + 1], again)
        below = space.norm(w)
        exhausted = below <= 16 * eps * size
        below = torch.where(exhausted, 0.0, below)
        h = torch.cat([h + again, below.to(h.dtype).unsqueeze(0)])
        h = (Q[:, : j + 2, : j + 2] @ h.T.unsqueeze(-1)).squeeze(-1)
        a, d = h[:, j], torch.hypot(h[:, j].abs(), below)
        step = live & (d > 16 * eps * size)
        c, s = divide(a, d.to(a.dtype)), divide(below, d)
        R[:, :j, j] = torch.where(step.unsqueeze(1), h[:, :j], 0.0)
        R[:, j, j] = torch.where(step, d.to(R.dtype), 1.0)
        taken[:, j] = step
        upper, lower = Q[:, j].clone(), Q[:, j + 1].clone()
        turn = step.unsqueeze(1)
        c, s = c.unsqueeze(1), s.unsqueeze(1)
        Q[:, j] = torch.where(turn, c.conj() * upper + s * lower, upper)
        Q[:, j + 1] = torch.where(turn, c * lower - s * upper, lower)
        now = torch.where(step, r_norm * Q[:, j + 1, 0].abs(), now)
        live = step & ~exhausted & (now > target)
        V[j + 1] = divide(w, below.to(w.dtype), live)
        j += 1
        out.iterations += 1
        worst, going = read((now / unit).max(), live.any())
        out.history.append(worst)
    rhs = torch.where(taken[:, :j], r_norm.unsqueeze(1) * Q[:, :j, 0], 0.0).unsqueeze(-1)
    y = torch.linalg.solve_triangular(R[:, :j, :j], rhs, upper=True)
    return y.squeeze(-1).T, j
