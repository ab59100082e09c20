"""The coarsest matrix: its dense inverse, or pseudo-inverse where it has a null space."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from torch_sla.errors import Result, SolveError

__all__ = ["SINGULAR", "CoarseInverse", "coarse_inverse", "is_inverse"]

# Row sums of a coarse matrix carry the rounding of all levels.
SINGULAR = {torch.float32: 1e-4, torch.float64: 1e-10}


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


def is_inverse(pivot: float, asymmetry: float, dtype: torch.dtype) -> bool:
    """Whether Cholesky's pivots of a matrix scaled to a unit diagonal prove that its inverse is one.

    Parameters
    ----------
    pivot
        The smallest.
    asymmetry
        Largest difference of mirrored entries of the scaled matrix.
    dtype
        Of the levels, whose rounding it carries.
    """
    return pivot > 10 * SINGULAR[dtype] and asymmetry <= SINGULAR[dtype]


def coarse_inverse(
    dense: Tensor, dtype: torch.dtype, device: torch.device, least: float = 0.0
) -> CoarseInverse:
    """Invert a small matrix on the host, in double precision.

    It is scaled symmetrically by its diagonal first, so that a jump of the coefficient does not pass
    for a null space. Cholesky's pivots decide where there are any, singular values elsewhere.

    Parameters
    ----------
    dense
        ``[n, n]`` with the entries of the coarsest matrix.
    dtype, device
        Of the levels.
    least
        Singular values below this share of the largest are taken to be as large, so that what is rounded before the
        inverse is applied does not outgrow it.

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
    d = a.diagonal().abs()
    scale = torch.where(d > 0, d, torch.ones_like(d)).rsqrt()
    a = a * scale * scale.unsqueeze(1)
    inverse, nullity, pivot = _inverse(a, dtype, least)
    inverse = inverse * scale * scale.unsqueeze(1)
    return CoarseInverse(inverse.to(device=device, dtype=dtype).contiguous(), nullity, pivot)


def _inverse(a: Tensor, dtype: torch.dtype, least: float) -> tuple[Tensor, int, float]:
    """Return (pseudo-)inverse, nullity and smallest pivot of a scaled matrix."""
    n = a.shape[0]
    L, failed = torch.linalg.cholesky_ex((a + a.T) / 2)
    if n and not int(failed):
        pivot, asymmetry = float(L.diagonal().square().amin()), float((a - a.T).abs().amax())
        if is_inverse(pivot, asymmetry, dtype) and pivot > 10 * least:
            return torch.cholesky_inverse(L), 0, pivot
    U, s, V = torch.linalg.svd(a)
    top = float(s[0]) if n else 0.0
    kept = s > SINGULAR[dtype] * top
    if top == 0.0:
        return torch.zeros_like(a), n, 0.0
    weights = torch.where(kept, 1.0 / torch.where(kept, s, top).clamp(min=least * top), 0.0)
    return (V.T * weights) @ U.T, n - int(kept.sum()), float(s[-1]) / top
