"""Pictures of fields that live on cells or points of a mesh: a line, colours, or the body above a level."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from torch_sla.errors import ArgumentError
from torch_sla.linalg.sparse.whole import whole

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure
    from torch import Tensor

    from torch_sla.assembly import Mesh

__all__ = ["draw", "new_figure", "save_figure", "undrawable"]

COLOURS = "viridis"


def undrawable() -> str | None:
    """Return why no picture can be drawn here, None where one can."""
    try:
        from matplotlib.figure import Figure  # noqa: F401
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("matplotlib"):
            return "plotting needs matplotlib: pip install matplotlib (or the extra 'plot')"
        return _broken(error)
    except Exception as error:  # noqa: BLE001  (built for another NumPy, it fails in ways of its own)
        return _broken(error)
    return None


def _broken(error: Exception) -> str:
    return (
        f"plotting needs matplotlib, which is installed and cannot be loaded ({type(error).__name__}: {error}); "
        "install it again, for the NumPy that is there"
    )


def new_figure(size: tuple[float, float] = (6.4, 4.8)) -> Figure:
    """Return an empty figure that no window shows; `size` in inches.

    Raises
    ------
    ArgumentError
        Without matplotlib.
    """
    why = undrawable()
    if why is not None:
        raise ArgumentError(why)
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure, whole or not at all, in the format that the name ends in.

    Raises
    ------
    ArgumentError
        Where matplotlib writes no such files.
    """
    endings = sorted(figure.canvas.get_supported_filetypes())
    if path.suffix[1:].lower() not in endings:
        raise ArgumentError(
            f"path ends in {path.suffix!r}; a picture ends in one of {' '.join('.' + e for e in endings)}"
        )
    with whole(path) as file:
        figure.savefig(file, dpi=150)


def draw(
    mesh: Mesh, points: Tensor, values: Tensor | None, label: str, title: str, path: Path
) -> None:
    """Draw a field ``[n_cells]`` or ``[n_points]``; without one, the mesh itself.

    Of values with components the size is drawn. In 3D the body is drawn where values are above the middle between
    the least and the greatest.

    Raises
    ------
    ArgumentError
        Without matplotlib.
    """
    x = points.detach().cpu().numpy()
    field = None if values is None else _scalar(values)
    figure = new_figure()
    {1: _line, 2: _plane, 3: _body}[x.shape[1]](figure, mesh, x, field, label)
    figure.suptitle(title)
    with whole(path) as file:
        figure.savefig(file, dpi=110, format="png")


def _scalar(values: Tensor) -> npt.NDArray[Any]:
    array = values.detach().cpu().numpy()
    return np.linalg.norm(array.reshape(len(array), -1), axis=1) if array.ndim > 1 else array


def _line(figure: Any, mesh: Mesh, x: npt.NDArray[Any], field: Any, label: str) -> None:
    axes = figure.add_subplot()
    axes.set_xlabel("x")
    axes.set_ylabel(label)
    if field is None:
        axes.plot(x[:, 0], np.zeros(len(x)), "|")
    elif len(field) == len(x):
        order = x[:, 0].argsort()
        axes.plot(x[order, 0], field[order])
    else:
        ends = x[mesh.vertices.cpu().numpy(), 0]
        order = ends.min(1).argsort()
        axes.stairs(field[order], np.append(ends.min(1)[order], ends.max()))


def _plane(figure: Any, mesh: Mesh, x: npt.NDArray[Any], field: Any, label: str) -> None:
    axes = figure.add_subplot()
    corners = mesh.vertices.cpu().numpy()
    halves = [corners] if corners.shape[1] == 3 else [corners[:, [0, 1, 2]], corners[:, [0, 2, 3]]]
    triangles = np.concatenate(halves)
    if field is None:
        axes.triplot(x[:, 0], x[:, 1], triangles, linewidth=0.5)
    else:
        on_points = len(field) == len(x)
        colours = (
            {"shading": "gouraud"} if on_points else {"facecolors": np.tile(field, len(halves))}
        )
        if on_points:
            drawn = axes.tripcolor(
                x[:, 0], x[:, 1], field, triangles=triangles, cmap=COLOURS, **colours
            )
        else:
            drawn = axes.tripcolor(x[:, 0], x[:, 1], triangles=triangles, cmap=COLOURS, **colours)
        figure.colorbar(drawn, ax=axes, label=label)
    axes.set_aspect("equal")
    axes.set_xlabel("x")
    axes.set_ylabel("y")


def _body(figure: Any, mesh: Mesh, x: npt.NDArray[Any], field: Any, label: str) -> None:
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection  # type: ignore[import-untyped]

    corners = mesh.vertices.cpu().numpy()
    chosen = np.ones(len(corners), dtype=bool)
    if field is not None:
        each = field if len(field) == len(corners) else field[corners].mean(1)
        chosen = each >= 0.5 * (each.min() + each.max())
    local = np.asarray(mesh.reference.facets)
    facets = corners[chosen][:, local].reshape(-1, local.shape[1])
    _, first, count = np.unique(np.sort(facets, 1), axis=0, return_index=True, return_counts=True)
    outer = x[facets[first[count == 1]]]
    axes = figure.add_subplot(projection="3d")
    axes.add_collection3d(Poly3DCollection(outer, facecolors="tan", edgecolors="k", linewidths=0.2))
    low, high = x.min(0), x.max(0)
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), zlim=(low[2], high[2]), title=label)
    axes.set_box_aspect(high - low)
