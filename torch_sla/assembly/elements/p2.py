"""P2: quadratic functions on simplices, one node per vertex and per edge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from torch_sla.assembly.elements.element import Element, barycentric

__all__ = ["P2"]


@dataclass(frozen=True)
class P2(Element):
    """Quadratic Lagrange element of a line, a triangle or a tetrahedron.

    Examples
    --------
    >>> P2("tetra").n_nodes
    10
    """

    order: ClassVar[int] = 2
    cells: ClassVar[tuple[str, ...]] = ("line", "triangle", "tetra")

    @property
    def entity_nodes(self) -> tuple[int, int, int, int]:
        """One node per vertex and edge; on a line the edge is the cell itself."""
        return (1, 0, 0, 1) if self.cell.dim == 1 else (1, 1, 0, 0)

    @property
    def _edges(self) -> tuple[tuple[int, int], ...]:
        return self.cell.edges or ((0, 1),)

    def values(self, X: torch.Tensor) -> torch.Tensor:
        """Evaluate ``L (2 L - 1)`` at vertices and ``4 Li Lj`` on edges: ``[..., n_nodes]``."""
        L, _ = barycentric(X)
        each = L.unbind(-1)
        edges = torch.stack([each[i] * each[j] for i, j in self._edges], -1)
        return torch.cat([L * (2.0 * L - 1.0), 4.0 * edges], -1)

    def gradients(self, X: torch.Tensor) -> torch.Tensor:
        """Evaluate the reference gradients ``[..., n_nodes, dim]``."""
        L, slopes = barycentric(X)
        L = L[..., None]
        each = L.unbind(-2)
        edges = torch.stack([each[i] * slopes[j] + each[j] * slopes[i] for i, j in self._edges], -2)
        return torch.cat([(4.0 * L - 1.0) * slopes, 4.0 * edges], -2)
