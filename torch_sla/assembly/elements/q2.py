"""Q2: biquadratic and triquadratic functions, nodes on vertices, edges, faces and inside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch_sla.assembly.elements.tensor_product import TensorProduct

__all__ = ["Q2"]


@dataclass(frozen=True)
class Q2(TensorProduct):
    """Quadratic tensor-product Lagrange element of a quadrilateral or a hexahedron.

    Examples
    --------
    >>> Q2("hexahedron").n_nodes
    27
    """

    order: ClassVar[int] = 2
    cells: ClassVar[tuple[str, ...]] = ("quad", "hexahedron")

    @property
    def entity_nodes(self) -> tuple[int, int, int, int]:
        """One node per vertex, edge, face and cell."""
        return (1, 1, 0, 1) if self.cell.dim == 2 else (1, 1, 1, 1)
