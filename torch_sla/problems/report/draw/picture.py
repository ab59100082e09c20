"""A field as a picture with axes and colours: SVG around PNG, all in one string."""

from __future__ import annotations

import base64
from html import escape
from itertools import count
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from torch_sla.problems.report.draw.charts import labels, ticks
from torch_sla.problems.report.draw.colours import CURVES
from torch_sla.problems.report.draw.png import png

if TYPE_CHECKING:
    from torch_sla.problems.report.draw.colours import Scale
    from torch_sla.problems.report.draw.png import Pixels
    from torch_sla.problems.report.draw.view import View

__all__ = ["PASTEL", "data_url", "framed", "mesh_picture", "painted"]

Floats = npt.NDArray[np.float64]

PASTEL = ("#dfe7ee", "#f6d9c9", "#d3e8d6", "#e5d8ee", "#f3e8c4", "#d4e9f2")
"""Colours of parts of a body."""

_LEFT, _BOTTOM, _TOP, _BAR = 58, 34, 8, 92
_names = count()


def painted(
    view: View, points: Floats, values: Floats, scale: Scale, *, nodal: bool = True
) -> Pixels:
    """Paint values of points ``[n]``, or of what ``view.owners`` counts, on a mesh with these points."""
    hits = view.hits(points)
    seen = hits.values(values, view.triangles) if nodal else values[view.owners[hits.triangle]]
    lines = 0.3 if view.cell_pixels > 9 else 0.0
    return view.draw(hits, points, scale.colours(seen), lines)


def data_url(pixels: Pixels) -> str:
    """Return a PNG as a URL that holds it."""
    return "data:image/png;base64," + base64.b64encode(png(pixels)).decode()


def framed(view: View, url: str, scale: Scale | None, extra: str = "", label: str = "") -> str:
    """Put axes and a bar of colours around a picture.

    Parameters
    ----------
    view
        Where things lie.
    url
        The picture.
    scale
        Of the bar; None draws none.
    extra
        SVG on top of the picture, in its pixels.
    label
        What the picture shows, for those who cannot see it.
    """
    width, height = view.size
    plane = view.mesh.dim == 2
    left, bottom = (_LEFT, _BOTTOM) if plane else (8, 8)
    full = (left + width + (_BAR if scale else 12), _TOP + height + bottom)
    parts = [
        f'<svg class="picture" viewBox="0 0 {full[0]} {full[1]}" style="max-width:{full[0]}px" ',
        f'role="img" aria-label="{escape(label)}">',
        f'<image x="{left}" y="{_TOP}" width="{width}" height="{height}" href="{url}"/>',
    ]
    if extra:
        parts.append(f'<g transform="translate({left},{_TOP})">{extra}</g>')
    parts += _axes(view, left) if plane else _triad(view, left)
    if scale is not None:
        parts += _bar(scale, left + width + 22, height)
    return "".join([*parts, "</svg>"])


