"""Where a mesh lies in a picture: in the plane as it is, in space seen from a corner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from torch_sla.problems.report.draw.raster import FINER, Hits, rasterise

if TYPE_CHECKING:
    from torch_sla.assembly import Mesh
    from torch_sla.problems.report.draw.png import Pixels

__all__ = ["View", "surface"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_INK = np.array([30.0, 38.0, 48.0], dtype=np.float32)
_LIGHT = np.array([0.35, -0.55, 0.76])


def surface(mesh: Mesh) -> tuple[Ints, Ints, Ints]:
    """Return what of a mesh of dimension 2 or 3 is seen, as triangles.

    Returns
    -------
    triangles, owners, hidden
        ``[m, 3]``; the cell of each, or in space the facet, as an index into ``mesh.facets``; and which of its sides is
        inside a quadrilateral, by the corner opposite, -1 where none is.
    """
    if mesh.dim == 2:
        faces = mesh.vertices.cpu().numpy()
        owners = np.arange(len(faces))
    else:
        owners = mesh.boundary.cpu().numpy()
        faces = mesh.facets.cpu().numpy()[owners]
    if faces.shape[1] == 3:
        return faces, owners, np.full(len(faces), -1)
    triangles = np.concatenate([faces[:, [0, 1, 2]], faces[:, [0, 2, 3]]])
    hidden = np.repeat([1, 2], len(faces))
    return triangles, np.tile(owners, 2), hidden


class View:
    """A mesh of dimension 2 or 3 in a picture.

    Parameters
    ----------
    mesh
        The mesh.
    points
        Every set of points ``[k, n, dim]`` that is to fit in.
    width, height
        Largest size in pixels.

    Attributes
    ----------
    size
        Width and height in pixels.
    """

    def __init__(self, mesh: Mesh, points: Floats, width: int = 560, height: int = 400) -> None:
        self.mesh = mesh
        self.triangles, self.owners, self._hidden = surface(mesh)
        self._turn = _corner() if mesh.dim == 3 else None
        flat = self._flat(points.reshape(-1, mesh.dim))[:, :2]
        self.low, high = flat.min(0), flat.max(0)
        extent = np.maximum(high - self.low, 1e-300)
        self.scale = float(min((width - 2) / extent[0], (height - 2) / extent[1]))
        rounded = np.ceil(extent * self.scale).astype(int) + 2
        self.size = (int(rounded[0]), int(rounded[1]))
        self._seen: tuple[Floats, Hits] | None = None
        self._ink: Floats | None = None
        self._shading: Floats | None = None

    def _flat(self, points: Floats) -> Floats:
        """Turn points so that the first two coordinates lie in the picture."""
        return points if self._turn is None else points @ self._turn.T

    def xy(self, points: Floats) -> Floats:
        """Return points in pixels ``[n, 2]``, y downwards."""
        flat = (self._flat(points)[:, :2] - self.low) * self.scale
        return np.stack([flat[:, 0] + 1, self.size[1] - 1 - flat[:, 1]], -1)

    def hits(self, points: Floats) -> Hits:
        """Return what each sample sees of the mesh with these points ``[n, dim]``; made once while they stay."""
        if self._seen is None or not np.array_equal(self._seen[0], points):
            depth = None if self._turn is None else -self._flat(points)[:, 2]
            self._seen = (points, rasterise(self.xy(points), self.triangles, self.size, depth))
            self._ink = self._shading = None
        return self._seen[1]

    def draw(
        self,
        hits: Hits,
        points: Floats,
        colours: npt.NDArray[np.uint8],
        lines: float = 0.0,
    ) -> Pixels:
        """Shade samples' colours ``[m, 3]`` in space, draw the sides of cells, and average into pixels.

        Parameters
        ----------
        hits, points
            What `hits` gave for these points, and they.
        lines
            How dark the sides are, 0 to 1.
        """
        found: Any = colours.astype(np.float32)
        if self._turn is not None:
            if self._shading is None:
                self._shading = self._shade(points)[hits.triangle][:, None].astype(np.float32)
            found *= self._shading
        if lines:
            if self._ink is None:
                self._ink = self._sides(hits, points)[:, None].astype(np.float32)
            ink = np.float32(lines) * self._ink
            found = found * (1.0 - ink) + _INK * ink
        return hits.pixels(found.clip(0, 255).round().astype(np.uint8))

    def _shade(self, points: Floats) -> Floats:
        a, b, c = (points[self.triangles[:, i]] for i in range(3))
        normal = np.cross(b - a, c - a)
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-300)
        return 0.72 + 0.28 * np.abs(normal @ _LIGHT)

    def _sides(self, hits: Hits, points: Floats) -> Floats:
        """How much of a side each sample shows."""
        corners = FINER * self.xy(points)[self.triangles]
        spans = [corners[:, (i + 2) % 3] - corners[:, (i + 1) % 3] for i in range(3)]
        area = np.abs(spans[0][:, 0] * spans[1][:, 1] - spans[0][:, 1] * spans[1][:, 0])
        heights = np.stack([area / np.maximum(np.hypot(*s.T), 1e-300) for s in spans], -1)
        rows = np.flatnonzero(self._hidden >= 0)
        heights[rows, self._hidden[rows]] = np.inf
        with np.errstate(invalid="ignore"):
            away = hits.weights.clip(0.0) * heights[hits.triangle]
        away = np.where(np.isnan(away), np.inf, away).min(1)
        return (1.0 - away / (0.75 * FINER)).clip(0.0, 1.0)

    @property
    def cell_pixels(self) -> float:
        """Side of a typical cell in pixels."""
        area = self.size[0] * self.size[1] / max(len(self.triangles), 1)
        return float(np.sqrt(2.0 * area))


def _corner() -> Floats:
    """Return the rotation that looks from the front right, a little from above; z is up."""
    around, up = np.deg2rad(-55.0), np.deg2rad(24.0)
    eye = np.array([np.cos(up) * np.cos(around), np.cos(up) * np.sin(around), np.sin(up)])
    right = np.array([-np.sin(around), np.cos(around), 0.0])
    return np.stack([right, np.cross(eye, right), eye])
