"""Pictures with axes, and films of them: by matplotlib, around pixels of our own.

Of a vector field its size is drawn, displacements move the body. In 1D a field is a curve over x.
"""

from __future__ import annotations

import io
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from torch_sla.errors import ArgumentError
from torch_sla.linalg.sparse.whole import whole
from torch_sla.problems.expression import nearest
from torch_sla.problems.report.draw.colours import CURVES, Scale
from torch_sla.problems.report.draw.picture import data_url, framed, painted
from torch_sla.problems.report.draw.png import png
from torch_sla.problems.report.draw.view import View
from torch_sla.problems.report.frames import frames_of
from torch_sla.problems.report.page.fields import chosen, seen, slider
from torch_sla.problems.report.page.page import alone
from torch_sla.problems.report.picture import new_figure, save_figure

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt
    from matplotlib.figure import Figure

    from torch_sla.problems.report.draw.png import Pixels
    from torch_sla.problems.report.frames import Frames

__all__ = ["animate", "plot"]

_MOST = 60
"""Frames of a film."""
_BEATS = 24
"""Frames of one period of a mode."""


def plot(
    result: Any, path: Path | None, *, member: int | tuple[int, ...] | None, field: str | None
) -> Figure:
    """Draw one frame of a field, of modes all; see `Solution.plot`."""
    frames = frames_of(result)
    figure = new_figure()
    if member is None and frames.axis == "mode":
        _grid(figure, Drawing(frames.only(list(range(min(len(frames), 12)))), field))
    else:
        one = frames.only([_index(result, frames, member)])
        Drawing(one, field).draw(figure.add_subplot(), 0)
    if path is not None:
        save_figure(figure, path)
    return figure


