"""Local refinement of simplices by bisection of longest edges.

A marked cell is cut at the midpoint of its longest edge. Every cell that then holds a cut edge is cut at its own
longest edge, until no cell holds one: the mesh is conforming again, and angles stay bounded away from zero because
only longest edges are cut (Rivara, Int. J. Numer. Meth. Engng. 20 (1984), 745-756; in 3D Rivara and Levin, Commun.
Appl. Numer. Methods 8 (1992), 281-290). Ties are broken by the numbers of the end points, so that all cells around an
edge agree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from torch_sla.assembly.checks import numbered
from torch_sla.assembly.mesh.build import trusted_mesh
from torch_sla.errors import MeshError

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.assembly.mesh.mesh import Mesh

__all__ = ["bisect"]

Ints = npt.NDArray[np.int64]


def bisect(mesh: Mesh, marked: Tensor) -> Mesh:
    """Bisect marked cells and those that conformity asks for; tags are inherited.

    Parameters
    ----------
    mesh
        Straight lines, triangles or tetrahedra.
    marked
        Indices or a boolean mask ``[n_cells]``.

    Raises
    ------
    MeshError
        If the cells are no straight simplices, or an index is out of range.
    """
    reference = mesh.reference
    if not reference.is_simplex or mesh.geometry.order != 1:
        raise MeshError(
            f"mesh: marked refinement needs straight simplices, not {mesh.cell} cells; refine uniformly, or refine "
            "before curving the cells"
        )
    work = _Work(mesh)
    chosen = numbered(marked, mesh.n_cells, "cells", "marked")
    todo = np.unique(chosen.cpu().numpy().astype(np.int64))
    while len(todo):
        work.cut(todo)
        todo = work.nonconforming()
    return work.mesh(mesh)


class _Work:
    """The mesh while it is cut: vertices, where each cell came from, and the tagged facet on each side."""

    def __init__(self, mesh: Mesh) -> None:
        self.points = mesh.points.detach().cpu().numpy()
        self.cells = mesh.cells.cpu().numpy().copy()
        self.origin = np.arange(mesh.n_cells)
        k = self.cells.shape[1]
        # Sides are numbered by the vertex opposite to them.
        self.sides = np.full(self.cells.shape, -1, dtype=np.int64)
        facets = mesh.facets.cpu().numpy()
        owner, neighbour = mesh.facet_cells.cpu().numpy(), mesh.facet_neighbours.cpu().numpy()
        for cells, rows in (
            (owner, np.arange(len(owner))),
            (neighbour, np.nonzero(neighbour >= 0)[0]),
        ):
            inside = (self.cells[cells[rows], :, None] == facets[rows][:, None]).any(2)
            self.sides[cells[rows], np.argmin(inside, 1)] = rows
        self.pairs = np.array([(i, j) for i in range(k) for j in range(i + 1, k)])
        self.keys = np.zeros(0, dtype=np.int64)
        self.middles = np.zeros(0, dtype=np.int64)

    def _edges(self, cells: Ints) -> Ints:
        """Key of every edge of some cells ``[m, edges]``: both end points in one number."""
        ends = np.sort(self.cells[cells][:, self.pairs], 2)
        return ends[..., 0] * 2**31 + ends[..., 1]

    def _longest(self, cells: Ints) -> Ints:
        """Find the longest edge of each cell, by its number among the cell's edges."""
        ends = self.points[self.cells[cells][:, self.pairs]]
        length = ((ends[:, :, 0] - ends[:, :, 1]) ** 2).sum(-1)
        # Equal lengths may differ by rounding from one cell to the next: compare them rounded, then keys.
        rounded = np.round(length / length.max(1, keepdims=True), 10)
        key = self._edges(cells)
        first = np.where(rounded >= rounded.max(1, keepdims=True), key, np.iinfo(np.int64).max)
        return np.argmin(first, 1)

    def cut(self, cells: Ints) -> None:
        """Bisect some cells at their longest edges."""
        longest = self._longest(cells)
        row = np.arange(len(cells))
        key = self._edges(cells)[row, longest]
        fresh = np.setdiff1d(key, self.keys)
        ends = np.stack([fresh >> 31, fresh & (2**31 - 1)], 1)
        added = len(self.points) + np.arange(len(fresh))
        self.points = np.concatenate([self.points, 0.5 * self.points[ends].sum(1)])
        keys, middles = np.concatenate([self.keys, fresh]), np.concatenate([self.middles, added])
        order = np.argsort(keys)
        self.keys, self.middles = keys[order], middles[order]
        middle = self.middles[np.searchsorted(self.keys, key)]
        a, b = self.pairs[longest].T
        first, second = self.cells[cells].copy(), self.cells[cells].copy()
        first[row, b], second[row, a] = middle, middle
        sides = self.sides[cells]
        # The half that keeps a is new on the side opposite to a, and so for b.
        first_sides, second_sides = sides.copy(), sides.copy()
        first_sides[row, a], second_sides[row, b] = -1, -1
        self.cells[cells], self.sides[cells] = first, first_sides
        self.cells = np.concatenate([self.cells, second])
        self.sides = np.concatenate([self.sides, second_sides])
        self.origin = np.concatenate([self.origin, self.origin[cells]])

    def nonconforming(self) -> Ints:
        """Cells that hold an edge which has been cut."""
        held = np.isin(self._edges(np.arange(len(self.cells))), self.keys).any(1)
        return np.nonzero(held)[0]

    def mesh(self, mesh: Mesh) -> Mesh:
        """Build the refined mesh; children of a cell follow one another."""
        order = np.argsort(self.origin, kind="stable")
        cells, sides, origin = self.cells[order], self.sides[order], self.origin[order]
        cell_tags = {
            name: np.isin(origin, index.cpu().numpy()) for name, index in mesh.cell_tags.items()
        }
        k = cells.shape[1]
        others = np.array([[j for j in range(k) if j != i] for i in range(k)])
        where, opposite = np.nonzero(sides >= 0)
        parent = sides[where, opposite]
        vertices = cells[where[:, None], others[opposite]]
        facet_tags = {
            name: vertices[np.isin(parent, index.cpu().numpy())]
            for name, index in mesh.facet_tags.items()
        }
        fine = trusted_mesh(self.points, cells, mesh.cell, cell_tags, facet_tags)
        return fine.to(mesh.points.device)
