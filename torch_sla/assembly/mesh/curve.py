"""Second-order cells: straight ones, and those whose boundary nodes lie on a given curve or surface."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.assembly.elements import Element, lagrange
from torch_sla.assembly.mesh.build import trusted_mesh
from torch_sla.assembly.mesh.mesh import CELL_TYPES, Mesh
from torch_sla.assembly.mesh.numbering import number_nodes
from torch_sla.errors import MeshError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["curved", "raised"]

_SECOND = {name: second for second, (name, order) in CELL_TYPES.items() if order == 2}


def raised(mesh: Mesh) -> Mesh:
    """Give straight cells the points of second-order ones, in the middle of edges, faces and cells; nothing bends.

    Points keep their numbers, and the new ones come behind them.

    Raises
    ------
    MeshError
        If the mesh is of second order already.

    Examples
    --------
    >>> from torch_sla.assembly.mesh import rectangle_mesh
    >>> raised(rectangle_mesh((1, 1))).points[4:].tolist()
    [[0.5, 0.0], [0.0, 0.5], [0.5, 0.5], [1.0, 0.5], [0.5, 1.0]]
    """
    name, order = CELL_TYPES[mesh.cell]
    if order != 1:
        raise MeshError(f"mesh: its {mesh.cell} cells are of second order already")
    element = lagrange(name, 2)
    cells, count = number_nodes(mesh, element)
    straight = torch.einsum(
        "qk,cka->cqa", mesh.geometry.values(element.nodes).to(mesh.points), mesh.points[mesh.cells]
    )
    points = mesh.points.new_empty(count, mesh.dim)
    points[cells.flatten()] = straight.flatten(0, 1)
    return replace(mesh, points=points, cells=cells, cell=_SECOND[name])


def curved(mesh: Mesh, surfaces: Mapping[str, Callable[[Tensor], Tensor]] | None = None) -> Mesh:
    """Turn straight cells into second-order ones and move nodes of tagged facets onto surfaces.

    Only edges and faces on a surface bend; nodes inside faces and cells follow by transfinite blending, which keeps
    the rate of isoparametric elements (Ciarlet and Raviart 1972; Lenoir 1986).

    Parameters
    ----------
    mesh
        A mesh of first-order cells.
    surfaces
        By facet tag, the projection of points ``[m, dim]`` onto the surface; vertices are expected to lie on it.

    Raises
    ------
    MeshError
        If the mesh is of second order already, a tag is unknown, or a cell folds.

    Examples
    --------
    >>> from torch_sla.assembly.mesh import rectangle_mesh
    >>> curved(rectangle_mesh((1, 1))).cell
    'triangle6'
    """
    fine = raised(mesh)
    element, cells, points = fine.geometry, fine.cells, fine.points
    shift = torch.zeros_like(points)
    for tag, project in (surfaces or {}).items():
        facets = mesh.select_facets(tag)
        local = element.facet_nodes.to(cells.device)[mesh.facet_sides[facets]]
        nodes = cells[mesh.facet_cells[facets]].gather(1, local).unique()
        moved = project(points[nodes])
        if moved.shape != points[nodes].shape:
            raise MeshError(
                f"surfaces: {tag!r} maps {tuple(points[nodes].shape)} to {tuple(moved.shape)}"
            )
        shift[nodes] = moved - points[nodes]
    _blend(mesh, cells, shift)
    curved_points = points + shift
    _check_folds(element, cells, curved_points)
    tags = {key: mesh.facets[index] for key, index in mesh.facet_tags.items()}
    result = trusted_mesh(
        curved_points.detach().cpu().numpy(),
        cells.cpu().numpy(),
        fine.cell,
        dict(mesh.cell_tags),
        tags,
    )
    return result.to(mesh.points.device)


def _blend(mesh: Mesh, cells: Tensor, shift: Tensor) -> None:
    """Let nodes inside faces and cells of quads and hexahedra follow the edges around them, in place."""
    cell = mesh.reference
    if cell.is_simplex:
        return
    corners, edges = cell.n_vertices, len(cell.edges)
    if cell.dim == 2:
        moved = 0.5 * shift[cells[:, corners : corners + edges]].sum(1)
        shift[cells[:, -1]] = moved - 0.25 * shift[cells[:, :corners]].sum(1)
        return
    on_edge = {frozenset(pair): corners + k for k, pair in enumerate(cell.edges)}
    for f, face in enumerate(cell.facets):
        pairs = zip(face, (*face[1:], face[0]), strict=True)
        around = [on_edge[frozenset(pair)] for pair in pairs]
        centre = cells[:, corners + edges + f]
        # Nodes on a surface stay where they were put.
        free = shift[centre].abs().amax(1) == 0
        moved = 0.5 * shift[cells[:, around]].sum(1) - 0.25 * shift[cells[:, list(face)]].sum(1)
        shift[centre[free]] = moved[free]
    faces = shift[cells[:, corners + edges : -1]].sum(1)
    along = shift[cells[:, corners : corners + edges]].sum(1)
    shift[cells[:, -1]] = 0.5 * faces - 0.25 * along + 0.125 * shift[cells[:, :corners]].sum(1)


def _check_folds(element: Element, cells: Tensor, points: Tensor) -> None:
    slopes = element.gradients(element.nodes).to(points)
    det = torch.linalg.det(torch.einsum("cka,qkb->cqab", points[cells], slopes))
    bad = torch.nonzero((det <= 0).any(1))[:, 0]
    if len(bad):
        raise MeshError(
            f"surfaces: cell {int(bad[0])} folds over itself when its nodes move to the surface ({len(bad)} such "
            "cells); refine the mesh near it first"
        )
