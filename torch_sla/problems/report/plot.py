"""Pictures of a field: a line in 1D, colours in 2D, the coloured surface in 3D.

Of a vector field its size is drawn, of a complex one the real part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from torch_sla.errors import ArgumentError

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

    from torch_sla.problems.solution import Solution

__all__ = ["plot"]

COLOURS = "inferno"


def plot(solution: Solution, path: Path | None, member: int | tuple[int, ...]) -> Figure:
    """Draw the field; see `Solution.plot`."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ArgumentError(
            "plotting needs matplotlib: pip install matplotlib (or the extra 'plot')"
        ) from error
    u = solution.flat.detach()
    if u.ndim > 1:
        u = (
            u[member]
            if isinstance(member, int) and u.ndim == 2
            else u.flatten(0, -2)[_flat(u, member)]
        )
    drawn = solution.model.at_points(u)
    if drawn.is_complex():
        drawn = drawn.real
    if drawn.ndim > 1:
        drawn = drawn.norm(dim=-1)
    values = drawn.cpu().numpy()
    points = solution.points.detach().cpu().numpy()
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    draw = {1: _line, 2: _colours, 3: _surface}[points.shape[1]]
    draw(figure, solution, points, values)
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure


def _flat(u: Any, member: int | tuple[int, ...]) -> int:
    index = member if isinstance(member, tuple) else (member,) + (0,) * (u.ndim - 2)
    return int(np.ravel_multi_index(index, u.shape[:-1]))


def _line(
    figure: Figure, solution: Solution, points: npt.NDArray[Any], values: npt.NDArray[Any]
) -> None:
    axes = figure.add_subplot()
    order = points[:, 0].argsort()
    axes.plot(points[order, 0], values[order])
    axes.set_xlabel("x")
    axes.set_ylabel("u")
    axes.set_title(solution.model.spec.name or "")


def _colours(
    figure: Figure, solution: Solution, points: npt.NDArray[Any], values: npt.NDArray[Any]
) -> None:
    axes = figure.add_subplot()
    corners = solution.model.mesh.vertices.cpu().numpy()
    triangles = (
        corners
        if corners.shape[1] == 3
        else np.concatenate([corners[:, :3], corners[:, [0, 2, 3]]])
    )
    drawn = axes.tripcolor(
        points[:, 0], points[:, 1], values, triangles=triangles, shading="gouraud", cmap=COLOURS
    )
    figure.colorbar(drawn, ax=axes, label="u")
    axes.set_aspect("equal")
    axes.set_xlabel("x")
    axes.set_ylabel("y")
    axes.set_title(solution.model.spec.name or "")


def _surface(
    figure: Figure, solution: Solution, points: npt.NDArray[Any], values: npt.NDArray[Any]
) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection  # type: ignore[import-untyped]

    mesh = solution.model.mesh
    facets = mesh.facets[mesh.boundary].cpu().numpy()
    corners = points[facets]
    axes: Any = figure.add_subplot(projection="3d")
    scale = ScalarMappable(Normalize(values.min(), values.max()), cmap=COLOURS)
    colours = scale.to_rgba(values[facets].mean(1))
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    light = 0.75 + 0.25 * np.abs(normals @ np.array([0.3, -0.5, 0.81]))
    colours[:, :3] *= light[:, None]
    axes.add_collection3d(Poly3DCollection(corners, facecolors=colours, edgecolors="none"))
    low, high = points.min(0), points.max(0)
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])
    axes.set_zlim(low[2], high[2])
    axes.set_box_aspect(high - low)
    axes.set_xlabel("x")
    axes.set_ylabel("y")
    axes.set_zlabel("z")
    axes.set_title(solution.model.spec.name or "")
    figure.colorbar(scale, ax=axes, label="u", shrink=0.7)
