"""Uniform refinement: every cell into 2, 4 or 8 of its kind."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from torch_sla.assembly.elements import lagrange
from torch_sla.assembly.mesh.bisect import bisect
from torch_sla.assembly.mesh.build import trusted_mesh
from torch_sla.assembly.mesh.mesh import CELL_TYPES, Mesh
from torch_sla.assembly.mesh.numbering import number_nodes

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["refine"]

Ints = npt.NDArray[np.int64]

# Children of the simplices by their second-order nodes (vertices, then edges as VTK orders them).
_CORNERS = {
    "line": ((0, 2), (2, 1)),
    "triangle": ((0, 3, 5), (3, 1, 4), (5, 4, 2), (3, 4, 5)),
    "tetra": ((0, 4, 6, 7), (4, 1, 5, 8), (6, 5, 2, 9), (7, 8, 9, 3)),
}
# The octahedron inside a tetrahedron: each diagonal and the ring of edges around it.
_OCTAHEDRON = (((4, 9), (5, 6, 7, 8)), ((5, 7), (4, 6, 9, 8)), ((6, 8), (4, 5, 9, 7)))


def refine(mesh: Mesh, marked: Tensor | None = None) -> Mesh:
    """Refine all cells uniformly, or marked simplices and as many others as keep the mesh conforming.

    Uniformly, lines are cut in 2, triangles and quads in 4, tetrahedra and hexahedra in 8; inside a tetrahedron the
    shortest diagonal is used (Bey, Computing 55 (1995), 355-378, discusses the choice). Curved cells stay on their own
    curves. Marked simplices are bisected, see `bisect`. Tags are inherited.

    Parameters
    ----------
    mesh
        The mesh.
    marked
        Cells to refine: indices or a boolean mask ``[n_cells]``; None means all, uniformly.

    Examples
    --------
    >>> from torch_sla.assembly.mesh import rectangle_mesh
    >>> mesh = rectangle_mesh((1, 1))
    >>> refine(mesh).n_cells, refine(mesh, torch.tensor([0])).n_cells
    (8, 4)
    """
    if marked is not None:
        return bisect(mesh, marked)
    name, order = CELL_TYPES[mesh.cell]
    second = lagrange(name, 2)
    nodes, count = number_nodes(mesh, second)
    table = nodes.cpu().numpy()
    corners = mesh.points[mesh.cells]
    X = second.nodes.to(corners)
    placed = torch.einsum("qk,cka->cqa", mesh.geometry.values(X), corners)
    points = placed.new_empty(count, mesh.dim)
    points[nodes.flatten()] = placed.flatten(0, 1)
    xs = points.detach().cpu().numpy()
    children, templates, choice = _children(name, table, xs)
    facet_tags = {
        tag: _facet_children(name, table, mesh, index) for tag, index in mesh.facet_tags.items()
    }
    per = children.shape[1]
    cell_tags = {
        tag: (index.cpu().numpy()[:, None] * per + np.arange(per)).ravel()
        for tag, index in mesh.cell_tags.items()
    }
    flat = children.reshape(-1, children.shape[2])
    if order == 1:
        fine = trusted_mesh(xs, flat, mesh.cell, cell_tags, facet_tags)
        return fine.to(mesh.points.device)
    # Children of a curved cell: their nodes lie where the parent's map takes them.
    straight = trusted_mesh(xs, flat, name, cell_tags, facet_tags)
    fine_nodes, fine_count = number_nodes(straight, second)
    linear = lagrange(name, 1)
    inside = torch.einsum(
        "qk,tjka->tjqa", linear.values(second.nodes), second.nodes[torch.from_numpy(templates)]
    )
    weights = second.values(inside)[torch.from_numpy(choice)]
    positions = torch.einsum("cjqk,cka->cjqa", weights.to(corners), corners).flatten(0, 1)
    fine_points = positions.new_empty(fine_count, mesh.dim)
    fine_points[fine_nodes.flatten()] = positions.flatten(0, 1)
    tags = {tag: straight.facets[index] for tag, index in straight.facet_tags.items()}
    fine = trusted_mesh(
        fine_points.detach().cpu().numpy(), fine_nodes.numpy(), mesh.cell, cell_tags, tags
    )
    return fine.to(mesh.points.device)


@lru_cache(maxsize=8)
def _templates(name: str) -> Ints:
    """Ways to cut a cell ``[ways, children, vertices]`` in second-order nodes, positively oriented."""
    second = lagrange(name, 2)
    cell, X = second.cell, second.nodes
    if not cell.is_simplex:
        halves = cell.vertices / 2
        wanted = halves[:, None] + halves[None]
        return torch.cdist(wanted, X.expand(len(wanted), -1, -1)).argmin(-1)[None].numpy()
    ways = [list(_CORNERS[name])]
    if name == "tetra":
        ways = [
            [*_CORNERS[name], *((*diagonal, ring[i], ring[(i + 1) % 4]) for i in range(4))]
            for diagonal, ring in _OCTAHEDRON
        ]
    table = np.array(ways, dtype=np.int64)
    corners = X.numpy()[table]
    det = np.linalg.det(np.swapaxes(corners[..., 1:, :] - corners[..., :1, :], -1, -2))
    if cell.dim > 1:
        table[det < 0] = table[det < 0][:, [1, 0, *range(2, table.shape[-1])]]
    return table


def _children(name: str, nodes: Ints, points: npt.NDArray[np.float64]) -> tuple[Ints, Ints, Ints]:
    """Vertices of the children ``[n_cells, children, vertices]``, the ways to cut, and the way of each cell."""
    templates = _templates(name)
    choice = np.zeros(len(nodes), dtype=np.int64)
    if len(templates) > 1:
        lengths = [
            np.linalg.norm(points[nodes[:, a]] - points[nodes[:, b]], axis=1)
            for (a, b), _ in _OCTAHEDRON
        ]
        choice = np.argmin(np.round(np.stack(lengths, 1), 14), 1)
    children = np.take_along_axis(nodes, templates[choice].reshape(len(nodes), -1), 1).reshape(
        len(nodes), *templates.shape[1:]
    )
    return children, templates, choice


def _facet_children(name: str, nodes: Ints, mesh: Mesh, facets: Tensor) -> Ints:
    """Vertices of the children of facets ``[m * children, k]``."""
    owners = mesh.facet_cells[facets].cpu().numpy()
    sides = mesh.facet_sides[facets].cpu().numpy()
    found = []
    for side, local in enumerate(_side_templates(name)):
        mine = nodes[owners[sides == side]]
        found.append(mine[:, local].reshape(-1, local.shape[1]))
    return np.concatenate(found)


@lru_cache(maxsize=8)
def _side_templates(name: str) -> tuple[Ints, ...]:
    """For each facet of a cell, the facets of its children that lie on it, in second-order nodes."""
    second = lagrange(name, 2)
    cell = second.cell
    children = _templates(name)[0]
    facets = children[:, np.array(cell.facets)].reshape(-1, len(cell.facets[0]))
    return tuple(facets[np.isin(facets, on.numpy()).all(1)] for on in second.facet_nodes)
