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

    def _edges(self) -> tuple[list[int], list[int]]:
        pairs = self.cell.edges or ((0, 1),)
        return [i for i, _ in pairs], [j for _, j in pairs]

    def values(self, X: torch.Tensor) -> torch.Tensor:
        """Evaluate ``L (2 L - 1)`` at vertices and ``4 Li Lj`` on edges: ``[..., n_nodes]``."""
        L, _ = barycentric(X)
        i, j = self._edges()
        return torch.cat([L * (2.0 * L - 1.0), 4.0 * L[..., i] * L[..., j]], -1)

    def gradients(self, X: torch.Tensor) -> torch.Tensor:
        """Evaluate the reference gradients ``[..., n_nodes, dim]``."""
        L, slopes = barycentric(X)
        L, (i, j) = L[..., None], self._edges()
        vertices = (4.0 * L - 1.0) * slopes
        edges = 4.0 * (L[..., i, :] * slopes[j] + L[..., j, :] * slopes[i])
        return torch.cat([vertices, edges], -2)
