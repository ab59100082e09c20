"""What every finite element offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch

from torch_sla.assembly.reference.cell import ReferenceCell, reference_cell
from torch_sla.errors import MeshError
from torch_sla.lazy import cached_property

__all__ = ["Element"]


def barycentric(X: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Barycentric coordinates ``[..., dim + 1]`` of points of a simplex, and their slopes ``[dim + 1, dim]``."""
    eye = torch.eye(X.shape[-1], dtype=X.dtype, device=X.device)
    slopes = torch.cat([-torch.ones_like(eye[:1]), eye])
    return torch.cat([1.0 - X.sum(-1, keepdim=True), X], -1), slopes


@dataclass(frozen=True)
class Element(ABC):
    """A nodal finite element on one reference cell.

    Local nodes are ordered vertices, edges, faces, interior, in the order of the reference cell, which for
    order 2 is also the node order of VTK and meshio. Two elements of equal class and cell are equal.

    Parameters
    ----------
    cell_name
        Name of the reference cell.
    """

    cell_name: str

    order: ClassVar[int]
    cells: ClassVar[tuple[str, ...]]

    def __post_init__(self) -> None:
        if self.cell_name not in self.cells:
            name = type(self).__name__
            raise MeshError(
                f"cell: {name} is not defined on {self.cell_name!r}; it lives on {', '.join(self.cells)}"
            )

    @property
    def cell(self) -> ReferenceCell:
        """The reference cell."""
        return reference_cell(self.cell_name)

    @property
    @abstractmethod
    def entity_nodes(self) -> tuple[int, int, int, int]:
        """Nodes per vertex, per edge, per face (3D) and inside the cell."""

    @abstractmethod
    def values(self, X: torch.Tensor) -> torch.Tensor:
        """Evaluate the basis functions at reference points ``[..., dim]``: ``[..., n_nodes]``."""

    @abstractmethod
    def gradients(self, X: torch.Tensor) -> torch.Tensor:
        """Evaluate their reference gradients at ``[..., dim]``: ``[..., n_nodes, dim]``."""

    @property
    def degree(self) -> int:
        """Polynomial degree of the basis functions, by which quadrature is chosen."""
        return self.order

    @property
    def is_affine(self) -> bool:
        """Whether a mapping built from this element has a constant Jacobian."""
        return self.cell.is_simplex and self.order <= 1

    @cached_property
    def nodes(self) -> torch.Tensor:
        """Reference coordinates of the nodes ``[n_nodes, dim]``."""
        cell, vertices = self.cell, self.cell.vertices
        on_vertex, on_edge, on_face, inside = self.entity_nodes
        parts = [vertices] if on_vertex else []
        if on_edge:
            parts.append(vertices[torch.tensor(cell.edges, device="cpu")].mean(1))
        if on_face:
            parts.append(vertices[torch.tensor(cell.facets, device="cpu")].mean(1))
        if inside:
            parts.append(vertices.mean(0, keepdim=True))
        return torch.cat(parts)

    @property
    def n_nodes(self) -> int:
        """Number of basis functions of a scalar field."""
        return len(self.nodes)

    @cached_property
    def facet_nodes(self) -> torch.Tensor:
        """Local nodes on the closure of each facet, ``[n_facets, nodes per facet]``."""
        cell = self.cell
        rows = []
        for facet in cell.facets:
            corners = cell.vertices[list(facet)]
            # A facet of a reference cell fixes an affine function; nodes on it share its value.
            if len(facet) == 1:
                on = (self.nodes - corners).abs().amax(1) < 1e-12
            else:
                tangents = corners[1:] - corners[0]
                offset = self.nodes - corners[0]
                coordinates = torch.linalg.lstsq(tangents.T, offset.T).solution
                on = (offset - coordinates.T @ tangents).abs().amax(1) < 1e-12
            rows.append(torch.nonzero(on)[:, 0])
        return torch.stack(rows)
