"""The vector space of the Krylov methods for vectors in parts: inner products are summed over processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.linalg.methods.space import VectorSpace

if TYPE_CHECKING:
    from torch_sla.linalg.distributed.layout import Layout

__all__ = ["PartSpace"]


class PartSpace(VectorSpace):
    """Vectors of a layout; a tensor holds what this process holds of them.

    Every inner product is one all-reduction, and several at once (`inner`, `dots`, `gram`) are one together.

    Parameters
    ----------
    layout
        Who has which unknown.
    border
        How many unknowns there are beside those, in rows after them.
    """

    def __init__(self, layout: Layout, border: int = 0) -> None:
        self.layout, self.border = layout, border

    def size(self, x: Tensor) -> int:
        del x
        return self.layout.n + self.border

    def dot(self, x: Tensor, y: Tensor) -> Tensor:
        return self.layout.comm.reduce(super().dot(x, y))

    def dots(self, V: Tensor, y: Tensor) -> Tensor:
        return self.layout.comm.reduce(super().dots(V, y))

    def inner(self, *pairs: tuple[Tensor, Tensor]) -> Tensor:
        shares = torch.stack([VectorSpace.dot(self, x, y) for x, y in pairs])
        return self.layout.comm.reduce(shares)

    def gram(self, X: Tensor, Y: Tensor) -> Tensor:
        return self.layout.comm.reduce(super().gram(X, Y))

    def norm(self, x: Tensor) -> Tensor:
        square = torch.linalg.vector_norm(x, dim=0).square()
        return self.layout.comm.reduce(square).sqrt()

    def largest(self, x: Tensor) -> Tensor:
        size = x.abs()
        local = size.amax(0) if x.shape[0] else size.new_zeros(x.shape[1:])
        return self.layout.comm.reduce(local, "max")
