"""Q1: multilinear functions on quadrilaterals and hexahedra, one node per vertex."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch_sla.assembly.elements.element import Element
from torch_sla.assembly.elements.tensor_product import tensor_gradients, tensor_values

if TYPE_CHECKING:
    import torch

__all__ = ["Q1"]


@dataclass(frozen=True)
class Q1(Element):
    """Multilinear Lagrange element of a quadrilateral or a hexahedron.

    Examples
    --------
    >>> import torch
    >>> Q1("quad").values(torch.tensor([0.5, 0.5]))
    tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """

    order: ClassVar[int] = 1
    cells: ClassVar[tuple[str, ...]] = ("quad", "hexahedron")

    @property
    def entity_nodes(self) -> tuple[int, int, int, int]:
        """One node per vertex."""
        return (1, 0, 0, 0)

    def values(self, X: torch.Tensor) -> torch.Tensor:
        """Evaluate the basis functions ``[..., 2**dim]``."""
        return tensor_values(X, self.nodes, self.order)

    def gradients(self, X: torch.Tensor) -> torch.Tensor:
        """Evaluate the reference gradients ``[..., 2**dim, dim]``."""
        return tensor_gradients(X, self.nodes, self.order)
