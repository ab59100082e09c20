"""A part of a mesh as a mesh of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from torch_sla.assembly.checks import numbered
from torch_sla.assembly.mesh.build import trusted_mesh
from torch_sla.errors import MeshError

if TYPE_CHECKING:
    from torch_sla.assembly.mesh.mesh import Mesh

__all__ = ["Submesh", "submesh"]


class Submesh(NamedTuple):
    """A part of a mesh.

    Parameters
    ----------
    mesh
        The part.
    points, cells
        Where its points and cells are in the whole: ``[n_points]``, ``[n_cells]``.
    """

    mesh: Mesh
    points: Tensor
    cells: Tensor


def submesh(mesh: Mesh, cells: Tensor, *, cut: str | None = None) -> Submesh:
    """Take some cells of a mesh; tags are kept as far as they reach.

    Parameters
    ----------
    mesh
        The mesh.
    cells
        Indices, or a boolean mask ``[n_cells]``.
    cut
        Tag for the boundary facets that were inside the whole; None leaves them without.

    Raises
    ------
    MeshError
        If no cell is chosen, or one does not exist.

    Examples
    --------
    >>> from torch_sla.assembly.mesh import rectangle_mesh
    >>> mesh = rectangle_mesh((4, 1), cell="quad")
    >>> submesh(mesh, torch.tensor([0, 1]), cut="middle").mesh
    Mesh(2 quad cells, 6 points in 2D, 6 facets; cell tags: none; facet tags: left bottom top middle)
    """
    where = mesh.points.device
    chosen = numbered(cells, mesh.n_cells, "cells").unique()
    kept = chosen.cpu().numpy().astype(np.int64)
    if not len(kept):
        raise MeshError("cells: none is chosen; a mesh needs at least one cell")
    table = mesh.cells.cpu().numpy()[kept]
    used, local = np.unique(table, return_inverse=True)
    number = np.full(mesh.n_points, -1, dtype=np.int64)
    number[used] = np.arange(len(used))
    position = np.full(mesh.n_cells, -1, dtype=np.int64)
    position[kept] = np.arange(len(kept))
    cell_tags = {}
    for name, index in mesh.cell_tags.items():
        inside = position[index.cpu().numpy()]
        if (inside >= 0).any():
            cell_tags[name] = inside[inside >= 0]
    facets = mesh.facets.cpu().numpy()
    owner, neighbour = mesh.facet_cells.cpu().numpy(), mesh.facet_neighbours.cpu().numpy()
    touched = (position[owner] >= 0) | ((neighbour >= 0) & (position[neighbour] >= 0))
    facet_tags = {}
    for name, index in mesh.facet_tags.items():
        rows = index.cpu().numpy()
        rows = rows[touched[rows]]
        if len(rows):
            facet_tags[name] = number[facets[rows]]
    points = mesh.points.detach().cpu().numpy()[used]
    part = trusted_mesh(points, local.reshape(table.shape), mesh.cell, cell_tags, facet_tags)
    if cut is not None:
        outer = np.sort(facets[neighbour < 0], 1)
        known = {tuple(row) for row in outer.tolist()}
        mine = np.sort(used[part.facets.numpy()], 1)
        fresh = np.array([tuple(row) not in known for row in mine.tolist()])
        fresh &= part.facet_neighbours.numpy() < 0
        if fresh.any():
            part = part.tag_facets(cut, torch.from_numpy(fresh))
    return Submesh(part.to(where), torch.from_numpy(used).to(where), chosen)
