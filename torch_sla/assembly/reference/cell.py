"""Reference cells: vertices, edges and outward-oriented facets.

Vertices are numbered as VTK numbers them. Simplices are the unit simplices, the others the unit cube, so
that every reference coordinate lies in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from torch_sla.errors import MeshError
from torch_sla.lazy import cached_property

__all__ = ["REFERENCE_CELLS", "ReferenceCell", "reference_cell"]


@dataclass(frozen=True)
class ReferenceCell:
    """A reference cell.

    Parameters
    ----------
    name
        ``"point" "line" "triangle" "quad" "tetra" "hexahedron"``.
    dim
        Topological dimension.
    corners
        Coordinates of the vertices, ``dim`` numbers each.
    edges
        Pairs of vertices (empty below dimension 2: there the cell or its facets are the edges).
    facets
        Vertices of each facet, ordered so that the normal points outward.
    facet_name
        Name of the facets' own reference cell.

    Examples
    --------
    >>> reference_cell("triangle").facets
    ((0, 1), (1, 2), (2, 0))
    """

    name: str
    dim: int
    corners: tuple[tuple[float, ...], ...]
    edges: tuple[tuple[int, int], ...]
    facets: tuple[tuple[int, ...], ...]
    facet_name: str

    @property
    def n_vertices(self) -> int:
        """Number of vertices."""
        return len(self.corners)

    @property
    def is_simplex(self) -> bool:
        """Whether the cell is a simplex, so that barycentric coordinates exist."""
        return self.n_vertices == self.dim + 1

    @property
    def facet_cell(self) -> ReferenceCell:
        """Reference cell of the facets."""
        return REFERENCE_CELLS[self.facet_name]

    @cached_property
    def vertices(self) -> torch.Tensor:
        """Vertex coordinates ``[n_vertices, dim]``, float64."""
        return torch.tensor(self.corners, dtype=torch.float64, device="cpu").reshape(
            self.n_vertices, self.dim
        )

    @property
    def volume(self) -> float:
        """Measure of the reference cell."""
        return {0: 1.0, 1: 1.0, 2: 0.5, 3: 1.0 / 6.0}[self.dim] if self.is_simplex else 1.0

    def slack(self, X: torch.Tensor) -> torch.Tensor:
        """How far inside reference points are: the smallest distance function of the facets.

        Parameters
        ----------
        X
            Reference coordinates ``[..., dim]``.

        Returns
        -------
        Tensor ``[...]``, non-negative inside the closed cell and negative outside.
        """
        lower = X.amin(-1)
        upper = 1.0 - X.sum(-1) if self.is_simplex else 1.0 - X.amax(-1)
        return torch.minimum(lower, upper)


def _cell(
    name: str,
    corners: tuple[tuple[float, ...], ...],
    edges: tuple[tuple[int, int], ...],
    facets: tuple[tuple[int, ...], ...],
    facet: str,
) -> ReferenceCell:
    return ReferenceCell(name, len(corners[0]), corners, edges, facets, facet)


_SQUARE = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
_CUBE = tuple((x, y, z) for z in (0.0, 1.0) for x, y in _SQUARE)

REFERENCE_CELLS: dict[str, ReferenceCell] = {
    cell.name: cell
    for cell in (
        ReferenceCell("point", 0, ((),), (), (), "point"),
        _cell("line", ((0.0,), (1.0,)), (), ((0,), (1,)), "point"),
        _cell(
            "triangle",
            ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)),
            ((0, 1), (1, 2), (2, 0)),
            ((0, 1), (1, 2), (2, 0)),
            "line",
        ),
        _cell(
            "quad",
            _SQUARE,
            ((0, 1), (1, 2), (2, 3), (3, 0)),
            ((0, 1), (1, 2), (2, 3), (3, 0)),
            "line",
        ),
        _cell(
            "tetra",
            ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
            ((0, 1), (1, 2), (2, 0), (0, 3), (1, 3), (2, 3)),
            ((0, 1, 3), (1, 2, 3), (0, 3, 2), (0, 2, 1)),
            "triangle",
        ),
        _cell(
            "hexahedron",
            _CUBE,
            (
                *((0, 1), (1, 2), (2, 3), (3, 0)),
                *((4, 5), (5, 6), (6, 7), (7, 4)),
                *((0, 4), (1, 5), (2, 6), (3, 7)),
            ),
            # The order of VTK_TRIQUADRATIC_HEXAHEDRON: x-, x+, y-, y+, z-, z+.
            (
                *((0, 4, 7, 3), (1, 2, 6, 5), (0, 1, 5, 4)),
                *((2, 3, 7, 6), (0, 3, 2, 1), (4, 5, 6, 7)),
            ),
            "quad",
        ),
    )
}


def reference_cell(name: str) -> ReferenceCell:
    """Look up a reference cell by name.

    Raises
    ------
    MeshError
        If there is no such cell; the message lists those there are.
    """
    try:
        return REFERENCE_CELLS[name]
    except KeyError:
        known = ", ".join(key for key in REFERENCE_CELLS if key != "point")
        raise MeshError(f"cell: there is no reference cell {name!r}; use one of {known}") from None
