"""The vector space a Krylov method runs in, with the steps worth fusing named as primitives.

A method touches vectors only through this face, so one conjugate gradient method serves one device,
a GPU with fused kernels and many processes: a space overrides the primitives and nothing else.
Vectors are ``[n, K]``: K systems side by side, each with scalars of its own in ``[K]``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["Operator", "VectorSpace"]

Operator = Callable[[Tensor], Tensor]


class VectorSpace:
    """Column-wise Euclidean space on one device.

    Examples
    --------
    >>> import torch
    >>> VectorSpace().dot(torch.ones(3, 2), torch.full((3, 2), 2.0))
    tensor([6., 6.])
    """

    def dot(self, x: Tensor, y: Tensor) -> Tensor:
        """Return ``xᴴ y`` of each column, ``[K]``."""
        return torch.linalg.vecdot(x, y, dim=0)  # type: ignore[no-any-return]

    def norm(self, x: Tensor) -> Tensor:
        """Return ``‖x‖₂`` of each column, real ``[K]``."""
        return torch.linalg.vector_norm(x, dim=0)  # type: ignore[no-any-return]

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
