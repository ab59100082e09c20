"""The vector space a Krylov method runs in, with the steps worth fusing named as primitives.

A method touches vectors only through this face, so one conjugate gradient method serves one device,
a GPU with fused kernels and many processes: a space overrides the primitives and nothing else.
Vectors are ``[n, K]``: K systems side by side, each with scalars of its own in ``[K]``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["Operator", "VectorSpace", "divide"]

Operator = Callable[[Tensor], Tensor]


class VectorSpace:
    """Column-wise Euclidean space on one device.

    Examples
    --------
    >>> import torch
    >>> VectorSpace().dot(torch.ones(3, 2), torch.full((3, 2), 2.0))
    tensor([6., 6.])
    """

    def size(self, x: Tensor) -> int:
        """Return the length of the whole vector that `x` is the local part of."""
        return x.shape[0]

    def dot(self, x: Tensor, y: Tensor) -> Tensor:
        """Return ``xᴴ y`` of each column, ``[K]``."""
        if x.is_cpu and x.ndim == 2 and x.shape[1] == 1:
            return torch.vdot(x[:, 0], y[:, 0]).unsqueeze(0)  # `vecdot` writes the products out
        return torch.linalg.vecdot(x, y, dim=0)

    def dots(self, V: Tensor, y: Tensor) -> Tensor:
        """Return ``Vⱼᴴ y`` of each column for a stack of vectors ``V`` ``[j, n, K]``: ``[j, K]``."""
        if V.is_cpu and len(V):  # otherwise all products are written out
            return torch.stack([VectorSpace.dot(self, v, y) for v in V])
        return torch.linalg.vecdot(V, y.unsqueeze(0), dim=1)

    def inner(self, *pairs: tuple[Tensor, Tensor]) -> Tensor:
        """Return ``xᴴ y`` of several pairs, ``[pairs, K]``, in one reduction."""
        return torch.stack([self.dot(x, y) for x, y in pairs])

    def gram(self, X: Tensor, Y: Tensor) -> Tensor:
        """Return ``Xᴴ Y`` of all columns, ``[j, k]``."""
        return X.mH @ Y

    def combine(self, V: Tensor, c: Tensor) -> Tensor:
        """Return ``Σⱼ cⱼ Vⱼ`` for ``V`` ``[j, n, K]`` and ``c`` ``[j, K]``."""
        if not (V.is_cpu and len(V)):
            return torch.einsum("jnk,jk->nk", V, c)
        total = torch.zeros_like(V[0])  # the product of matrices would copy V
        for v, factor in zip(V, c, strict=True):
            total.addcmul_(v, factor)
        return total

    def norm(self, x: Tensor) -> Tensor:
        """Return ``‖x‖₂`` of each column, real ``[K]``."""
        return torch.linalg.vector_norm(x, dim=0)

    def largest(self, x: Tensor) -> Tensor:
        """Return the largest absolute value of each column, real ``[K]``."""
        return x.abs().amax(0)

    def apply_dot(self, A: Operator, p: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``A p`` and ``pᴴ A p``."""
        q = A(p)
        return q, self.dot(p, q)

    def update_norm(self, alpha: Tensor, p: Tensor, q: Tensor, x: Tensor, r: Tensor) -> Tensor:
        """Do ``x += α p``, ``r -= α q`` in place and return ``‖r‖₂``."""
        x.addcmul_(alpha, p)
        r.addcmul_(alpha, q, value=-1)
        return self.norm(r)

    def direction(self, z: Tensor, beta: Tensor, p: Tensor) -> Tensor:
        """Do ``p = z + β p`` in place."""
        return p.mul_(beta).add_(z)


def divide(above: Tensor, below: Tensor, where: Tensor | None = None) -> Tensor:
    """Return ``above / below``, zero where `below` is zero or `where` is False.

    Examples
    --------
    >>> import torch
    >>> divide(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 4.0]))
    tensor([0.0000, 0.5000])
    """
    usable = below != 0 if where is None else (below != 0) & where
    return torch.where(usable, above / torch.where(usable, below, torch.ones_like(below)), 0.0)
