"""Finding nodes that hang on the facets of other cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from torch_sla.errors import MeshError

if TYPE_CHECKING:
    from torch_sla.assembly.mesh.mesh import Mesh

__all__ = ["check_hanging", "refuse_hanging"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# How near to a facet, relative to its size, a node counts as lying on it.
_NEAR = 1e-9


def check_hanging(mesh: Mesh) -> None:
    """Refuse a vertex inside a boundary facet: there two cells meet that do not match.

    Raises
    ------
    MeshError
        Naming the first such point and cell.
    """
    if mesh.dim == 1 or mesh.geometry.order > 1:
        return
    facets = mesh.facets[mesh.boundary].numpy()
    refuse_hanging(mesh.points.numpy(), facets, mesh.facet_cells[mesh.boundary].numpy())


def refuse_hanging(points: Floats, facets: Ints, cells: Ints, called: Ints | None = None) -> None:
    """Refuse a corner of boundary facets that lies inside another one.

    Parameters
    ----------
    points, facets, cells
        Coordinates, corners of the facets, and the cell of each.
    called
        Of a part of the points: their numbers in the whole.
    """
    facet, node = _candidates(points, facets)
    if not len(facet):
        return
    corners = points[facets[facet]]
    if corners.shape[1] == 2:
        on = _on_segment(points[node], corners)
    elif corners.shape[1] == 3:
        on = _on_triangle(points[node], corners)
    else:
        halves = (corners[:, [0, 1, 2]], corners[:, [0, 2, 3]])
        on = _on_triangle(points[node], halves[0]) | _on_triangle(points[node], halves[1])
    found = np.nonzero(on)[0]
    if len(found):
        i = found[0]
        point, vertices = node[i], facets[facet[i]]
        names = np.arange(len(points)) if called is None else called
        raise MeshError(
            f"cells: point {names[point]} at {points[point].tolist()} hangs on the facet "
            f"{names[vertices].tolist()} of cell {cells[facet[i]]} without being one of its points ({len(found)} "
            "such nodes); make the mesh conforming, or pass hanging_nodes='allow' if the bodies only touch there"
        )


def _candidates(points: Floats, facets: Ints) -> tuple[Ints, Ints]:
    """Pairs of a facet and a boundary vertex that lies in its bounding sphere and is none of its own."""
    from scipy.spatial import cKDTree

    corners = points[facets]
    centre = corners.mean(1)
    radius = np.linalg.norm(corners - centre[:, None], axis=2).max(1) * (1.0 + _NEAR)
    vertices = np.unique(facets)
    tree = cKDTree(points[vertices])
    # Their own corners lie in the sphere too: only facets with more are looked at closely.
    count = tree.query_ball_point(centre, radius, return_length=True)
    crowded = np.nonzero(count > facets.shape[1] if facets.shape[1] == 2 else count > 0)[0]
    lists = tree.query_ball_point(centre[crowded], radius[crowded])
    facet = np.repeat(crowded, [len(found) for found in lists])
    node = (
        vertices[np.concatenate([np.asarray(f, dtype=np.int64) for f in lists])]
        if len(facet)
        else vertices[:0]
    )
    foreign = (facets[facet] != node[:, None]).all(1)
    return facet[foreign], node[foreign]


def _on_segment(x: Floats, ends: Floats) -> npt.NDArray[np.bool_]:
    """Whether points lie strictly between the ends of segments."""
    along = ends[:, 1] - ends[:, 0]
    size = np.linalg.norm(along, axis=1)
    t = ((x - ends[:, 0]) * along).sum(1) / size**2
    off = np.linalg.norm(x - ends[:, 0] - t[:, None] * along, axis=1)
    return (off <= _NEAR * size) & (t > _NEAR) & (t < 1.0 - _NEAR)


def _on_triangle(x: Floats, corners: Floats) -> npt.NDArray[np.bool_]:
    """Whether points lie in triangles in space, their edges included and their corners not."""
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    u, v, w = b - a, c - a, x - a
    normal = np.cross(u, v)
    area = (normal**2).sum(1)
    size = np.sqrt(np.sqrt(area))
    s = (np.cross(w, v) * normal).sum(1) / area
    t = (np.cross(u, w) * normal).sum(1) / area
    off = np.abs((w * normal).sum(1)) / np.sqrt(area)
    weights = np.stack([1.0 - s - t, s, t], 1)
    inside: npt.NDArray[np.bool_] = (
        (off <= _NEAR * size) & (weights >= -_NEAR).all(1) & (weights <= 1.0 - _NEAR).all(1)
    )
    return inside
