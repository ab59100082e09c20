"""Q1: multilinear functions on quadrilaterals and hexahedra, one node per vertex."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch_sla.assembly.elements.tensor_product import TensorProduct

__all__ = ["Q1"]


@dataclass(frozen=True)
class Q1(TensorProduct):
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
