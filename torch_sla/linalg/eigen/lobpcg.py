"""Locally optimal block preconditioned conjugate gradients.

Knyazev, SIAM J. Sci. Comput. 23(2), 2001, pages 517-541; the basis is kept orthonormal by scaled
singular value orthogonalisation, Duersch, Shao, Yang and Gu, SIAM J. Sci. Comput. 40(5), 2018.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, Result, SolveError
from torch_sla.linalg.checks import read
from torch_sla.linalg.methods.space import VectorSpace

if TYPE_CHECKING:
    from torch_sla.linalg.methods.space import Operator

__all__ = ["LOBPCGOptions", "lobpcg"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LOBPCGOptions:
    """When to stop.

    Parameters
    ----------
    tol
        Stop when ``‖A v - λ M v‖ <= tol |λ| ‖M v‖`` for every wanted pair, or at the rounding of the norms.
    maxiter
        Limit on iterations.
    norm, mass_norm
        Bounds on ``‖A‖`` and ``‖M‖``, which say what rounding allows; 0 when there are none.
    """

    tol: float = 1e-8
    maxiter: int = 500
    norm: float = 0.0
    mass_norm: float = 0.0

    def __post_init__(self) -> None:
        if not self.tol > 0:
            raise ArgumentError(f"`tol` must be > 0, got {self.tol}")
        if self.maxiter < 1:
            raise ArgumentError(f"`maxiter` must be at least 1, got {self.maxiter}")


def lobpcg(
    A: Operator,
    X: Tensor,
    k: int,
    *,
    M: Operator | None = None,
    preconditioner: Operator | None = None,
    largest: bool = False,
    options: LOBPCGOptions = LOBPCGOptions(),
    space: VectorSpace | None = None,
    guard: bool = False,
) -> tuple[Tensor, Tensor]:
    """Find the `k` algebraically smallest (or largest) eigenpairs of a Hermitian operator.

    Parameters
    ----------
    A, M
        ``[n, K] -> [n, K]``; `M` positive definite, the identity when None.
    X
        Starting block ``[n, m]`` with ``m >= k``; a few more columns than `k` help.
    preconditioner
        Approximate inverse of `A` (near the wanted end), positive definite.
    largest
        Whether the wanted end is the upper one.
    options
        When to stop.
    space
        Where vectors live.
    guard
        Whether to return the next pair too. It is iterated until it can be told from the last wanted one or is as
        accurate, but no more than about twice as long as those take; needs ``m > k``.

    Returns
    -------
    w, V
        ``[k]`` ascending (descending with `largest`), ``[n, k]`` M-orthonormal; one more of each with `guard`.

    Raises
    ------
    ArgumentError
        When `X` is not finite, or has fewer independent columns than vectors are wanted.
    SolveError
        ``MAXITER``, or ``NONFINITE`` where a product or the preconditioner is.

    Examples
    --------
    >>> import torch
    >>> d = torch.arange(1.0, 51.0, dtype=torch.float64).unsqueeze(1)
    >>> X = torch.cos(torch.arange(150.0, dtype=torch.float64)).reshape(50, 3)
    >>> lobpcg(lambda x: d * x, X, 1, preconditioner=lambda r: r / d)[0]
    tensor([1.0000], dtype=torch.float64)
    """
    space = space or VectorSpace()
    mass = M or (lambda x: x)
    sign = -1.0 if largest else 1.0
    eps = torch.finfo(X.dtype).eps
    P: Tensor | None = None
    worst = float("inf")
    kept = k + guard
    if not bool(torch.isfinite(space.largest(X)).all()):
        raise ArgumentError("`X` has NaN or infinite entries; start from finite vectors")
    X = _orthonormal(X, mass, space)
    m = X.shape[1]
    if m < kept:
        raise ArgumentError(f"`X` has {m} independent columns, and {kept} vectors are wanted")
    w, Q = _pairs(space.gram(X, A(X)) * sign)
    X = X @ Q
    patience = options.maxiter
    for iteration in range(options.maxiter):
        mass_x = mass(X)
        R = A(X) - mass_x * (sign * w)
        norms, size = space.norm(R)[:kept], space.norm(mass_x)[:kept]
        rounding = options.norm + w[:kept].abs() * options.mass_norm
        scale = options.tol * w[:kept].abs() * size
        scale = torch.maximum(scale, 10 * eps * rounding * space.norm(X)[:kept])
        if guard:
            scale[k] = torch.maximum(scale[k], 0.1 * (w[k] - w[k - 1]) * size[k])
        ratio = norms / scale
        worst, widest = read(ratio[:k].max(), ratio.max())
        if worst != worst:
            raise SolveError(Result.NONFINITE, "LOBPCG", iterations=iteration)
        logger.debug("LOBPCG %d: residual %.3g times the tolerance", iteration, worst)
        if worst <= 1:
            patience = min(patience, 2 * iteration + 10)
            if iteration >= patience or widest <= 1:
                return sign * w[:kept], X[:, :kept]
        W = R if preconditioner is None else preconditioner(R)
        W = W - X @ space.gram(mass_x, W)
        parts = [X, W] if P is None else [X, W, P]
        S = _orthonormal(torch.cat(parts, 1), mass, space)
        w_all, Q = _pairs(space.gram(S, A(S)) * sign)
        w, new = w_all[:m], S @ Q[:, :m]
        P = new - X @ space.gram(mass_x, new)
        X = new
    if worst <= 1:
        return sign * w[:kept], X[:, :kept]
    raise SolveError(
        Result.MAXITER, "LOBPCG", iterations=options.maxiter, residual=worst * options.tol
    )


def _pairs(H: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenpairs of the Hermitian part."""
    if not bool(torch.isfinite(H).all()):
        raise SolveError(
            Result.NONFINITE, "LOBPCG: in a product or in what the preconditioner gave"
        )
    w, Q = torch.linalg.eigh((H + H.mH) / 2)
    return w, Q


def _orthonormal(S: Tensor, mass: Operator, space: VectorSpace) -> Tensor:
    """M-orthonormal basis of the span, nearly dependent directions dropped; two passes."""
    eps = torch.finfo(S.dtype).eps
    for _ in range(2):
        S = S / space.norm(S).clamp(min=torch.finfo(S.dtype).tiny)
        d, Q = _pairs(space.gram(S, mass(S)))
        kept = (d > 10 * eps * S.shape[1] * d[-1]).nonzero()[:, 0]
        S = S @ (Q.index_select(1, kept) / d.index_select(0, kept).sqrt())
    return S
