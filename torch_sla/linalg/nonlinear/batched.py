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
_FAILURES = (Result.SINGULAR, Result.STAGNATION, Result.NONFINITE, Result.STAGNATION)


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


def _judge(info: NonlinearInfo, *found: float) -> None:
    """Take note of members whose step is infinite, that no step helps, without a number, and whose residual grows."""
    for met, result in zip(found, _FAILURES, strict=True):
        if met and info.converged:
            info.result = result
    if found[-1]:
        info.notes.append("the residual grows without bound")


def newton_batch(
    residual: Callable[[Tensor], Tensor],
    step: Callable[[Tensor, Tensor], Tensor],
    u: Tensor,
    options: NonlinearOptions,
    reference: Tensor | None = None,
    norm: Callable[[Tensor], Tensor] = _norm,
    *,
    rest: float = 0.0,
    without: Tensor | None = None,
) -> tuple[Tensor, NonlinearInfo]:
    """Solve ``F(u) = 0`` for every member of a batch; those that fail do not hinder the others.

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
    without
        Members ``[*batch]`` that have failed before: they stay where they are.

    Returns
    -------
    u, info
        The last iterate of each member, and the report of the worst one, whose `result` is that of the first that
        failed.

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
    zero = torch.zeros((), dtype=u.dtype, device=u.device)
    F = residual(u)
    size = norm(F)
    first = size if reference is None else torch.maximum(size, reference)
    target = torch.clamp(options.rtol * first, min=options.atol)
    lost = unsolved = stalled = astray = floored = poor = torch.zeros_like(size, dtype=torch.bool)
    if without is not None:
        lost = without.to(size.device)
    before, reached = (u, F), u
    while True:
        finite = torch.isfinite(size) & torch.isfinite(norm(u))
        failed = (unsolved | stalled | ~(finite & (size <= _DIVERGED * first))) & ~lost
        active = (size > target) & ~(floored | lost | failed)
        worst, failing, going, slow = read(
            torch.where(lost, 0.0, size).max(), failed.any(), active.any(), poor.any()
        )
        info.history.append(worst)
        if failing:
            new = failed & ~(unsolved | stalled)
            kinds = (unsolved, stalled, new & ~finite, new & finite)
            _judge(info, *read(*(kind.any() for kind in kinds)))
            # Such an iterate would spoil the tangents of the others, which go on.
            lost, astray, here = lost | failed, astray | new, new[..., None]
            reached = torch.where(here, u, reached)
            u, F = torch.where(here, before[0], u), torch.where(here, before[1], F)
        if going and slow:
            floored = floored | (poor & (size <= _FLOOR * _rounding(residual, u, F, norm)))
            poor, active = torch.zeros_like(poor), active & ~floored
            (going,) = read(active.any())
        if not going:
            break
        if info.iterations >= options.maxiter:
            lost = lost | active
            info.result = Result.MAXITER if info.converged else info.result
            break
        open_ = active[..., None]
        delta = torch.where(open_, -step(u, torch.where(open_, F, zero)), zero)
        if isinstance(step, LaggedStep) and step.is_old:
            trial = u + delta
            G = residual(trial)
            after = norm(G)
            if step.serves(size, after, active):
                before = u, F
                u, F, size = trial, G, torch.where(lost, size, after)
                info.iterations += 1
                continue
            delta = torch.where(open_, -step(u, torch.where(open_, F, zero)), zero)
        moved = norm(delta)
        # Down at the rounding of its first value, no residual has to fall any further.
        at_rest = size <= 1e3 * eps * first
        endless = active & ~torch.isfinite(moved)
        floored, unsolved = floored | (endless & at_rest), endless & ~at_rest
        active, delta = active & ~endless, torch.where(endless[..., None], zero, delta)
        # Steps that are rounding beside `rest` are taken whole: whether the residual falls says nothing there.
        below = active & (moved <= 1e4 * eps * rest)
        if options.line_search:
            trial, G, after, halted = _searched(residual, norm, u, size, delta, active & ~below)
        else:
            trial, halted = u + delta, None
            G = residual(trial)
            after = norm(G)
        if halted is not None:
            # Nothing decreases: at the floor of the dtype when the full step is rounding already.
            small = moved <= 1e4 * eps * norm(u).clamp_min(torch.finfo(size.dtype).tiny)
            small = small | at_rest
            floored, stalled = floored | (halted & small), halted & ~small
            active = active & ~stalled
            keep = halted[..., None]
            trial, G = torch.where(keep, u, trial), torch.where(keep, F, G)
            after = torch.where(halted, size, after)
        after = torch.where(lost, size, after)
        poor = ~(after <= 0.5 * size)
        floored = floored | (below & poor)
        poor = active & ~floored & poor
        if not options.line_search:
            # At the floor of the dtype steps are rounding, and the residual does not fall any more.
            floored = floored | (active & (moved <= 8 * eps * norm(trial)))
        before = u, F
        u, F, size = trial, G, after
        info.iterations += 1
    relative = size / torch.where(first > 0, first, torch.ones_like(first))
    info.residual, rounded, rough = read(
        relative.max(), floored.any(), (floored & (size > target)).any()
    )
    if info.converged and rounded:
        info.result = Result.ROUNDOFF
    if without is not None or not info.converged:
        info.solved = (~lost).cpu()
        u = torch.where(astray[..., None], reached, u)
    if rest and rough:
        info.notes.append(
            "as accurate as rounding lets it: the residual is that of what the unknowns are added to"
        )
    return u, info
