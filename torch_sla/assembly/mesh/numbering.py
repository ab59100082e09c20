"""Numbering the nodes of an element on a mesh."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from torch_sla.assembly.mesh.topology import sub_entities

if TYPE_CHECKING:
    from torch_sla.assembly.elements import Element
    from torch_sla.assembly.mesh.mesh import Mesh

__all__ = ["number_nodes"]


def number_nodes(mesh: Mesh, element: Element) -> tuple[Tensor, int]:
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
