"""What makes answers unique: signs, seeds, the order of eigenvalues, and the check of residuals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.errors import Result, SolveError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RANK", "SEED", "check_residuals", "fix_phase", "leading_rows", "start", "within_reach"]

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


def check_residuals(residual: Tensor, scale: Tensor, tol: float, what: str) -> None:
    """Raise unless the norms of all residual columns ``[n, k]`` are within `tol` of `scale`.

    Raises
    ------
    SolveError
        ``RESIDUAL``, with the worst relative residual.
    """
    if not residual.numel():
        return
    relative = torch.linalg.vector_norm(residual, dim=0) / scale
    worst = float(relative.max())
    if not worst <= tol:
        raise SolveError(
            Result.RESIDUAL if worst == worst else Result.NONFINITE,
            f"the residual of {what} is above {tol:.1e}",
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
