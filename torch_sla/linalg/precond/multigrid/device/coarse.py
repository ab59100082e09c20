"""The coarsest matrix: its dense inverse, or pseudo-inverse where it has a null space."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from torch_sla.errors import Result, SolveError

__all__ = ["CoarseInverse", "coarse_inverse"]

# Row sums of a coarse matrix carry the rounding of all levels.
_SINGULAR = {torch.float32: 1e-4, torch.float64: 1e-10}


@dataclass(frozen=True)
class CoarseInverse:
    """What is known of the coarsest matrix.

    Parameters
    ----------
    inverse
        ``[n, n]`` in the dtype and on the device of the levels.
    nullity
        Dimension of the null space.
    pivot
        Smallest pivot of the matrix scaled to a unit diagonal: how far it is from singular.
    """

    inverse: Tensor
    nullity: int
    pivot: float


def coarse_inverse(dense: Tensor, dtype: torch.dtype, device: torch.device) -> CoarseInverse:
    """Invert a small matrix on the host, in double precision.

    It is scaled symmetrically by its diagonal first, so that a jump of the coefficient does not pass
    for a null space. Cholesky's pivots decide where there are any, singular values elsewhere.

    Parameters
    ----------
    dense
        ``[n, n]`` with the entries of the coarsest matrix.
    dtype, device
        Of the levels.

    Raises
    ------
    SolveError
        ``NONFINITE`` where an entry is not finite.

    Examples
    --------
    >>> import torch
    >>> found = coarse_inverse(torch.eye(2) * 4, torch.float32, torch.device("cpu"))
    >>> found.inverse.abs().tolist(), found.nullity
    ([[0.25, 0.0], [0.0, 0.25]], 0)
    """
    a = dense.to("cpu", torch.float64)
    if not bool(torch.isfinite(a).all()):
        raise SolveError(Result.NONFINITE, "multigrid: the coarsest matrix is not finite")
    tolerance = _SINGULAR[dtype]
    d = a.diagonal().abs()
    scale = torch.where(d > 0, d, torch.ones_like(d)).rsqrt()
    a = a * scale * scale.unsqueeze(1)
    inverse, nullity, pivot = _inverse(a, tolerance)
    inverse = inverse * scale * scale.unsqueeze(1)
    return CoarseInverse(inverse.to(device=device, dtype=dtype).contiguous(), nullity, pivot)


def _inverse(a: Tensor, tolerance: float) -> tuple[Tensor, int, float]:
    """Return (pseudo-)inverse, nullity and smallest pivot of a scaled matrix."""
    n = a.shape[0]
    if bool(((a - a.T).abs() <= tolerance).all()):
        L, failed = torch.linalg.cholesky_ex((a + a.T) / 2)
        pivot = float(L.diagonal().square().amin()) if n else 1.0
        if not int(failed) and pivot > 10 * tolerance:
            return torch.cholesky_inverse(L), 0, pivot
    U, s, V = torch.linalg.svd(a)
    top = float(s[0]) if n else 0.0
    kept = s > tolerance * top
    if top == 0.0:
        return torch.zeros_like(a), n, 0.0
    weights = torch.where(kept, 1.0 / torch.where(kept, s, torch.ones_like(s)), 0.0)
    return (V.T * weights) @ U.T, n - int(kept.sum()), float(s[-1]) / top
