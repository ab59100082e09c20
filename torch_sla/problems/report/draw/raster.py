"""Triangles to pixels: which one each pixel sees, and where in it.

All candidates of all triangles are laid out in one array and tested together, so that the work is that of the pixels
covered, whatever the number of triangles. Pineda, Computer Graphics 22(4) (1988), 17-20 (edge functions).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch_sla.problems.report.draw.png import Pixels

__all__ = ["FINER", "Hits", "rasterise"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

FINER = 2
"""Samples along each side of a pixel."""
_BATCH = 1_000_000


@dataclass(frozen=True)
class Hits:
    """What samples see.

    Parameters
    ----------
    shape
        Rows and columns of samples, `FINER` times those of pixels.
    seen
        Samples that see a triangle ``[m]``, as flat indices.
    triangle
        Which ``[m]``.
    weights
        Barycentric coordinates there ``[m, 3]``.
    """

    shape: tuple[int, int]
    seen: Ints
    triangle: Ints
    weights: Floats

    def values(self, nodal: Floats, triangles: Ints) -> Floats:
        """Interpolate values of points ``[n]`` to the samples seen ``[m]``."""
        return (nodal[triangles[self.triangle]] * self.weights).sum(1)

    def pixels(self, colours: npt.NDArray[np.uint8]) -> Pixels:
        """Average colours ``[m, 3]`` of samples into pixels; opacity is the share that is covered."""
        rows, columns = self.shape
        full = np.zeros((rows * columns, 4), dtype=np.float32)
        full[self.seen, :3] = colours
        full[self.seen, 3] = 1.0
        blocks = full.reshape(rows // FINER, FINER, columns // FINER, FINER, 4)
        total = blocks.sum((1, 3))
        cover = total[..., 3:]
        mean = total[..., :3] / np.maximum(cover, 1.0)
        return np.concatenate([mean, cover * (255.0 / FINER**2)], -1).round().astype(np.uint8)


def rasterise(
    xy: Floats, triangles: Ints, size: tuple[int, int], depth: Floats | None = None
) -> Hits:
    """Find what every sample of a picture sees.

    Parameters
    ----------
    xy
        Points in pixels ``[n, 2]``, y downwards.
    triangles
        ``[m, 3]``.
    size
        Width and height in pixels.
    depth
        Distance from the eye ``[n]``; the nearest triangle is seen. None in the plane.
    """
    width, height = FINER * size[0], FINER * size[1]
    corners = FINER * xy[triangles]
    low = np.ceil(corners.min(1) - 0.5).astype(np.int64).clip(0)
    high = np.floor(corners.max(1) - 0.5).astype(np.int64)
    high = np.minimum(high, [width - 1, height - 1])
    spans = (high - low + 1).clip(0)
    counts = spans.prod(1)
    order = np.flatnonzero(counts)
    ends = np.cumsum(counts[order])
    marks = np.arange(_BATCH, ends[-1] + _BATCH, _BATCH) if len(ends) else ends
    pieces = np.searchsorted(ends, marks, side="right")
    found, start = [], 0
    for stop in pieces:
        stop = min(max(int(stop), start + 1), len(order))
        if start < stop:
            found.append(_inside(order[start:stop], corners, low, spans, width))
        start = stop
    if not found:
        none = np.zeros(0, dtype=np.int64)
        return Hits((height, width), none, none, np.zeros((0, 3)))
    place, triangle, weights = (np.concatenate(part) for part in zip(*found, strict=True))
    if depth is not None:
        far = (depth[triangles[triangle]] * weights).sum(1)
        nearest_last = np.argsort(-far, kind="stable")
        place, triangle, weights = (
            place[nearest_last],
            triangle[nearest_last],
            weights[nearest_last],
        )
    # Of several writes to one sample the last stays.
    owner = np.full(width * height, -1, dtype=np.int64)
    owner[place] = np.arange(len(place))
    seen = np.flatnonzero(owner >= 0)
    chosen = owner[seen]
    return Hits((height, width), seen, triangle[chosen], weights[chosen])


def _inside(
    chosen: Ints, corners: Floats, low: Ints, spans: Ints, width: int
) -> tuple[Ints, Ints, Floats]:
    """Return the samples inside some triangles: flat index, triangle, barycentric coordinates."""
    a, b, c = (corners[chosen, i] - low[chosen] - 0.5 for i in range(3))
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    keep = area != 0.0
    chosen, a, b, c, area = chosen[keep], a[keep], b[keep], c[keep], area[keep]
    # Of samples counted from the corner of its box, each coordinate is constant + right * column + down * row.
    counts = spans[chosen].prod(1)
    own = np.repeat(np.arange(len(chosen)), counts)
    offset = np.arange(len(own)) - (np.cumsum(counts) - counts)[own]
    row, column = np.divmod(offset, spans[chosen, 0][own])
    found = []
    for p, q in ((c, a), (a, b)):
        right, down = -(q[:, 1] - p[:, 1]) / area, (q[:, 0] - p[:, 0]) / area
        constant = -(right * p[:, 0] + down * p[:, 1])
        found.append(constant[own] + right[own] * column + down[own] * row)
    second, third = found
    first = 1.0 - second - third
    inside = np.flatnonzero((first >= -1e-9) & (second >= -1e-9) & (third >= -1e-9))
    own = own[inside]
    place = (low[chosen, 1][own] + row[inside]) * width + low[chosen, 0][own] + column[inside]
    weights = np.stack([first[inside], second[inside], third[inside]], -1)
    return place, chosen[own], weights