def _index(result: Any, frames: Frames, member: int | tuple[int, ...] | None) -> int:
    """Return which frame is meant."""
    if member is None:
        return len(frames) - 1 if frames.axis == "t" else 0
    if isinstance(member, tuple):
        cases = (len(result.cases),) if hasattr(result, "cases") else ()
        shape = (*result.batch, *cases)
        if frames.axis == "mode":
            shape = (*cases, len(frames) // math.prod(cases))
        try:
            return int(np.ravel_multi_index(member, shape))
        except ValueError:
            raise ArgumentError(f"member is {member}; the batch is {list(shape)}") from None
    if not -len(frames) <= member < len(frames):
        raise ArgumentError(f"member is {member}; there are {len(frames)} pictures")
    return member % len(frames)


def animate(
    result: Any, path: Path, *, field: str | None, mode: int | None, seconds: float
) -> None:
    """Write a film; see `Solution.animate`."""
    frames = frames_of(result)
    if frames.axis == "mode":
        frames = _swinging(frames, 1 if mode is None else mode)
    elif mode is not None:
        raise ArgumentError("mode: only an eigenproblem has modes")
    if len(frames) < 2:
        raise ArgumentError(
            "there is one state only; save the others (save=['u'] in a TransientProblem), or draw it with plot()"
        )
    drawing = Drawing(frames.only(chosen(len(frames), _MOST)), field)
    match path.suffix:
        case ".html":
            with whole(path) as file:
                file.write_text(_film(drawing), encoding="utf-8")
        case ".png":
            with whole(path) as file:
                file.write_bytes(png(_pictures(drawing), seconds))
        case ".gif":
            from PIL import Image

            pictures = [Image.fromarray(p[..., :3]) for p in _pictures(drawing)]
            stream = io.BytesIO()
            pictures[0].save(
                stream,
                format="GIF",
                save_all=True,
                append_images=pictures[1:],
                duration=round(1000 * seconds),
                loop=0,
            )
            with whole(path) as file:
                file.write_bytes(stream.getvalue())
        case suffix:
            raise ArgumentError(
                f"path ends in {suffix!r}; a film is .gif, .png (animated) or .html"
            )


class Drawing:
    """One field of some frames, on one scale.

    Parameters
    ----------
    frames
        The frames.
    field
        Which field; the first where none is named.
    """

    def __init__(self, frames: Frames, field: str | None) -> None:
        every = {**frames.nodal, **frames.cellwise}
        name = next(iter(every)) if field is None else field
        if name not in every:
            raise ArgumentError(
                f"field: there is no field {name!r}{nearest(name, every)}; fields: {' '.join(every)}"
            )
        self.frames, self.nodal = frames, name in frames.nodal
        self.label, self.values, self.points = seen(frames, name, every[name])
        self.scale = Scale.of(self.values)
        self._view: View | None = None

    def view(self, width: int, height: int) -> View:
        """Return where things lie in all frames; of modes, which are pictures apart, see `draw`."""
        if self._view is None:
            self._view = View(self.frames.mesh, self.points, width, height)
        return self._view

    def pixels(self, i: int, view: View) -> Pixels:
        """Paint frame i."""
        scale = Scale.of(self.values[i]) if self.frames.axis == "mode" else self.scale
        return painted(view, self.points[i], self.values[i], scale, nodal=self.nodal)

    def draw(
        self, axes: Any, i: int, width: int = 800, height: int = 600, *, bar: bool = True
    ) -> Any:
        """Draw frame i with axes and a bar of colours; return what `change` changes."""
        frames = self.frames
        self._entitle(axes, i)
        if frames.mesh.dim == 1:
            return self._curve(axes, i)
        apart = frames.axis == "mode"
        view = (
            View(frames.mesh, self.points[[i]], width, height)
            if apart
            else self.view(width, height)
        )
        scale = Scale.of(self.values[i]) if apart else self.scale
        size = (np.array(view.size) - 2) / view.scale
        extent = (view.low[0], view.low[0] + size[0], view.low[1], view.low[1] + size[1])
        drawn = axes.imshow(self.pixels(i, view), extent=extent, interpolation="antialiased")
        if frames.mesh.dim == 3:
            axes.axis("off")
        else:
            axes.set_xlabel("x")
            axes.set_ylabel("y")
        if bar:
            axes.figure.colorbar(_mappable(scale), ax=axes, label=self.label, shrink=0.8)
        return drawn

    def change(self, axes: Any, drawn: Any, i: int) -> None:
        """Put frame i in the place of what was drawn."""
        self._entitle(axes, i)
        if self.frames.mesh.dim == 1:
            drawn.set_data(*self._line(i))
        else:
            drawn.set_data(self.pixels(i, self.view(0, 0)))

    def _entitle(self, axes: Any, i: int) -> None:
        """Write what frame i is; a name may have signs that would be mathematics to matplotlib."""
        axes.set_title(self.frames.titles[i] or self.frames.name, parse_math=False)

    def _line(self, i: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return x and the values of frame i, in the order of x."""
        along = self._along(i)
        order = along.argsort()
        return along[order], self.values[i][order]

    def _along(self, i: int) -> npt.NDArray[np.float64]:
        x = self.points[i, :, 0]
        found: npt.NDArray[np.float64] = x
        if not self.nodal:
            found = x[self.frames.mesh.vertices.cpu().numpy()].mean(1)
        return found

    def _curve(self, axes: Any, i: int) -> Any:
        (drawn,) = axes.plot(*self._line(i), color=CURVES[0])
        low, high = float(self.points.min()), float(self.points.max())
        margin = 0.05 * (high - low)
        axes.set_xlim(low - margin, high + margin)
        margin = 0.04 * (self.scale.high - self.scale.low)
        axes.set_ylim(self.scale.low - margin, self.scale.high + margin)
        axes.set_xlabel("x")
        axes.set_ylabel(self.label)
        return drawn


def _mappable(scale: Scale) -> Any:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    colours = scale.colours(np.linspace(scale.low, scale.high, 256)) / 255.0
    return ScalarMappable(Normalize(scale.low, scale.high), ListedColormap(colours))


def _grid(figure: Figure, drawing: Drawing) -> None:
    """Draw the first modes side by side."""
    count = len(drawing.frames)
    across = min(3, count)
    down = -(-count // across)
    figure.set_size_inches(4.2 * across, 3.0 * down)
    figure.suptitle(drawing.label)
    for i in range(count):
        drawing.draw(figure.add_subplot(down, across, i + 1), i, 420, 320, bar=False)


def _pictures(drawing: Drawing) -> list[Pixels]:
    """Draw the pictures of a film: the axes once, then what changes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = new_figure((6.4, 4.2))
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    drawn = drawing.draw(axes, 0, 640, 420)
    canvas.draw()
    figure.set_layout_engine("none")
    found = []
    for i in range(len(drawing.frames)):
        drawing.change(axes, drawn, i)
        canvas.draw()
        found.append(np.asarray(canvas.buffer_rgba()).copy())
    return found


def _film(drawing: Drawing) -> str:
    """Make a page with a slider; without matplotlib, as the pictures of reports are."""
    frames = drawing.frames
    if frames.mesh.dim == 1:
        raise ArgumentError("a film of curves is .gif or .png")
    view = drawing.view(640, 460)
    urls = [data_url(drawing.pixels(i, view)) for i in range(len(frames))]
    shown = framed(view, urls[0], drawing.scale, label=drawing.label)
    body = slider(shown, urls, frames.titles, 0, drawing.label)
    return alone(drawing.label, body)


def _swinging(frames: Frames, mode: int) -> Frames:
    """Turn a mode into one period of its oscillation."""
    if not 1 <= mode <= len(frames):
        raise ArgumentError(f"mode is {mode}; there are modes 1 to {len(frames)}")
    beats = np.cos(2.0 * np.pi * np.arange(_BEATS) / _BEATS)
    nodal = {}
    for name, value in frames.nodal.items():
        own = value[mode - 1]
        factors = own.new_tensor(beats).reshape(-1, *[1] * own.ndim)
        # Of one size as a picture shows it: a mode has none of its own.
        nodal[name] = factors * own / own.abs().max()
    title = frames.titles[mode - 1]
    return replace(
        frames,
        axis="phase",
        at=(np.arange(_BEATS) / _BEATS).tolist(),
        titles=[title] * _BEATS,
        nodal=nodal,
        cellwise={},
    )
