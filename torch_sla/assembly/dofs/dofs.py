"""Degrees of freedom of one field."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.assembly.checks import check_space, numbered
from torch_sla.assembly.dofs.dof_map import DofMap
from torch_sla.assembly.kernels.summed import Places
from torch_sla.assembly.mapping import cell_nodes
from torch_sla.assembly.mesh.numbering import number_nodes
from torch_sla.errors import ArgumentError
from torch_sla.lazy import cached_property

if TYPE_CHECKING:
    from torch_sla.assembly.elements import Element
    from torch_sla.assembly.mesh.mesh import Mesh

__all__ = ["Dofs"]


class Dofs(DofMap):
    """Numbering of the unknowns of one field on a mesh.

    Nodes are numbered vertices, edges, faces, interiors; the dof of a component is ``node * components +
    component``. On a mesh of order-1 cells the first nodes are the mesh points. The pattern and the maps are made
    on first use and kept: they depend on the topology alone.

    Parameters
    ----------
    mesh
        The mesh.
    element
        A scalar element on the mesh's reference cell.
    components
        Components of the field; 1 means a scalar field.
    interior
        Whether the pattern also couples the two cells at every interior facet, for forms over those.

    Attributes
    ----------
    n_nodes, n
        Number of nodes and of dofs.
    cell_nodes
        Nodes of each cell ``[n_cells, nb]`` int64.

    Examples
    --------
    >>> from torch_sla.assembly import rectangle_mesh, lagrange
    >>> dofs = Dofs(rectangle_mesh((2, 2)), lagrange("triangle", 2), components=2)
    >>> dofs.n_nodes, dofs.n, dofs.cell_dofs.shape
    (25, 50, torch.Size([8, 12]))
    """

    def __init__(
        self, mesh: Mesh, element: Element, components: int = 1, *, interior: bool = False
    ) -> None:
        check_space(mesh, element, components)
        super().__init__(interior=interior)
        self.mesh, self.element, self.components = mesh, element, components
        self.cell_nodes, self.n_nodes = number_nodes(mesh, element)
        self.n = self.n_nodes * components

    @property
    def local_sizes(self) -> tuple[int, ...]:
        """Components of each local node of a cell ``(nb,)``."""
        return (self.components,) * self.element.n_nodes

    @cached_property
    def node_starts(self) -> Tensor:
        """First dof of each node, and their total: ``[n_nodes + 1]``."""
        device = self.cell_nodes.device
        return torch.arange(self.n_nodes + 1, device=device) * self.components

    @cached_property
    def places(self) -> Places:
        """Where the entries of element matrices go, for kernels that need no map of them all."""
        nodes, slots = self._node_pattern
        n, nb = self.cell_nodes.shape
        pairs = slots[: n * nb * nb].reshape(n, nb * nb).to(nodes.crow.dtype)
        return Places(self.cell_nodes.contiguous(), pairs, nodes.crow, self.components)

    def _with_components(self, nodes: Tensor) -> Tensor:
        component = torch.arange(self.components, device=nodes.device)
        return (nodes[..., None] * self.components + component).flatten(-2)

    def facet_nodes(self, facets: Tensor) -> Tensor:
        """Nodes on the closure of given facets, ascending and unique."""
        return self.nodes_of_facets(facets).unique()

    def nodes_of_facets(self, facets: Tensor) -> Tensor:
        """Nodes on the closure of each of given facets ``[m, k]``."""
        facets = numbered(facets, self.mesh.n_facets, "facets")
        local = self.element.facet_nodes.to(self.cell_nodes.device)
        owners = self.mesh.facet_cells[facets]
        chosen = local[self.mesh.facet_sides[facets]]
        return self.cell_nodes[owners].gather(1, chosen)

    def facet_dofs(self, facets: Tensor, component: int | None = None) -> Tensor:
        """Dofs on the closure of given facets, ascending and unique.

        Parameters
        ----------
        facets
            Indices into ``mesh.facets``, or a boolean mask of them.
        component
            One component only; None means all.

        Raises
        ------
        ArgumentError
            If the field has no such component, or the mesh no such facet.
        """
        nodes = self.facet_nodes(facets)
        if component is None:
            return self._with_components(nodes)
        if not 0 <= component < self.components:
            raise ArgumentError(
                f"component: got {component}; the field has components 0 to {self.components - 1}"
            )
        return nodes * self.components + component

    def points(self, points: Tensor | None = None) -> Tensor:
        """Coordinates of the nodes ``[n_nodes, dim]``, differentiable in `points`."""
        if self._at_points:
            return self.mesh.points if points is None else points
        geometry, X = self.mesh.geometry, self.element.nodes
        nodes = cell_nodes(self.mesh, points)
        x = torch.einsum("qk,cka->cqa", geometry.values(X.to(nodes)), nodes)
        return x.flatten(0, 1).index_select(0, self.first)

    @cached_property
    def _at_points(self) -> bool:
        """Whether the nodes are the mesh points, in their order."""
        mesh = self.mesh
        return self.element == mesh.geometry and torch.equal(self.cell_nodes, mesh.cells)

    @cached_property
    def first(self) -> Tensor:
        """One place ``cell * nb + local`` where each node occurs."""
        flat = self.cell_nodes.flatten()
        place = torch.empty(self.n_nodes, dtype=torch.int64, device=flat.device)
        reverse = torch.arange(len(flat) - 1, -1, -1, device=flat.device)
        place[flat[reverse]] = reverse
        return place

    def __repr__(self) -> str:
        return f"Dofs({self.element!r}, components={self.components}, n={self.n})"
