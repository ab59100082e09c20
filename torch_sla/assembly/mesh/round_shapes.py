"""Disk, annulus and the L-shape."""

from __future__ import annotations

from math import isfinite, pi
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import torch

from torch_sla.assembly.mesh.build import trusted_mesh
from torch_sla.assembly.mesh.curve import curved
from torch_sla.assembly.mesh.shapes import rectangle_mesh
from torch_sla.assembly.mesh.submesh import submesh
from torch_sla.errors import ArgumentError, MeshError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from torch_sla.assembly.mesh.mesh import Mesh

__all__ = ["annulus_mesh", "disk_mesh", "lshape_mesh"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Cell = Literal["triangle", "quad"]


def lshape_mesh(
    cells: int = 1,
    size: float = 1.0,
    origin: tuple[float, float] = (0.0, 0.0),
    cell: Cell = "triangle",
) -> Mesh:
    """Cut an L-shape: a square of side ``2 size`` without its lower right quarter.

    Parameters
    ----------
    cells
        Divisions along each quarter.
    size
        Side of a quarter.
    origin
        The re-entrant corner.
    cell
        ``"triangle"`` or ``"quad"``.

    Returns
    -------
    Mesh
        With facet tags ``left right bottom top`` on the square's sides and ``notch`` on the two at the corner.

    Examples
    --------
    >>> lshape_mesh(2, cell="quad")
    Mesh(12 quad cells, 21 points in 2D, 16 facets; cell tags: none; facet tags: left right bottom top notch)
    """
    _check(cells=cells, size=size, origin=origin, cell=cell)
    corner = (origin[0] - size, origin[1] - size)
    whole = rectangle_mesh((2 * cells, 2 * cells), (2 * size, 2 * size), corner, cell)
    x, y = (whole.centroids - torch.tensor(origin, device="cpu")).unbind(1)
    return submesh(whole, ~((x > 0) & (y < 0)), cut="notch").mesh


def disk_mesh(
    cells: int = 4,
    radius: float = 1.0,
    origin: tuple[float, float] = (0.0, 0.0),
    cell: Cell = "triangle",
    *,
    curve: bool = False,
) -> Mesh:
    """Mesh a disk: rings of triangles, or a square of quadrilaterals inside a ring of them.

    Parameters
    ----------
    cells
        Number of rings of triangles; or divisions of a quarter of the rim, and as many of the ring, of quads.
    radius, origin
        Radius and centre.
    cell
        ``"triangle"`` or ``"quad"``.
    curve
        Whether cells are of second order, with edges that follow the rim; else the rim is a polygon.

    Returns
    -------
    Mesh
        With the facet tag ``rim``.

    Examples
    --------
    >>> disk_mesh(2)
    Mesh(24 triangle cells, 19 points in 2D, 12 facets; cell tags: none; facet tags: rim)
    """
    _check(cells=cells, size=radius, origin=origin, cell=cell)
    points, table = _rings(cells) if cell == "triangle" else _butterfly(cells)
    points = radius * points + np.array(origin)
    mesh = trusted_mesh(points, table, cell, {}, {})
    mesh = mesh.tag_facets("rim", mesh.facet_neighbours < 0)
    return curved(mesh, {"rim": _circle(radius, origin)}) if curve else mesh


def annulus_mesh(
    cells: tuple[int, int] = (2, 16),
    inner: float = 0.5,
    outer: float = 1.0,
    origin: tuple[float, float] = (0.0, 0.0),
    cell: Cell = "triangle",
    *,
    curve: bool = False,
) -> Mesh:
    """Mesh the region between two circles.

    Parameters
    ----------
    cells
        Divisions along the radius and around.
    inner, outer
        Radii.
    origin
        Centre.
    cell
        ``"triangle"`` or ``"quad"``.
    curve
        Whether cells are of second order, with edges that follow the circles; else those are polygons.

    Returns
    -------
    Mesh
        With facet tags ``inner`` and ``outer``.

    Examples
    --------
    >>> annulus_mesh((1, 6), cell="quad")
    Mesh(6 quad cells, 12 points in 2D, 12 facets; cell tags: none; facet tags: inner outer)
    """
    if len(cells) != 2:
        raise ArgumentError(f"cells: got {cells!r}; give divisions along the radius and around")
    radial, around = cells
    for count in cells:
        _check(cells=count, size=outer, origin=origin, cell=cell)
    if around < 3:
        raise MeshError(f"cells: got {cells!r}; an annulus needs at least 3 divisions around")
    if not 0 < inner < outer:
        raise MeshError(
            f"inner: got {inner!r}; the inner radius lies between 0 and outer = {outer!r}"
        )
    radius = np.linspace(inner, outer, radial + 1)
    angle = 2.0 * pi * np.arange(around) / around
    points = np.stack(
        [np.outer(radius, np.cos(angle)).ravel(), np.outer(radius, np.sin(angle)).ravel()], 1
    )
    i, j = (
        index.ravel() for index in np.meshgrid(np.arange(radial), np.arange(around), indexing="ij")
    )
    after = (j + 1) % around
    quads = np.stack(
        [i * around + j, (i + 1) * around + j, (i + 1) * around + after, i * around + after], 1
    )
    table = quads if cell == "quad" else quads[:, [[0, 1, 2], [0, 2, 3]]].reshape(-1, 3)
    mesh = trusted_mesh(points + np.array(origin), table, cell, {}, {})
    mesh = mesh.tag_facets("inner", (mesh.facets < around).all(1))
    mesh = mesh.tag_facets("outer", (mesh.facets >= radial * around).all(1))
    if not curve:
        return mesh
    return curved(mesh, {"inner": _circle(inner, origin), "outer": _circle(outer, origin)})


def _circle(radius: float, origin: tuple[float, float]) -> Callable[[Tensor], Tensor]:
    def project(x: Tensor) -> Tensor:
        centre = torch.tensor(origin, dtype=x.dtype, device=x.device)
        away = x - centre
        return centre + radius * away / away.norm(dim=-1, keepdim=True)

    return project


def _rings(n: int) -> tuple[Floats, Ints]:
    """Ring k of radius k/n holds 6k points: six sectors of near-equilateral triangles."""
    points = [np.zeros((1, 2))]
    for k in range(1, n + 1):
        angle = pi / 3.0 * np.arange(6 * k) / k
        points.append(k / n * np.stack([np.cos(angle), np.sin(angle)], 1))
    start = [0] + [1 + 3 * k * (k - 1) for k in range(1, n + 2)]
    triangles = []
    for k in range(1, n + 1):
        sector, i = (a.ravel() for a in np.meshgrid(np.arange(6), np.arange(k), indexing="ij"))
        outer = start[k] + (sector * k + i)
        following = start[k] + (sector * k + i + 1) % (6 * k)
        inside = max(6 * (k - 1), 1)
        inner = start[k - 1] + (sector * (k - 1) + i) % inside
        triangles.append(np.stack([outer, following, inner], 1))
        gap = i < k - 1
        before = start[k - 1] + (sector * (k - 1) + i + 1) % inside
        triangles.append(np.stack([following, before, inner], 1)[gap])
    return np.concatenate(points), np.concatenate(triangles)


def _butterfly(n: int) -> tuple[Floats, Ints]:
    """Lay a square with bulging sides inside a ring, so that no corner is flat."""
    half = 0.5
    s = np.linspace(-1.0, 1.0, n + 1)
    x, y = (a.ravel() for a in np.meshgrid(s, s, indexing="xy"))
    # Half-way between a square and a disk of its size keeps angles at the square's corners moderate.
    disk = np.stack([x * np.sqrt(1 - y**2 / 2), y * np.sqrt(1 - x**2 / 2)], 1)
    square = half * (0.5 * disk + 0.5 * np.sqrt(0.5) * np.stack([x, y], 1))
    side = np.arange(n)
    around = np.concatenate(
        [side, n + side * (n + 1), (n + 1) ** 2 - 1 - side, (n - side) * (n + 1)]
    )
    angle = pi * (-3.0 + 2.0 * np.arange(4 * n) / n) / 4.0
    rim = np.stack([np.cos(angle), np.sin(angle)], 1)
    weight = np.linspace(0.0, 1.0, n + 1)[1:, None, None]
    ring = (1.0 - weight) * square[around] + weight * rim
    first = len(square) + 4 * n * np.arange(-1, n)[:, None] + np.arange(4 * n)
    first[0] = around
    i, j = (a.ravel() for a in np.meshgrid(np.arange(n), np.arange(4 * n), indexing="ij"))
    after = (j + 1) % (4 * n)
    outside = np.stack([first[i, j], first[i + 1, j], first[i + 1, after], first[i, after]], 1)
    a = (np.arange(n)[:, None] * (n + 1) + np.arange(n)).ravel()
    inside = np.stack([a, a + 1, a + n + 2, a + n + 1], 1)
    return np.concatenate([square, ring.reshape(-1, 2)]), np.concatenate([inside, outside])


def _check(*, cells: int, size: float, origin: tuple[float, float], cell: str) -> None:
    if cell not in ("triangle", "quad"):
        raise ArgumentError(f"cell: got {cell!r}; this shape is made of 'triangle' or 'quad' cells")
    if isinstance(cells, bool) or int(cells) != cells or cells < 1:
        raise MeshError(f"cells: got {cells!r}; divisions are whole numbers of at least 1")
    if not isfinite(size) or size <= 0:
        raise MeshError(f"size: got {size!r}; lengths are positive and finite")
    if len(origin) != 2 or not all(isfinite(value) for value in origin):
        raise MeshError(f"origin: got {origin!r}; give two finite coordinates")