def _axes(view: View, left: int) -> list[str]:
    width, height = view.size
    low = view.low
    high = low + (np.array(view.size) - 2) / view.scale
    base = _TOP + height + 3
    parts = [f'<line class="axis" x1="{left}" x2="{left + width}" y1="{base}" y2="{base}"/>']
    marks = ticks(float(low[0]), float(high[0]), max(2, width // 80))
    for value, text in zip(marks, labels(marks), strict=True):
        x = f"{left + 1 + (value - low[0]) * view.scale:.1f}"
        parts.append(f'<line class="axis" x1="{x}" x2="{x}" y1="{base}" y2="{base + 4}"/>')
        parts.append(f'<text x="{x}" y="{base + 17}" text-anchor="middle">{text}</text>')
    beside = left - 4
    parts.append(
        f'<line class="axis" x1="{beside}" x2="{beside}" y1="{_TOP}" y2="{_TOP + height}"/>'
    )
    marks = ticks(float(low[1]), float(high[1]), max(3, height // 45))
    for value, text in zip(marks, labels(marks), strict=True):
        y = f"{_TOP + height - 1 - (value - low[1]) * view.scale:.1f}"
        parts.append(f'<line class="axis" x1="{beside - 4}" x2="{beside}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{beside - 8}" y="{y}" dy="0.32em" text-anchor="end">{text}</text>')
    return parts


def _triad(view: View, left: int) -> list[str]:
    """Draw the directions of x, y, z in the lower left corner."""
    unit = np.concatenate([np.zeros((1, 3)), np.eye(3)])
    ends = (view.xy(unit) - view.xy(unit)[:1]) / view.scale * 26
    x0, y0 = left + 20, _TOP + view.size[1] - 18
    parts = []
    for name, (dx, dy) in zip("xyz", ends[1:], strict=True):
        parts.append(
            f'<line class="axis" x1="{x0}" y1="{y0}" x2="{x0 + dx:.1f}" y2="{y0 + dy:.1f}"/>'
        )
        parts.append(
            f'<text x="{x0 + 1.35 * dx:.1f}" y="{y0 + 1.35 * dy:.1f}" dy="0.32em" '
            f'text-anchor="middle">{name}</text>'
        )
    return parts


def _bar(scale: Scale, x: int, height: int) -> list[str]:
    name = f"bar{next(_names)}"
    tall = min(height, 260)
    top = _TOP + (height - tall) / 2
    stops = scale.stops
    parts = [f'<defs><linearGradient id="{name}" x1="0" x2="0" y1="1" y2="0">']
    parts += [
        f'<stop offset="{i / (len(stops) - 1):.3f}" stop-color="{colour}"/>'
        for i, colour in enumerate(stops)
    ]
    parts.append(
        f'</linearGradient></defs><rect x="{x}" y="{top:.1f}" width="13" height="{tall}" fill="url(#{name})"/>'
    )
    marks = ticks(scale.low, scale.high, max(3, tall // 32))
    for value, text in zip(marks, labels(marks), strict=True):
        y = top + tall * (1.0 - (value - scale.low) / (scale.high - scale.low))
        parts.append(f'<text x="{x + 18}" y="{y:.1f}" dy="0.32em">{text}</text>')
    return parts


def mesh_picture(view: View, points: Floats) -> str:
    """Draw a mesh: parts of the body in colours, sides of cells, tagged boundaries as coloured lines with a legend."""
    mesh = view.mesh
    colours = np.array([_rgb(PASTEL[0])]).repeat(max(mesh.n_cells, mesh.n_facets), 0)
    tags = mesh.cell_tags if mesh.dim == 2 else mesh.facet_tags
    palette = PASTEL[1:] if mesh.dim == 2 else CURVES
    legend = []
    for i, (name, index) in enumerate(tags.items()):
        colour = palette[i % len(palette)]
        strength = 1.0 if mesh.dim == 2 else 0.45
        mixed = strength * np.array(_rgb(colour)) + (1.0 - strength) * 255.0
        colours[index.cpu().numpy()] = mixed.round()
        legend.append((name, colour, True))
    hits = view.hits(points)
    seen = colours[view.owners[hits.triangle]].astype(np.uint8)
    pixels = view.draw(hits, points, seen, 0.55 if view.cell_pixels > 4 else 0.0)
    lines = []
    if mesh.dim == 2:
        xy = view.xy(points)
        for i, (name, index) in enumerate(mesh.facet_tags.items()):
            colour = CURVES[i % len(CURVES)]
            ends = xy[mesh.facets[index].cpu().numpy()[:, :2]]
            path = "".join(f"M{a[0]:.1f} {a[1]:.1f}L{b[0]:.1f} {b[1]:.1f}" for a, b in ends)
            lines.append(
                f'<path d="{path}" stroke="{colour}" stroke-width="3" stroke-linecap="round" fill="none"/>'
            )
            legend.append((name, colour, False))
    entries = "".join(
        f'<span><i style="background:{colour};height:{12 if whole else 4}px"></i>{escape(name)}</span>'
        for name, colour, whole in legend
    )
    picture = framed(view, data_url(pixels), None, "".join(lines), f"the mesh: {mesh!r}")
    return picture + (f'<p class="legend">{entries}</p>' if entries else "")


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))
