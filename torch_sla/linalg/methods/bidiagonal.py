"""Golub-Kahan bidiagonalisation, which LSQR and LSMR share.

Golub and Kahan, J. SIAM Numer. Anal. B 2, 1965, pages 205-224.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from torch_sla.linalg.methods.space import Operator, VectorSpace, divide

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Bidiagonal", "rotate"]


class Bidiagonal:
    """``β₁ u₁ = r``, then ``A vₖ = αₖ uₖ + βₖ₊₁ uₖ₊₁`` and ``Aᴴ uₖ₊₁ = βₖ₊₁ vₖ + αₖ₊₁ vₖ₊₁``.

    Parameters
    ----------
    A, adjoint
        ``[n, K] -> [m, K]`` and back.
    r
        ``[m, K]``, where it starts.
    space
        Where vectors live.

    Attributes
    ----------
    u, v
        Present vectors.
    alpha, beta
        Present coefficients ``[K]``; zero once a column is exhausted.
    """

    def __init__(self, A: Operator, adjoint: Operator, r: Tensor, space: VectorSpace) -> None:
        self._A, self._adjoint, self._space = A, adjoint, space
        self.beta = space.norm(r)
        self.u = divide(r, self.beta.to(r.dtype))
        self.v, self.alpha = self._unit(adjoint(self.u), self.beta)

    def _unit(self, w: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
        norm = self._space.norm(w)
        norm = torch.where(norm <= torch.finfo(norm.dtype).eps * size, 0.0, norm)
        return divide(w, norm.to(w.dtype)), norm

    def step(self) -> None:
        """Advance by one."""
        w = self._A(self.v)
        size = torch.maximum(self._space.norm(w), self.alpha)
        self.u, self.beta = self._unit(w - self.alpha * self.u, size)
        w = self._adjoint(self.u)
        size = torch.maximum(self._space.norm(w), self.beta)
        self.v, self.alpha = self._unit(w - self.beta * self.v, size)


def rotate(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``c, s, r`` with ``c a + s b = r`` and ``s a = c b``, for real ``a`` and ``b``.

    Examples
    --------
    >>> import torch
    >>> rotate(torch.tensor(3.0), torch.tensor(4.0))
    (tensor(0.6000), tensor(0.8000), tensor(5.))
    """
    r = torch.hypot(a, b)
    return divide(a, r), divide(b, r), r
