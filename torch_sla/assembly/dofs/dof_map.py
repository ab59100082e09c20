"""From a numbering to the pattern the unknowns couple in and the maps that assemble.

Unknowns sit on *nodes*; a node carries one unknown per component of its field, numbered consecutively. Patterns
and maps are found on the graph of the nodes and then expanded, so that a vector field costs no more sorting than
a scalar one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.assembly.checks import numbered
from torch_sla.assembly.kernels.contents import contents
from torch_sla.assembly.kernels.expand import expand_columns
from torch_sla.errors import ArgumentError
from torch_sla.lazy import cached_property
from torch_sla.linalg.kernels.pointers import pointers
from torch_sla.linalg.sparse.pattern import Pattern
from torch_sla.linalg.sparse.segments import SegmentMap

if TYPE_CHECKING:
    from torch_sla.assembly.mesh.mesh import Mesh

__all__ = ["DofMap"]


class DofMap(ABC):
    """A numbering of unknowns on a mesh. Use `Dofs` or `MixedDofs`.

    The pattern and the maps are made on first use and kept: they depend on the topology alone.

    Attributes
    ----------
    mesh
        The mesh.
    n_nodes, n
        Number of nodes and of dofs.
    cell_nodes
        Nodes of each cell ``[n_cells, nb]`` int64.
    """

    mesh: Mesh
    cell_nodes: Tensor
    n_nodes: int
    n: int

    def __init__(self, *, interior: bool = False) -> None:
        self.interior = interior
        self._maps: dict[tuple[int, bytes], SegmentMap] = {}

    @property
    @abstractmethod
    def local_sizes(self) -> tuple[int, ...]:
        """Components of each local node of a cell ``(nb,)``."""

    @property
    @abstractmethod
    def node_starts(self) -> Tensor:
        """First dof of each node, and their total: ``[n_nodes + 1]``, ascending."""

    @property
    def n_local(self) -> int:
        """Dofs per cell."""
        return sum(self.local_sizes)

    @cached_property
    def _local(self) -> tuple[Tensor, Tensor]:
        """Local node and component of each local dof ``[n_local]``."""
        node = [k for k, size in enumerate(self.local_sizes) for _ in range(size)]
        component = [a for size in self.local_sizes for a in range(size)]
        device = self.cell_nodes.device
        return torch.tensor(node, device=device), torch.tensor(component, device=device)

    def _dofs_of(self, nodes: Tensor) -> Tensor:
        """Dofs of tables of nodes ``[m, nb] -> [m, n_local]``."""
        node, component = self._local
        return self.node_starts[nodes][:, node] + component

    @cached_property
    def cell_dofs(self) -> Tensor:
        """Dofs of each cell ``[n_cells, n_local]``, node-major, int64."""
        return self._dofs_of(self.cell_nodes)

    @cached_property
    def _facet_pairs(self) -> Tensor:
        """Nodes of the two cells at each interior facet ``[n_facets, 2 nb]``."""
        facets, device = self.mesh.interior, self.cell_nodes.device
        both = (torch.from_numpy(cells).to(device) for cells in (facets.owner, facets.neighbour))
        return torch.cat([self.cell_nodes[cells] for cells in both], 1)

    @cached_property
    def _node_pattern(self) -> tuple[Pattern, Tensor]:
        """Pattern of the nodes and the slot of each pair in each cell, then in each facet's two cells, flat."""
        tables = [self.cell_nodes, self._facet_pairs] if self.interior else [self.cell_nodes]
        index = torch.int32 if self.n_nodes < 2**31 else torch.int64
        rows, cols = [], []
        for table in tables:
            nodes, nb = table.to(index), table.shape[1]
            rows.append(nodes[:, :, None].expand(-1, nb, nb).flatten())
            cols.append(nodes[:, None, :].expand(-1, nb, nb).flatten())
        row, col = (torch.cat(parts) if len(parts) > 1 else parts[0] for parts in (rows, cols))
        pattern = Pattern.from_coo(row, col, (self.n_nodes, self.n_nodes))
        if pattern.entries is None:
            slots = torch.arange(len(row), dtype=pattern.ccol.dtype, device=row.device)
        else:
            slots = pattern.entries.target
        return pattern.slots, slots

    @cached_property
    def _columns_before(self) -> Tensor:
        """Dofs in the columns before each slot of the node pattern, and in all: ``[nnz + 1]``."""
        nodes, _ = self._node_pattern
        sizes = self.node_starts.diff()[nodes.ccol.long()]
        return pointers(sizes)

    @cached_property
    def pattern(self) -> Pattern:
        """Pattern of the ``n`` by ``n`` matrix, one scalar entry per pair of dofs; entries are slots."""
        nodes, _ = self._node_pattern
        if self.n == self.n_nodes:
            return nodes
        sizes, before = self.node_starts.diff(), self._columns_before
        starts = before[nodes.crow.long()]
        crow = torch.zeros(self.n + 1, dtype=torch.int64, device=starts.device)
        crow[1:] = starts.diff().repeat_interleave(sizes).cumsum(0)
        columns = expand_columns(nodes.crow, nodes.ccol, self.node_starts, crow, before)
        return Pattern.from_csr(crow, columns, (self.n, self.n), copy=False)

    @cached_property
    def _matrix_slots(self) -> Tensor:
        """Slot of each entry of each element matrix ``[n_cells, n_local, n_local]``."""
        count = self.cell_nodes.shape[0] * self.cell_nodes.shape[1] ** 2
        return self._slots(self.cell_nodes, self._node_pattern[1][:count])

    def _slots(self, table: Tensor, slots: Tensor) -> Tensor:
        """Expand slots of pairs of nodes to slots of pairs of dofs ``[m, n_local, n_local]``."""
        nodes, nb = self._node_pattern[0], table.shape[1]
        pairs = slots.reshape(-1, nb, nb)
        if self.n == self.n_nodes:
            return pairs
        index = torch.int32 if self.pattern.nnz_csr < 2**31 else torch.int64
        node, component = self._local
        if nb > self.cell_nodes.shape[1]:
            node, component = torch.cat([node, node + nb // 2]), component.repeat(2)
        # Slot of (i, a; j, b): the row's start, the dofs in earlier columns of the row, the component.
        first = self._columns_before[nodes.crow.long()[table]]
        offset = (self._columns_before[pairs.long()] - first[:, :, None]).to(index)
        rows = self.pattern.crow.to(index)[self.node_starts[table][:, node] + component]
        columns = offset[:, :, node] + component.to(index)
        return columns[:, node] + rows[:, :, None]

    def slots_of(self, cells: Tensor, rank: int) -> Tensor:
        """Entries that the matrices (rank 2) or vectors (rank 1) of some cells add to, flat.

        Found without the map of all cells, for work in chunks.
        """
        if rank == 1:
            return self._dofs_of(self.cell_nodes[cells]).flatten()
        nb = self.cell_nodes.shape[1]
        pairs = self._node_pattern[1][: self.cell_nodes.shape[0] * nb * nb].reshape(-1, nb * nb)
        return self._slots(self.cell_nodes[cells], pairs[cells].flatten()).flatten()

    @cached_property
    def matrix_map(self) -> SegmentMap:
        """Element matrices ``[n_cells * n_local**2]`` to values of `pattern`."""
        return SegmentMap(self._matrix_slots.flatten(), self.pattern.nnz_csr)

    @cached_property
    def vector_map(self) -> SegmentMap:
        """Element vectors ``[n_cells * n_local]`` to vectors ``[n]``."""
        return SegmentMap(self._small(self.cell_dofs).flatten(), self.n)

    @cached_property
    def _interior_maps(self) -> dict[int, SegmentMap]:
        """Maps of matrices (2) and vectors (1) of interior facets."""
        if not self.interior:
            raise ArgumentError(
                "interior: this numbering does not couple across facets; make it with interior=True"
            )
        pairs = self._facet_pairs
        count = self.cell_nodes.shape[0] * self.cell_nodes.shape[1] ** 2
        slots = self._slots(pairs, self._node_pattern[1][count:])
        half = self.cell_nodes.shape[1]
        dofs = torch.cat([self._dofs_of(pairs[:, :half]), self._dofs_of(pairs[:, half:])], 1)
        return {
            1: SegmentMap(self._small(dofs).flatten(), self.n),
            2: SegmentMap(slots.flatten(), self.pattern.nnz_csr),
        }

    def _small(self, index: Tensor) -> Tensor:
        return index.int() if self.n < 2**31 else index

    def _site_map(self, rank: int, facets: Tensor | None, cells: Tensor | None) -> SegmentMap:
        """Give the map of all cells, or of some facets (kept) or cells (made anew)."""
        if facets is None and cells is None:
            return self.matrix_map if rank == 2 else self.vector_map
        if facets is not None and cells is not None:
            raise ArgumentError("cells: give facets or cells, not both")
        if cells is not None:
            return self.cells_map(numbered(cells, self.mesh.n_cells, "cells"), rank)
        if facets is None or facets.ndim != 1:
            raise ArgumentError(f"facets: got {facets!r}; expected indices [m]")
        key = (rank, contents(facets))
        if key not in self._maps:
            found = numbered(facets, self.mesh.n_facets, "facets")
            self._maps[key] = self.cells_map(self.mesh.facet_cells[found], rank)
        return self._maps[key]

    def cells_map(self, cells: Tensor, rank: int) -> SegmentMap:
        """Make the map of the matrices (rank 2) or vectors (rank 1) of some cells."""
        count = self.pattern.nnz_csr if rank == 2 else self.n
        target = self.slots_of(cells, rank)
        return SegmentMap(target if rank == 2 else self._small(target), count)

    def assemble_matrix(
        self,
        local: Tensor,
        facets: Tensor | None = None,
        *,
        cells: Tensor | None = None,
        interior: bool = False,
    ) -> Tensor:
        """Sum element matrices into values of `pattern`.

        Parameters
        ----------
        local
            ``[*batch, n_cells, n_local, n_local]``, or per facet.
        facets
            The facets that `local` belongs to; None means all cells.
        cells
            The cells that `local` belongs to, where it is not all of them; repetitions add up.
        interior
            Whether `local` belongs to the interior facets, ``[*batch, n_facets, 2 n_local, 2 n_local]``.

        Returns
        -------
        Tensor ``[*batch, nnz]``.
        """
        scatter = self._interior_maps[2] if interior else self._site_map(2, facets, cells)
        return scatter.sum(local.flatten(-3))

    def assemble_vector(
        self,
        local: Tensor,
        facets: Tensor | None = None,
        *,
        cells: Tensor | None = None,
        interior: bool = False,
    ) -> Tensor:
        """Sum element vectors ``[*batch, n_cells, n_local]`` (or per facet) into ``[*batch, n]``."""
        scatter = self._interior_maps[1] if interior else self._site_map(1, facets, cells)
        return scatter.sum(local.flatten(-2))

    def restrict(
        self, u: Tensor, facets: Tensor | None = None, *, cells: Tensor | None = None
    ) -> Tensor:
        """Gather a vector ``[*batch, n]`` to cells ``[*batch, n_cells, n_local]``, or to facets' owners."""
        return self._site_map(1, facets, cells).gather(u).unflatten(-1, (-1, self.n_local))
