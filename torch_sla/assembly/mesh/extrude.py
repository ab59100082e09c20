"""Extrusion: lines become triangles or quads, triangles tetrahedra, quads hexahedra."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from torch_sla.assembly.mesh.build import make_mesh
from torch_sla.errors import MeshError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch_sla.assembly.mesh.mesh import Mesh

__all__ = ["extrude"]

Ints = npt.NDArray[np.int64]

_BECOMES = {"line": ("quad", "triangle"), "triangle": ("tetra",), "quad": ("hexahedron",)}


def extrude(
    mesh: Mesh,
    levels: Sequence[float],
    *,
    below: str = "below",
    above: str = "above",
    cell: str | None = None,
) -> Mesh:
    """Sweep a mesh along a new last coordinate.

    A prism over a triangle is cut into three tetrahedra with diagonals that rise from the vertex of lower number, so
    that neighbours match (Dompierre et al., 8th Int. Meshing Roundtable, 1999).

    Parameters
    ----------
    mesh
        Straight lines, triangles or quads.
    levels
        Ascending values of the new coordinate, at least two.
    below, above
        Facet tags of the first and the last level; others name the sides swept by tagged facets.
    cell
        ``"triangle"`` to cut the quads over lines in two; else there is one choice.

    Raises
    ------
    MeshError
        If the cells cannot be extruded, levels do not ascend, or a tag is taken.

    Examples
    --------
    >>> from torch_sla.assembly.mesh import rectangle_mesh
    >>> extrude(rectangle_mesh((1, 1)), [0.0, 0.5]).n_cells
    6
    """
    if mesh.cell not in _BECOMES:
        raise MeshError(
            f"mesh: {mesh.cell} cells cannot be extruded; use straight lines, triangles or quads"
        )
    chosen = _BECOMES[mesh.cell][0] if cell is None else cell
    if chosen not in _BECOMES[mesh.cell]:
        raise MeshError(
            f"cell: {mesh.cell} cells become {' or '.join(_BECOMES[mesh.cell])} cells, not {cell!r}"
        )
    z = np.asarray(levels, dtype=np.float64)
    if z.ndim != 1 or len(z) < 2 or not np.isfinite(z).all() or (np.diff(z) <= 0).any():
        raise MeshError(f"levels: got {list(levels)!r}; give at least two ascending values")
    for name in (below, above):
        if name in mesh.facet_tags or below == above:
            raise MeshError(
                f"below: the facet tag {name!r} is taken; name the first and last level otherwise"
            )
    n, layers = mesh.n_points, len(z) - 1
    flat = mesh.points.detach().cpu().numpy()
    points = np.concatenate([np.tile(flat, (len(z), 1)), np.repeat(z, n)[:, None]], 1)
    base = mesh.cells.cpu().numpy()
    swept = _swept(base, n, mesh.cell, chosen)
    offsets = n * np.arange(layers)[:, None, None, None]
    cells = (swept[None] + offsets).reshape(-1, swept.shape[-1])
    per = swept.shape[1]
    member = np.tile(np.repeat(np.arange(len(base)), per), layers)
    cell_tags = {name: np.isin(member, i.cpu().numpy()) for name, i in mesh.cell_tags.items()}
    facets = mesh.facets.cpu().numpy()
    facet_tags = {}
    for name, index in mesh.facet_tags.items():
        sides = _swept_facets(facets[index.cpu().numpy()], n, chosen)
        facet_tags[name] = (sides[None] + offsets[..., 0]).reshape(-1, sides.shape[-1])
    facet_tags[below], facet_tags[above] = base, base + n * layers
    solid = make_mesh(
        points,
        cells,
        chosen,
        cell_tags=cell_tags,
        facet_tags=facet_tags,
        duplicate_nodes="allow",
        hanging_nodes="allow",
    )
    return solid.to(mesh.points.device)


def _swept(base: Ints, n: int, cell: str, chosen: str) -> Ints:
    """Cells over each cell of one layer ``[m, cells, vertices]``."""
    if cell == "quad":
        return np.concatenate([base, base + n], 1)[:, None]
    if cell == "line" and chosen == "quad":
        return np.stack([base[:, 0], base[:, 1], base[:, 1] + n, base[:, 0] + n], 1)[:, None]
    ordered = np.sort(base, 1)
    k = ordered.shape[1]
    # Simplices of the path from the bottom to the top, which climbs at the vertices in turn.
    paths = [
        np.concatenate([ordered[:, : k - i], ordered[:, k - 1 - i :] + n], 1) for i in range(k)
    ]
    return np.stack(paths, 1)


def _swept_facets(facets: Ints, n: int, chosen: str) -> Ints:
    """Facets swept by facets in one layer ``[m, vertices]``."""
    if facets.shape[1] == 1:
        return np.concatenate([facets, facets + n], 1)
    if chosen == "hexahedron":
        return np.concatenate([facets, facets[:, ::-1] + n], 1)
    ordered = np.sort(facets, 1)
    lower = np.concatenate([ordered, ordered[:, 1:] + n], 1)
    upper = np.concatenate([ordered[:, :1], ordered + n], 1)
    return np.concatenate([lower, upper])
