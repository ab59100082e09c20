"""Pictures of the mesh and of fields on it."""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from torch_sla.problems.report.draw.charts import Curve, chart, number
from torch_sla.problems.report.draw.colours import Scale
from torch_sla.problems.report.draw.picture import data_url, framed, mesh_picture, painted
from torch_sla.problems.report.draw.view import View
from torch_sla.problems.report.page.section import figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from torch_sla.problems.report.frames import Frames

__all__ = ["chosen", "field_pictures", "mesh_part", "moved_points", "seen", "slider"]

Floats = npt.NDArray[np.float64]

_FRAMES, _FIELDS, _MODES, _CURVES = 16, 8, 12, 6


def mesh_part(frames: Frames) -> str:
    """Draw the mesh and say what it is made of."""
    mesh, points = frames.mesh, _numpy(frames.points_of(0))
    caption = f"{mesh.n_cells} {mesh.cell} cells, {mesh.n_points} points in {mesh.dim}D"
    if mesh.dim == 1:
        low, high = float(points.min()), float(points.max())
        return f'<p class="note">{escape(caption)}, from {number(low)} to {number(high)}.</p>'
    return figure(mesh_picture(View(mesh, points[None], 560, 360), points), caption)


def field_pictures(frames: Frames) -> str:
    """Draw every field: pictures side by side for modes, one with a slider for times, cases and members."""
    most = _MODES if frames.axis == "mode" else _CURVES if frames.mesh.dim == 1 else _FRAMES
    count = len(frames)
    index = list(range(min(count, most))) if frames.axis == "mode" else chosen(count, most)
    frames = frames.only(index)
    fields = [(name, value, True) for name, value in frames.nodal.items()]
    fields += [(name, value, False) for name, value in frames.cellwise.items()]
    left = [name for name, _, _ in fields[_FIELDS:]]
    parts = [_field(frames, *each) for each in fields[:_FIELDS]]
    body = "".join(parts) if len(parts) == 1 else f'<div class="grid2">{"".join(parts)}</div>'
    if frames.axis == "mode" and count > len(frames):
        body += f'<p class="note">{count - len(frames)} more modes are not drawn.</p>'
    if left:
        body += f'<p class="note">Not drawn: {escape(" ".join(left))}.</p>'
    return body


def chosen(k: int, most: int) -> list[int]:
    """Choose at most so many of k, evenly, the first and the last among them."""
    return sorted({round(i) for i in np.linspace(0, k - 1, min(k, most))})


def _field(frames: Frames, name: str, value: Tensor, nodal: bool) -> str:
    said, size, points = seen(frames, name, value)
    if frames.mesh.dim == 1:
        return _curves(frames, said, size, nodal)
    if frames.axis == "mode":
        return _modes(frames, said, size, points)
    compact = len(size) > 1
    view = View(frames.mesh, points, *((460, 340) if compact else (560, 400)))
    scale = Scale.of(size)
    urls = [
        data_url(painted(view, at, values, scale, nodal=nodal))
        for at, values in zip(points, size, strict=True)
    ]
    first = len(urls) - 1 if frames.axis == "t" else 0
    shown = framed(view, urls[first], scale, label=said)
    if not compact:
        return figure(shown, said)
    return slider(shown, urls, frames.titles, first, said)


def seen(frames: Frames, name: str, value: Tensor) -> tuple[str, Floats, Floats]:
    """Return what pictures of a field say, its size (in 1D its first component) ``[k, n]``, and moved points."""
    size = _numpy(value)
    said = name
    if size.ndim > 2:
        if frames.mesh.dim == 1:
            size = size[..., 0]
        else:
            said = f"|{name}|"
            size = np.linalg.norm(size.reshape(*size.shape[:2], -1), axis=-1)
    points = np.stack([_numpy(frames.points_of(i)) for i in range(len(size))])
    points, said = moved_points(frames, points, said)
    return said, size, points


def slider(shown: str, urls: Sequence[str], titles: Sequence[str], first: int, caption: str) -> str:
    """Put a slider and a button under a picture, which go through others of its size."""
    data = json.dumps([{"url": u, "title": t} for u, t in zip(urls, titles, strict=True)])
    controls = (
        '<div class="controls"><button type="button" aria-label="play">▶</button>'
        f'<input type="range" min="0" max="{len(urls) - 1}" value="{first}" aria-label="frame">'
        f"<output>{escape(titles[first])}</output></div>"
    )
    held = data.replace("<", "\\u003c")
    script = f'<script type="application/json">{held}</script>'
    return (
        f"<figure data-frames>{shown}{controls}{script}"
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _modes(frames: Frames, said: str, size: Floats, points: Floats) -> str:
    parts = []
    for title, at, values in zip(frames.titles, points, size, strict=True):
        view = View(frames.mesh, at[None], 300, 220)
        scale = Scale.of(values)
        url = data_url(painted(view, at, values, scale))
        parts.append(figure(framed(view, url, scale, label=title), title))
    return f'<h3>{escape(said)}</h3><div class="grid3">{"".join(parts)}</div>'


def moved_points(frames: Frames, points: Floats, said: str) -> tuple[Floats, str]:
    """Move points ``[k, n, dim]`` by the displacements of the frames, and say by how much.

    Of small strain the largest displacement is drawn as about a tenth of the body: what a linear law makes of a load
    may be far smaller, or larger, and looks the same. Each mode is drawn so for itself, since it has no size.
    """
    if frames.moves is None or frames.mesh.dim == 1:
        return points, said
    moved = _numpy(frames.nodal[frames.moves])
    extent = float(np.ptp(points[0], axis=0).max())
    largest = np.linalg.norm(moved, axis=-1).max(-1)
    if not np.isfinite(largest).all() or not largest.max():
        return points, said
    if frames.axis == "mode":
        factor: Any = 0.12 * extent / np.maximum(largest, 1e-300)
        return points + factor[:, None, None] * moved, f"{said}, shapes enlarged to be seen"
    ratio = float(largest.max()) / extent
    if frames.to_scale or 0.05 <= ratio <= 0.2:
        return points + moved, f"{said}, on the deformed shape"
    factor = float(f"{0.1 / ratio:.2g}")
    return points + factor * moved, f"{said}, displacements times {number(factor)}"


def _curves(frames: Frames, name: str, values: Floats, nodal: bool) -> str:
    """Draw a field in 1D as curves over x."""
    mesh = frames.mesh
    curves = []
    for i, (title, value) in enumerate(zip(frames.titles, values, strict=True)):
        points = frames.points_of(i)
        at = _numpy(points if nodal else points[mesh.vertices].mean(1))[:, 0]
        order = at.argsort()
        curves.append(Curve(title or name, at[order], value[order]))
    return figure(chart(curves, "x", name), name)


def _numpy(value: Tensor) -> Floats:
    return value.detach().cpu().double().numpy()
