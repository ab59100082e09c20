"""What makes answers unique: signs, seeds, the order of eigenvalues, and the check of residuals."""

from __future__ import annotations

from cmath import isfinite
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, Result, SolveError
from torch_sla.linalg.extremes import exponent
from torch_sla.linalg.kernels.detection import largest_entry
from torch_sla.linalg.methods.outcome import tolerance
from torch_sla.linalg.sparse.transforms import physical

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch_sla.linalg.sparse.tensor import SparseTensor

__all__ = [
    "RANK",
    "SEED",
    "check_request",
    "check_residuals",
    "fix_phase",
    "in_order",
    "leading_rows",
    "require_finite",
    "size_of",
    "start",
    "within_reach",
]

SEED = 88172645463325252
"""Of every random start of the library."""

RANK: dict[str, Callable[[Tensor], Tensor]] = {
    "LM": lambda w: -w.abs(),
    "SM": lambda w: w.abs(),
    "LR": lambda w: -w.real,
    "SR": lambda w: w.real,
    "LI": lambda w: -w.imag.abs(),
    "SI": lambda w: w.imag.abs(),
}
"""What grows from the first eigenvalue wanted to the last, by the name of the request."""


def require_finite(A: SparseTensor) -> None:
    """Raise `SolveError` for NaN or infinity in a matrix."""
    if not torch.isfinite(physical(A.values)).all():
        raise SolveError(Result.NONFINITE, "NaN or infinity in the matrix")


def size_of(values: Tensor) -> int:
    """Exponent of the power of two to divide values by, so that the squares of their norms are in range; mostly 0."""
    seen = physical(values)
    return exponent(float(largest_entry(seen)), seen)


def start(n: int, columns: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return starting vectors ``[n, columns]``, the same in every run."""
    g = torch.Generator().manual_seed(SEED)
    real = torch.float32 if dtype in (torch.float32, torch.complex64) else torch.float64
    return (torch.rand(n, columns, dtype=real, generator=g) - 0.5).to(dtype).to(device)


def leading_rows(V: Tensor) -> Tensor:
    """Return the row of the largest entry of each column ``[..., n, k]``, ``[..., 1, k]``; ties as in `fix_phase`."""
    size, last = V.abs(), V.shape[-2] - 1
    rows = torch.arange(last + 1, device=V.device).unsqueeze(1)
    large = size >= 0.999 * size.amax(-2, keepdim=True)
    return torch.where(large, rows, last).amin(-2, keepdim=True)


def fix_phase(V: Tensor) -> Tensor:
    """Return the factor per column ``[k]`` that makes its largest entry real and positive.

    Of entries equally large up to 0.1 % the first decides, so rounding does not.

    Examples
    --------
    >>> import torch
    >>> fix_phase(torch.tensor([[0.1, 3.0], [-2.0, -3.0]]))
    tensor([-1.,  1.])
    """
    if not V.numel():
        return V.new_ones(V.shape[1])
    entry = V.gather(0, leading_rows(V)).squeeze(0)
    return torch.where(entry.abs() > 0, entry.conj() / entry.abs().clamp(min=1e-300), 1.0)


def check_request(
    k: int, most: int, tol: float | None, maxiter: int | None, sigma: complex | None = None
) -> None:
    """Refuse a number of pairs that there are not, and what no iteration can be held to.

    Raises
    ------
    ArgumentError
        When `k` is not between 1 and `most`, `tol` negative, NaN or no number, `maxiter` no number of iterations, or
        `sigma` not finite.
    """
    if not isinstance(k, int | np.integer) or not 1 <= k <= most:
        raise ArgumentError(f"`k` must be between 1 and {most}, got {k}")
    if tol is not None and not 0 <= tolerance(tol, "tol") < 1:
        raise ArgumentError(f"`tol` must lie in [0, 1), 0 for working precision, got {tol}")
    if maxiter is not None and not (isinstance(maxiter, int | np.integer) and maxiter >= 1):
        raise ArgumentError(f"`maxiter` must be an integer of at least 1, got {maxiter!r}")
    if sigma is not None and not isfinite(sigma):
        raise ArgumentError(f"`sigma` must be finite, got {sigma}")


def in_order(w: Tensor, key: Tensor, slack: float = 1.0) -> Tensor:
    """Return the order by `key`; what is equal to rounding by the real part, then the upper half plane first.

    Equal are neighbours that differ by less than ``slack ε^(3/4)`` of their own size (some thousand units of the last
    place in double precision, some dozens in single), or ``50 slack ε`` of the largest of ``w [j]``, which is what
    rounding does to small eigenvalues beside large ones.

    Examples
    --------
    >>> import torch
    >>> w = torch.tensor([1 - 2j, 1 + 2j, 2.2360678, 3.0])
    >>> in_order(w, -w.abs()).tolist()
    [3, 1, 0, 2]
    >>> w = torch.tensor([1e8, 1e-5, 1e-6], dtype=torch.complex128)
    >>> in_order(w, w.abs()).tolist()
    [2, 1, 0]
    """
    eps, size = float(torch.finfo(w.dtype).eps), w.abs()
    reach = slack * torch.clamp(eps**0.75 * size, min=50 * eps * float(size.max()))
    order = key.argsort(stable=True)
    for part in (-w.imag, w.real, key):
        order = order[_groups(part, reach)[order].argsort(stable=True)]
    return order


def _groups(x: Tensor, reach: Tensor) -> Tensor:
    """Return the number of the run of each of ``x [j]``: ascending, neighbours within the larger `reach` of both."""
    order = x.argsort(stable=True)
    near = torch.maximum(reach[order][1:], reach[order][:-1])
    begins = (x[order].diff() > near).long()
    number = torch.zeros_like(order)
    number[order[1:]] = begins.cumsum(0)
    return number


def check_residuals(residual: Tensor, scale: Tensor, tol: float | None, what: str) -> None:
    """Raise unless the norms of all residual columns ``[n, k]`` are within a tolerance of `scale`.

    Parameters
    ----------
    tol
        The one that was asked for. It need not be below ``ε^(1/2) / 100``, nor below what a stable decomposition
        leaves, ``10 n^(1/2) ε``, which is more in single precision.

    Raises
    ------
    SolveError
        ``RESIDUAL``, with the worst relative residual.
    """
    if not residual.numel():
        return
    eps = float(torch.finfo(residual.dtype).eps)
    least = max(0.01 * eps**0.5, 10 * len(residual) ** 0.5 * eps)
    limit = max(least, tol or 0.0)
    relative = torch.linalg.vector_norm(residual, dim=0) / scale
    worst = float(relative.max())
    if not worst <= limit:
        raise SolveError(
            Result.RESIDUAL if worst == worst else Result.NONFINITE,
            f"the residual of {what} is above {limit:.1e}",
            residual=worst,
        )


def within_reach(w: Tensor, beyond: Tensor, radius: Tensor) -> Tensor:
    """Return `beyond` ``[j]``, each moved by up to its `radius` towards the nearest of `w`.

    A pair with a residual of that size has an eigenvalue in that reach, and it may be that one.

    Examples
    --------
    >>> import torch
    >>> within_reach(torch.tensor([1.0, 2.0]), torch.tensor([2.5, 9.0]), torch.tensor([0.75, 1.0]))
    tensor([2., 8.])
    """
    near = w[(beyond.unsqueeze(1) - w).abs().argmin(1)]
    return beyond - torch.clamp(beyond - near, -radius, radius)
