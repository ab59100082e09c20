"""The smallest singular triplets of a square matrix without full rank, from the pairs of its dilation next to 0.

The eigenvalues of ``[[0, A], [Aᴴ, 0]]`` are ``±σ`` with the vectors ``[u; ±v] / √2``, and its null space is the sum of
the ``[u; 0]`` with ``Aᴴ u = 0`` and the ``[0; v]`` with ``A v = 0``. So the upper and the lower halves of orthonormal
vectors of a whole invariant space, one that has ``-σ`` with every ``σ``, have only the singular values 1 and 0. Where
they have others, vectors are missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from torch_sla.errors import Result, SolveError
from torch_sla.linalg.eigen.lanczos import EigenSettings, lanczos, rayleigh_ritz, sizes
from torch_sla.linalg.eigen.operators import product

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.methods.space import Operator
    from torch_sla.linalg.sparse.pattern import Pattern

__all__ = ["deficient_triplets"]

_TRIES = 4


def deficient_triplets(
    dilated: Pattern,
    values: Tensor,
    forward: Operator,
    k: int,
    tol: float | None,
    maxiter: int | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return left vectors, values (descending) and right vectors of the `k` smallest, and of others beside them.

    Parameters
    ----------
    dilated, values
        The dilation ``[2 n, 2 n]`` of the matrix.
    forward
        Products with the matrix.

    Raises
    ------
    SolveError
        ``BREAKDOWN`` where vectors are missing, ``MAXITER``.
    """
    n = dilated.shape[0] // 2
    many = 2 * k + 2
    for _ in range(_TRIES):
        settings = EigenSettings(many, "SM", None, "arpack", None, None, tol, maxiter)
        try:
            U, W = _spaces(*_pairs(dilated, values, settings))
        except SolveError as error:
            if error.result is not Result.BREAKDOWN:
                raise
        else:
            if k <= U.shape[1]:
                P, S, Q = torch.linalg.svd(U.mH @ forward(W.contiguous()))
                return U @ P, S, W @ Q.mH
        many = min(2 * many, 2 * n - 3)
    raise _missing()


def _pairs(dilated: Pattern, values: Tensor, s: EigenSettings) -> tuple[Tensor, Tensor, float]:
    """Return pairs next to 0, and the distance up to which their values are equal.

    An inverse next to 0 enlarges the null space so much that its rounding is large for all others: where there is one,
    these are searched for beside it.
    """
    n = dilated.shape[0]
    w, X = lanczos(dilated, values, None, s, n)
    _, same = sizes(dilated, values, None, w, X)
    null = w.abs() <= same
    if bool(null.any()) and not bool(null.all()):
        N = X[:, null]
        _, Y = lanczos(dilated, values, None, s, n, N)
        w, X = rayleigh_ritz(product(dilated, values), lambda V: V, torch.cat([N, Y], 1))
    return w, X, same


def _spaces(w: Tensor, X: Tensor, same: float) -> tuple[Tensor, Tensor]:
    """Return bases ``[n, r]`` of left and of right vectors, from pairs of which `same` tells what is equal.

    Raises
    ------
    SolveError
        ``BREAKDOWN`` where a vector is missing among them.
    """
    n, size = len(X) // 2, w.abs()
    if bool((size <= same).all()):  # any part of a null space will do
        U, W = (_span(half, 0.1) for half in (X[:n], X[n:]))
        r = min(U.shape[1], W.shape[1])
        return U[:, :r], W[:, :r]
    # Of the outermost group a part may be missing.
    whole = X[:, (size <= same) | (size < size.max() - same)]
    U, W = (_span(half) for half in (whole[:n], whole[n:]))
    if U.shape[1] != W.shape[1]:
        raise _missing()
    return U, W


def _span(X: Tensor, least: float | None = None) -> Tensor:
    """Return an orthonormal basis of the columns ``[n, j]``, whose singular values must be 1 or 0 without a `least`."""
    U, s, _ = torch.linalg.svd(X, full_matrices=False)
    if least is None:
        least = 0.5
        if bool(((s > 0.01) & (s < 0.99)).any()):
            raise _missing()
    return U[:, s > least]


def _missing() -> SolveError:
    return SolveError(
        Result.BREAKDOWN,
        "not all vectors of the smallest singular values were found, of a matrix that is singular or nearly so; ask "
        "for another `k`, or divide rows and columns by their norms where these differ much",
    )
