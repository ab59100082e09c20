"""Many matrices on one pattern, solved with all at once; what needs care is left to go alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch

from torch_sla.errors import SolveError
from torch_sla.linalg.backends.base import Solution, groups_of
from torch_sla.linalg.backends.registry import backend as get_backend
from torch_sla.linalg.factor_cache import count
from torch_sla.linalg.info import SolveInfo
from torch_sla.linalg.residual import BatchResidual

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from torch import Tensor

    from torch_sla.linalg.backends.base import Mode, SolveOptions
    from torch_sla.linalg.kept import Kept
    from torch_sla.linalg.plan.rules import Candidate

__all__ = ["Together", "factorize_together", "iterate_together"]


@dataclass(frozen=True, eq=False)
class Together:
    """What came of it.

    Parameters
    ----------
    x
        ``[B, n, K]``.
    good
        Members ``[B]`` that were solved; the others are to be solved alone.
    info
        Of the good ones.
    """

    x: Tensor
    good: Tensor
    info: SolveInfo


def factorize_together(
    kept: Kept,
    candidate: Candidate,
    values: Tensor,
    marks: Sequence[Hashable],
    b: Tensor,
    modes: tuple[Mode, Mode],
    options: SolveOptions,
) -> Together | None:
    """Solve ``op(A_i) x_i = b_i`` with the factors of all, ``values`` ``[B, nnz_csr]`` and ``b`` ``[B, n, K]``.

    `modes` are those of the solve and of its check. None where nothing came of it; `SolveError` is never
    raised, for who fails says so alone.
    """
    fits = kept.square and kept.nullspace is None
    empty = 0 in (kept.pattern.shape[0], b.shape[2], kept.pattern.nnz_csr)
    if not fits or empty or len(values) < 2:
        return None
    b = b.contiguous()  # once for all that look at it
    try:
        factored = kept.factored_batch(candidate, values, marks, options)
        count("solve", len(values))
        x, good, check, steps = factored.solve(values, b, *modes, options)
    except SolveError:
        return None
    size = check.largest
    bound = torch.finfo(size.dtype).max ** 0.25
    good &= (((size > 1 / bound) & (size < bound)) | (size == 0)).all(-1)
    if not bool(good.any()):
        return None
    info = _info(candidate, good, check)
    if steps:
        info.notes.append(f"{steps} step(s) of iterative refinement")
    last = int(good.nonzero()[-1])
    info.matrix = values[last]
    info.estimate_rcond = partial(kept.aside().rcond, candidate, marks[last], options, False)
    return Together(x, good, info)


def iterate_together(
    kept: Kept,
    candidate: Candidate,
    values: Tensor,
    marks: Sequence[Hashable],
    b: Tensor,
    modes: tuple[Mode, Mode],
    options: SolveOptions,
    x0: Tensor | None = None,
) -> Together | None:
    """Iterate on all members at once, or on the matrices of which they are blocks, where that is better.

    As `factorize_together`; ``x0`` is ``[B, n, K]``.
    """
    if len(values) < 2 or not kept.square or kept.nullspace is not None:
        return None
    if 0 in b.shape or not kept.pattern.nnz_csr:
        return None
    if options.preconditioner is None:
        options = replace(options, preconditioner=candidate.preconditioner)
    mode, truth = modes
    backend = get_backend(candidate.backend)
    found = backend.iterate_batch(kept.symbolic_of(candidate), values, b, mode, options, x0)
    if found is None and backend.joins(candidate.method, options.preconditioner, values):
        found = _joined(kept, candidate, values, marks, b, mode, options, x0)
    if found is None:
        return None
    count("solve", len(values))
    check = BatchResidual(kept.pattern, values, b, truth)
    check(found.x)
    good = check.accepted(options)
    if not bool(good.any()):
        return None
    info = _info(candidate, good, check)
    info.iterations = found.iterations
    info.history = found.history or [info.residual]  # all that one kernel for all iterations tells
    info.preconditioner = candidate.preconditioner
    return Together(found.x, good, info)


def _joined(
    kept: Kept,
    candidate: Candidate,
    values: Tensor,
    marks: Sequence[Hashable],
    b: Tensor,
    mode: Mode,
    options: SolveOptions,
    x0: Tensor | None,
) -> Solution | None:
    """Iterate with block diagonal matrices of as many members as there is room for; as `Backend.iterate_batch`.

    Members are scaled to entries of about one, and right-hand sides such that what may be left of each has
    length one: so may what is left of all, then.
    """
    count, n, columns = b.shape
    groups = groups_of(count, n)
    if len(groups) == count or not max(options.rtol, options.atol):
        return None
    backend = get_backend(candidate.backend)
    target = 0.5 * torch.clamp(options.rtol * torch.linalg.vector_norm(b, dim=1), min=options.atol)
    unit = torch.where(target > 0, target, 1.0).unsqueeze(1)
    largest = values.abs().amax(1)
    scale = torch.ldexp(torch.ones_like(largest), -torch.frexp(largest).exponent)
    back = unit * scale[:, None, None]
    start = None if x0 is None else (x0 / back).reshape(-1, columns)
    wanted = replace(options, rtol=0.0, atol=1.0)
    found = Solution(torch.empty_like(b))
    for members in groups:
        rows = slice(members.start * n, members.stop * n)
        own = kept.joined(members.stop - members.start)
        blocks = (values[members] * scale[members, None]).flatten()
        rhs = (b[members] / unit[members]).reshape(-1, columns)
        begin = None if start is None else start[rows]
        try:
            numeric = own.numeric_of(candidate, blocks, tuple(marks[members]), options)
            done = backend.solve(numeric, blocks, rhs, mode, options=wanted, x0=begin)
        except SolveError:  # of one member, which says so alone
            found.x[members] = float("nan")
            continue
        found.x[members] = done.x.reshape(-1, n, columns)
        found.slower(done.iterations, done.history)
    found.x *= back
    return found


def _info(candidate: Candidate, good: Tensor, check: BatchResidual) -> SolveInfo:
    return SolveInfo(
        residual=float(check.relative[good].max()),
        backward_error=float(check.backward[good].max()),
        method=candidate.method,
        backend=candidate.backend,
        notes=[f"{int(good.sum())} matrices at once"],
    )
