"""Newton's method for a batch of systems, each with its own step length and its own verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.errors import Result
from torch_sla.linalg.checks import read
from torch_sla.linalg.nonlinear.lagged import LaggedStep
from torch_sla.linalg.nonlinear.options import NonlinearInfo

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch_sla.linalg.nonlinear.options import NonlinearOptions

__all__ = ["newton_batch"]

_HALVINGS = 25
_DIVERGED = 1e8
_FLOOR = 8.0
"""Units of rounding of u that the last bits of a residual are worth."""


def _norm(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=-1)


def _rounding(
    residual: Callable[[Tensor], Tensor], u: Tensor, F: Tensor, norm: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return by how much ``F(u)`` changes where each u is rounded up or down, in turn ``[*batch]``."""
    turn = 1.0 - 2.0 * (torch.arange(u.shape[-1], device=u.device) % 2).to(u.dtype)
    return norm(residual(u + torch.finfo(u.dtype).eps * turn * u) - F)


def _searched(
    residual: Callable[[Tensor], Tensor],
    norm: Callable[[Tensor], Tensor],
    u: Tensor,
    size: Tensor,
    delta: Tensor,
    judged: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Halve the steps of the members `judged` until their residuals, of norm `size`, fall.

    Returns
    -------
    trial, residual, norm, stuck
        The new iterates, and which of the members no step lowers the residual of; None where there are none.
    """
    length = torch.ones_like(size)
    for _ in range(_HALVINGS):
        trial = u + length[..., None].to(u.dtype) * delta
        G = residual(trial)
        after = norm(G)
        # A NaN compares false, so the step is shortened.
        pending = judged & ~(after <= (1 - 1e-4 * length) * size)
        if not bool(pending.any()):
            return trial, G, after, None
        length = torch.where(pending, 0.5 * length, length)
    return trial, G, after, pending


def newton_batch(
    residual: Callable[[Tensor], Tensor],
    step: Callable[[Tensor, Tensor], Tensor],
    u: Tensor,
    options: NonlinearOptions,
    reference: Tensor | None = None,
    norm: Callable[[Tensor], Tensor] = _norm,
    *,
    rest: float = 0.0,
) -> tuple[Tensor, NonlinearInfo]:
    """Solve ``F(u) = 0`` for every member of a batch.

    Parameters
    ----------
    residual
        ``u [*batch, n] -> F [*batch, n]``, not recorded.
    step
        ``(u, F) -> J(u)⁻¹ F``; a `LaggedStep` may keep its tangent.
    u
        Starting value.
    options
        Tolerances, limit, whether steps are shortened.
    reference
        Size ``[*batch]`` that `rtol` is relative to, where it exceeds that of the first residual.
    norm
        Euclidean norm ``[*batch, n] -> [*batch]``; another one where the entries are on several processes.
    rest
        Norm of what u is added to before anything is made of it (positions of a body, of displacements): u is known to
        the rounding of the sum only.

    Returns
    -------
    u, info
        The last iterate, and the report of the worst member.

    Examples
    --------
    >>> from torch_sla.linalg.nonlinear.options import NonlinearOptions
    >>> c = torch.tensor([[4.0], [9.0]], dtype=torch.float64)
    >>> u, info = newton_batch(
    ...     lambda u: u**2 - c, lambda u, F: F / (2 * u), torch.ones_like(c), NonlinearOptions()
    ... )
    >>> u.flatten().round(decimals=9).tolist(), info.converged
    ([2.0, 3.0], True)
    """
    info = NonlinearInfo(method="newton")
    eps = torch.finfo(u.dtype).eps
    F = residual(u)
    size = norm(F)
    first = size if reference is None else torch.maximum(size, reference)
    target = torch.clamp(options.rtol * first, min=options.atol)
    floored = poor = torch.zeros_like(size, dtype=torch.bool)
    while True:
        active = (size > target) & ~floored
        worst, finite, beyond, going, at_floor, slow = read(
            size.max(),
            torch.isfinite(size).all() & torch.isfinite(norm(u)).all(),
            (size > _DIVERGED * first).any(),
            active.any(),
            floored.any(),
            poor.any(),
        )
        info.history.append(worst)
        if not finite:
            info.result = Result.NONFINITE
            break
        if beyond:
            info.result = Result.STAGNATION
            info.notes.append("the residual grows without bound")
            break
        if going and slow:
            floored = floored | (poor & (size <= _FLOOR * _rounding(residual, u, F, norm)))
            poor, active = torch.zeros_like(poor), active & ~floored
            going, at_floor = read(active.any(), floored.any())
        if not going:
            info.result = Result.ROUNDOFF if at_floor else Result.CONVERGED
            break
        if info.iterations >= options.maxiter:
            info.result = Result.MAXITER
            break
        zero = torch.zeros((), dtype=u.dtype, device=u.device)
        delta = torch.where(active[..., None], -step(u, F), zero)
        if isinstance(step, LaggedStep) and step.is_old:
            trial = u + delta
            G = residual(trial)
            after = norm(G)
            if step.serves(size, after, active):
                u, F, size = trial, G, after
                info.iterations += 1
                continue
            delta = torch.where(active[..., None], -step(u, F), zero)
        # Steps that are rounding beside `rest` are taken whole: whether the residual falls says nothing there.
        below = active & (norm(delta) <= 1e4 * eps * rest)
        if options.line_search:
            trial, G, after, stuck = _searched(residual, norm, u, size, delta, active & ~below)
        else:
            trial, stuck = u + delta, None
            G = residual(trial)
            after = norm(G)
        if stuck is not None:
            # Nothing decreases: at the floor of the dtype when the full step is rounding already.
            moved = norm(delta)
            scale = norm(u)
            small = moved <= 1e4 * eps * scale.clamp_min(torch.finfo(size.dtype).tiny)
            small = small | (size <= 1e3 * eps * first)
            if not bool(small[stuck].all()):
                info.result = Result.STAGNATION
                break
            floored = floored | stuck
            keep = stuck[..., None]
            trial, G = torch.where(keep, u, trial), torch.where(keep, F, G)
            after = torch.where(stuck, size, after)
        poor = ~(after <= 0.5 * size)
        floored = floored | (below & poor)
        poor = active & ~floored & poor
        if not options.line_search:
            # At the floor of the dtype steps are rounding, and the residual does not fall any more.
            moved = norm(delta)
            scale = norm(trial)
            floored = floored | (active & (moved <= 8 * eps * scale))
        u, F, size = trial, G, after
        info.iterations += 1
    relative = size / torch.where(first > 0, first, torch.ones_like(first))
    info.residual = float(relative.max())
    if not info.converged:
        # Whoever was still on the way has no solution either.
        done = (size <= target) | floored
        info.solved = (done & torch.isfinite(size) & torch.isfinite(norm(u))).cpu()
    if rest and bool((floored & (size > target)).any()):
        info.notes.append(
            "as accurate as rounding lets it: the residual is that of what the unknowns are added to"
        )
    return u, info
