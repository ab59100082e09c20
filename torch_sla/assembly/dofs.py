"""Degrees of freedom: their numbering, the pattern they couple in, the maps that assemble."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from torch_sla.assembly.mapping import cell_nodes
from torch_sla.assembly.mesh.topology import sub_entities
from torch_sla.errors import ArgumentError, MeshError
from torch_sla.linalg.sparse.pattern import Pattern
from torch_sla.linalg.sparse.segments import SegmentMap

if TYPE_CHECKING:
    from torch_sla.assembly.elements import Element
    from torch_sla.assembly.mesh.mesh import Mesh

__all__ = ["Dofs"]


class Dofs:
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

    def __init__(self, mesh: Mesh, element: Element, components: int = 1) -> None:
        if element.cell != mesh.reference:
            raise MeshError(
                f"element: {element!r} does not fit the mesh's {mesh.cell} cells; use "
                f"lagrange({mesh.reference.name!r}, order)"
            )
        if components < 1:
            raise ArgumentError(f"components: got {components}; a field has at least one component")
        self.mesh, self.element, self.components = mesh, element, components
        self.cell_nodes, self.n_nodes = _number(mesh, element)
        self.n = self.n_nodes * components
        self._facet_maps: dict[tuple[int, bytes], SegmentMap] = {}

    @property
    def n_local(self) -> int:
        """Dofs per cell."""
        return self.element.n_nodes * self.components

    def _with_components(self, nodes: Tensor) -> Tensor:
        component = torch.arange(self.components, device=nodes.device)
        return (nodes[..., None] * self.components + component).flatten(-2)

    @cached_property
    def cell_dofs(self) -> Tensor:
        """Dofs of each cell ``[n_cells, nb * components]``, node-major, int64."""
        return self._with_components(self.cell_nodes)

    def facet_nodes(self, facets: Tensor) -> Tensor:
        """Nodes on the closure of given facets, ascending and unique."""
        local = self.element.facet_nodes.to(self.cell_nodes.device)
        owners = self.mesh.facet_cells[facets]
        chosen = local[self.mesh.facet_sides[facets]]
        nodes: Tensor = self.cell_nodes[owners].gather(1, chosen).unique()
        return nodes

    def facet_dofs(self, facets: Tensor, component: int | None = None) -> Tensor:
        """Dofs on the closure of given facets, ascending and unique.

        Parameters
        ----------
        facets
            Indices into ``mesh.facets``.
        component
            One component only; None means all.

        Raises
        ------
        ArgumentError
            If the field has no such component.
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
        geometry, X = self.mesh.geometry, self.element.nodes
        if self.element == geometry and torch.equal(self.cell_nodes, self.mesh.cells):
            return self.mesh.points if points is None else points
        nodes = cell_nodes(self.mesh, points)
        x = torch.einsum("qk,cka->cqa", geometry.values(X.to(nodes)), nodes)
        return x.flatten(0, 1).index_select(0, self._first)

    @cached_property
    def _first(self) -> Tensor:
        """One place ``cell * nb + local`` where each node occurs."""
        flat = self.cell_nodes.flatten()
        place = torch.empty(self.n_nodes, dtype=torch.int64, device=flat.device)
        reverse = torch.arange(len(flat) - 1, -1, -1, device=flat.device)
        place[flat[reverse]] = reverse
        return place

    @cached_property
    def _node_pattern(self) -> tuple[Pattern, Tensor]:
        """Pattern of the nodes and the slot of each pair in each cell ``[n_cells * nb * nb]``."""
        nb = self.element.n_nodes
        nodes = self.cell_nodes.int() if self.n_nodes < 2**31 else self.cell_nodes
        row = nodes[:, :, None].expand(-1, nb, nb).flatten()
        col = nodes[:, None, :].expand(-1, nb, nb).flatten()
        pattern = Pattern.from_coo(row, col, (self.n_nodes, self.n_nodes))
        if pattern.entries is None:
            slots = torch.arange(len(row), dtype=pattern.ccol.dtype, device=row.device)
        else:
            slots = pattern.entries.target
        return pattern.slots, slots

    @cached_property
    def pattern(self) -> Pattern:
        """Pattern of the ``n`` by ``n`` matrix, one scalar entry per pair of dofs; entries are slots."""
        nodes, _ = self._node_pattern
        c = self.components
        if c == 1:
            return nodes
        length = nodes.crow.long().diff()
        crow = torch.zeros(self.n + 1, dtype=torch.int64, device=length.device)
        crow[1:] = (length * c).repeat_interleave(c).cumsum(0)
        # Row (i, a) lists the columns of node row i, each with all components.
        row = torch.arange(self.n, device=length.device).repeat_interleave(
            (length * c).repeat_interleave(c)
        )
        offset = torch.arange(len(row), device=length.device) - crow[row]
        node_slot = nodes.crow.long()[row // c] + offset // c
        ccol = nodes.ccol.long()[node_slot] * c + offset % c
        return Pattern.from_csr(crow, ccol, (self.n, self.n))

    @cached_property
    def _matrix_slots(self) -> Tensor:
        """Slot of each entry of each element matrix ``[n_cells, n_local, n_local]``."""
        nodes, slots = self._node_pattern
        nb, c = self.element.n_nodes, self.components
        if c == 1:
            return slots.reshape(-1, nb, nb)
        fits = self.pattern.nnz_csr < 2**31
        index = torch.int32 if fits else torch.int64
        crow = nodes.crow.to(index)
        start = crow[self.cell_nodes][:, :, None]
        length = crow.diff()[self.cell_nodes][:, :, None]
        slot = slots.to(index).reshape(-1, nb, nb)
        a = torch.arange(c, dtype=index, device=slot.device)
        # Slot of (i, a; j, b): rows of earlier nodes, rows a' < a of this node, then the columns.
        base = start * (c * c) + (slot - start) * c
        full = base[:, :, None, :, None] + (length * c)[:, :, None, :, None] * a[:, None, None] + a
        return full.reshape(len(slot), nb * c, nb * c)

    @cached_property
    def matrix_map(self) -> SegmentMap:
        """Element matrices ``[n_cells * n_local**2]`` to values of `pattern`."""
        return SegmentMap(self._matrix_slots.flatten(), self.pattern.nnz_csr)

    @cached_property
    def vector_map(self) -> SegmentMap:
        """Element vectors ``[n_cells * n_local]`` to vectors ``[n]``."""
        return SegmentMap(self._small(self.cell_dofs).flatten(), self.n)

    def _small(self, index: Tensor) -> Tensor:
        return index.int() if self.n < 2**31 else index

    def facet_map(self, facets: Tensor, rank: int) -> SegmentMap:
        """Give the map of facet matrices (rank 2) or vectors (rank 1), kept per set of facets.

        Parameters
        ----------
        facets
            Indices into ``mesh.facets``; facet terms involve all dofs of the owner.
        rank
            2 for matrices ``[n_facets * n_local**2]``, 1 for vectors ``[n_facets * n_local]``.
        """
        key = (rank, facets.cpu().numpy().tobytes())
        if key not in self._facet_maps:
            owners = self.mesh.facet_cells[facets]
            if rank == 2:
                target, count = self._matrix_slots[owners], self.pattern.nnz_csr
            else:
                target, count = self._small(self.cell_dofs[owners]), self.n
            self._facet_maps[key] = SegmentMap(target.flatten(), count)
        return self._facet_maps[key]

    def assemble_matrix(self, local: Tensor, facets: Tensor | None = None) -> Tensor:
        """Sum element matrices into values of `pattern`.

        Parameters
        ----------
        local
            ``[*batch, n_cells, n_local, n_local]``, or per facet.
        facets
            The facets that `local` belongs to; None means all cells.

        Returns
        -------
        Tensor ``[*batch, nnz]``.
        """
        scatter = self.matrix_map if facets is None else self.facet_map(facets, 2)
        return scatter.sum(local.flatten(-3))

    def assemble_vector(self, local: Tensor, facets: Tensor | None = None) -> Tensor:
        """Sum element vectors ``[*batch, n_cells, n_local]`` (or per facet) into ``[*batch, n]``."""
        scatter = self.vector_map if facets is None else self.facet_map(facets, 1)
        return scatter.sum(local.flatten(-2))

    def restrict(self, u: Tensor, facets: Tensor | None = None) -> Tensor:
        """Gather a vector ``[*batch, n]`` to cells ``[*batch, n_cells, n_local]``, or to facets' owners."""
        gather = self.vector_map if facets is None else self.facet_map(facets, 1)
        local: Tensor = gather.gather(u).unflatten(-1, (-1, self.n_local))
        return local

    def __repr__(self) -> str:
        return f"Dofs({self.element!r}, components={self.components}, n={self.n})"


def _number(mesh: Mesh, element: Element) -> tuple[Tensor, int]:
    """Give every node of an element a number: ``[n_cells, nb]`` and their count."""
    if element == mesh.geometry:
        return mesh.cells, mesh.n_points
    cell = element.cell
    vertices = mesh.vertices.cpu().numpy()
    per_vertex, per_edge, per_face, inside = element.entity_nodes
    columns: list[np.ndarray] = []
    count = 0
    if per_vertex:
        if mesh.cells.shape[1] == cell.n_vertices:
            columns.append(vertices)
            count = mesh.n_points
        else:
            used, number = np.unique(vertices, return_inverse=True)
            columns.append(number.reshape(vertices.shape))
            count = len(used)
    for wanted, local in ((per_edge, cell.edges), (per_face, cell.facets)):
        if wanted:
            number, distinct = sub_entities(vertices, local, mesh.n_points)
            columns.append(number + count)
            count += distinct
    if inside:
        columns.append(count + np.arange(len(vertices))[:, None])
        count += len(vertices)
    nodes = np.ascontiguousarray(np.concatenate(columns, 1), dtype=np.int64)
    return torch.from_numpy(nodes).to(mesh.cells.device), count
