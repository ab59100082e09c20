"""The one loop of all nonlinear methods: steps, tests, report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.errors import Result, SolveError
from torch_sla.linalg.nonlinear.options import NonlinearInfo, inside_step

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch_sla.linalg.nonlinear.methods import Method
    from torch_sla.linalg.nonlinear.options import NonlinearOptions

__all__ = ["iterate"]

_DIVERGED = 1e8


def iterate(
    residual: Callable[[Tensor], Tensor],
    u: Tensor,
    method: Method,
    options: NonlinearOptions,
    norm: Callable[[Tensor], Tensor] = torch.linalg.vector_norm,
) -> tuple[Tensor, NonlinearInfo]:
    """Step until the residual meets the tolerance, or the reason why it cannot is known.

    Parameters
    ----------
    residual
        ``u -> F(u)``, not recorded.
    u
        Starting value.
    norm
        Of a residual; over all processes where each holds a part.
    """
    info = NonlinearInfo(method=options.method)
    F = residual(u)
    size = float(norm(F))
    first, target = size, max(options.rtol * size, options.atol)
    info.history.append(size)
    result: Result | None = None
    while result is None:
        if not size < float("inf"):
            result = Result.NONFINITE
        elif size <= target:
            result = Result.CONVERGED
        elif size > _DIVERGED * max(first, target):
            result = Result.STAGNATION
            info.notes.append("the residual grows without bound")
        elif info.iterations >= options.maxiter:
            result = Result.MAXITER
        else:
            try:
                u, F, result = method.step(residual, u, F)
            except SolveError as error:
                result = error.result
                info.notes.append(inside_step(error))
                break
            size = float(norm(F))
            info.iterations += 1
            info.history.append(size)
    info.result = result
    info.residual = size / first if first > 0 else size
    return u, info
