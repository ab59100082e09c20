"""Small meshes with everything that files hold: tags of cells, of facets outside and inside, bodies, curved cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import meshio
import numpy as np
import torch

from torch_sla.assembly.mesh import (
    Mesh,
    annulus_mesh,
    box_mesh,
    disk_mesh,
    interval_mesh,
    make_mesh,
    raised,
    rectangle_mesh,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MESHES", "in_vtk"]


def _with_tags(mesh: Mesh) -> Mesh:
    """Give a mesh overlapping groups of cells, and a group of facets inside it."""
    x = mesh.centroids[:, 0]
    middle = float(x.median())
    mesh = mesh.tag_cells("low", x <= middle).tag_cells("odd", torch.arange(mesh.n_cells) % 2 == 1)
    tags = {name: mesh.facets[index] for name, index in mesh.facet_tags.items()}
    left = mesh.points[mesh.facets][:, :, 0].mean(1)
    tags.setdefault("left", mesh.facets[left <= left.min() + 1e-9])
    inside = mesh.interior
    rows = mesh.vertices[torch.from_numpy(inside.owner)]
    sides = torch.tensor(mesh.reference.facets)[torch.from_numpy(inside.owner_side)]
    rows = rows.gather(1, sides)
    seam = x[torch.from_numpy(inside.owner)] <= middle
    seam &= x[torch.from_numpy(inside.neighbour)] > middle
    if bool(seam.any()):
        tags["seam"] = rows[seam]
    return make_mesh(
        mesh.points,
        mesh.cells,
        mesh.cell,
        cell_tags=dict(mesh.cell_tags),
        facet_tags=tags,
        duplicate_nodes="allow",
        hanging_nodes="allow",
    )


def _shuffled(mesh: Mesh) -> Mesh:
    """Number points and cells at random."""
    rng = np.random.default_rng(3)
    to = rng.permutation(mesh.n_points)
    points = np.empty_like(mesh.points.numpy())
    points[to] = mesh.points.numpy()
    cells = to[mesh.cells.numpy()][rng.permutation(mesh.n_cells)]
    tags = {name: to[mesh.facets.numpy()[index]] for name, index in mesh.facet_tags.items()}
    return make_mesh(points, cells, mesh.cell, facet_tags=tags)


def _bodies() -> Mesh:
    """Three blocks side by side that share no points, one of them far away."""
    block = rectangle_mesh((3, 4), (1.0, 1.0))
    shifts = ((0.0, 0.0), (1.0, 0.0), (5.0, 2.0))
    points = torch.cat([block.points + torch.tensor(s).double() for s in shifts])
    cells = torch.cat([block.cells + i * block.n_points for i in range(3)])
    return make_mesh(points, cells, "triangle", duplicate_nodes="allow", hanging_nodes="allow")


MESHES: dict[str, Callable[[], Mesh]] = {
    "triangles": lambda: _with_tags(_shuffled(rectangle_mesh((7, 5)))),
    "line": lambda: _with_tags(interval_mesh(9)),
    "quads": lambda: _with_tags(rectangle_mesh((5, 4), cell="quad")),
    "tetrahedra": lambda: _with_tags(_shuffled(box_mesh((3, 2, 3)))),
    "hexahedra": lambda: _with_tags(_shuffled(box_mesh((3, 3, 2), cell="hexahedron"))),
    "curved": lambda: _with_tags(annulus_mesh((2, 12), curve=True)),
    "curved in space": lambda: _with_tags(raised(box_mesh((2, 2, 2)))),
    "curved quads": lambda: _with_tags(disk_mesh(3, cell="quad", curve=True)),
    "bodies": lambda: _with_tags(_bodies()),
    "two cells": lambda: _with_tags(rectangle_mesh((1, 1))),
}


def in_vtk(mesh: Mesh) -> meshio.Mesh:
    """Give cells and facets in the boundary numbers of groups, 0 among them."""
    rng = np.random.default_rng(1)
    kind = {"line": "vertex", "triangle": "line", "tetra": "triangle", "hexahedron": "quad"}
    blocks = [
        (kind.get(mesh.reference.name, "line"), mesh.facets.numpy()),
        (mesh.cell, mesh.cells.numpy()),
    ]
    groups = [np.arange(mesh.n_facets) % 4, rng.integers(0, 3, mesh.n_cells)]
    points = np.pad(mesh.points.numpy(), ((0, 0), (0, 3 - mesh.dim)))
    return meshio.Mesh(points, blocks, cell_data={"gmsh:physical": groups})
