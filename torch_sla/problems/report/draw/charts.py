"""Curves and ticks as SVG."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from torch_sla.problems.report.draw.colours import CURVES

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Curve", "chart", "labels", "number", "ticks"]

_LEFT, _RIGHT, _TOP, _BOTTOM = 74, 14, 12, 44
_SIZE = (560, 300)
"""Width and height."""
_MOST = 800
"""Points of a curve beyond which it is thinned: more than pixels show nothing."""


@dataclass(frozen=True)
class Curve:
    """One curve.

    Parameters
    ----------
    name
        In the legend.
    x, y
        Its points; a point that is not finite breaks it.
    """

    name: str
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray


def number(x: float, digits: int = 4) -> str:
    """Write a number for people, with so many digits at most.

    Examples
    --------
    >>> number(0.30000000000000004), number(123456.0), number(-0.0), number(2.5e-7)
    ('0.3', '1.235e5', '0', '2.5e-7')
    """
    if x == 0:
        return "0"
    text = f"{x:.{digits}g}"
    if "e" not in text:
        return text
    mantissa, exponent = text.split("e")
    return f"{mantissa}e{int(exponent)}"


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Choose round numbers between two.

    Examples
    --------
    >>> ticks(0.0, 1.0)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [low]
    rough = (high - low) / max(most - 1, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in (1.0, 2.0, 2.5, 5.0, 10.0) if s * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def labels(values: Sequence[float]) -> list[str]:
    """Write ticks with as many digits as say where they are.

    Examples
    --------
    >>> labels([293.15, 293.2, 293.25]), labels([0.0, 0.1])
    (['293.15', '293.2', '293.25'], ['0', '0.1'])
    """
    step = min((b - a for a, b in itertools.pairwise(values)), default=0.0)
    for digits in range(4, 17):
        texts = [number(value, digits) for value in values]
        away = (abs(float(text) - v) for text, v in zip(texts, values, strict=True))
        if max(away, default=0.0) <= 1e-3 * step:
            break
    return texts


def _decades(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    step = max(1, math.ceil((last - first) / 6))
    return [10.0**i for i in range(first, last + 1, step)]


def chart(
    curves: Sequence[Curve],
    across: str = "",
    up: str = "",
    *,
    log: bool = False,
    dots: bool = False,
) -> str:
    """Draw curves with axes; a legend where there are several.

    Parameters
    ----------
    curves
        What is drawn.
    across, up
        Names of the axes.
    log
        Whether the axis up is logarithmic; what is not positive is left out.
    dots
        Whether points are marked.
    """
    width, height = _SIZE
    every = [_points(curve, log=log) for curve in curves]
    x = np.concatenate([p[0] for p in every])
    y = np.concatenate([p[1] for p in every])
    good = np.isfinite(x) & np.isfinite(y)
    if not good.any():
        return '<p class="note">Nothing finite to draw.</p>'
    x_low, x_high = _widened(float(x[good].min()), float(x[good].max()))
    y_low, y_high, up_ticks = _upward(float(y[good].min()), float(y[good].max()), log=log)
    legend = 20 if len(curves) > 1 else 0
    inner_w, inner_h = width - _LEFT - _RIGHT, height - _TOP - _BOTTOM - legend

    def right(v: float) -> float:
        return _LEFT + inner_w * (v - x_low) / (x_high - x_low)

    def down(v: float) -> float:
        return _TOP + legend + inner_h * (1.0 - (v - y_low) / (y_high - y_low))

    base = _TOP + legend + inner_h
    parts = [f'<svg class="chart" viewBox="0 0 {width} {height}" role="img">']
    for value, text in up_ticks:
        if y_low <= value <= y_high:
            h = f"{down(value):.1f}"
            parts.append(
                f'<line class="grid" x1="{_LEFT}" x2="{width - _RIGHT}" y1="{h}" y2="{h}"/>'
            )
            parts.append(
                f'<text x="{_LEFT - 7}" y="{h}" dy="0.32em" text-anchor="end">{text}</text>'
            )
    marks = ticks(x_low, x_high, 7)
    for value, text in zip(marks, labels(marks), strict=True):
        w = f"{right(value):.1f}"
        parts.append(f'<line class="axis" x1="{w}" x2="{w}" y1="{base}" y2="{base + 4}"/>')
        parts.append(f'<text x="{w}" y="{base + 17}" text-anchor="middle">{text}</text>')
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{width - _RIGHT}" y1="{base}" y2="{base}"/>')
    for i, (xs, ys) in enumerate(every):
        colour = CURVES[i % len(CURVES)]
        path = _path([(right(a), down(b)) for a, b in zip(xs.tolist(), ys.tolist(), strict=True)])
        parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        if dots and len(xs) <= 60:
            parts += [
                f'<circle cx="{right(a):.1f}" cy="{down(b):.1f}" r="2.4" fill="{colour}"/>'
                for a, b in zip(xs.tolist(), ys.tolist(), strict=True)
                if math.isfinite(a) and math.isfinite(b)
            ]
    if legend:
        parts += _legend([curve.name for curve in curves])
    if across:
        middle = _LEFT + inner_w / 2
        parts.append(
            f'<text class="name" x="{middle:.0f}" y="{height - 6}" text-anchor="middle">{escape(across)}</text>'
        )
    if up:
        middle = _TOP + legend + inner_h / 2
        parts.append(
            f'<text class="name" transform="translate(14,{middle:.0f}) rotate(-90)" '
            f'text-anchor="middle">{escape(up)}</text>'
        )
    return "".join([*parts, "</svg>"])


def _upward(low: float, high: float, *, log: bool) -> tuple[float, float, list[tuple[float, str]]]:
    """Range of the axis up, and its ticks with their texts; for logarithms, decades."""
    if log:
        marks = _decades(10.0**low, 10.0**high)
        low, high = _widened(min(low, math.log10(marks[0])), max(high, math.log10(marks[-1])))
        return low, high, [(math.log10(m), number(m)) for m in marks]
    low, high = _widened(low, high)
    margin = 0.04 * (high - low)
    low, high = low - margin, high + margin
    marks = ticks(low, high)
    return low, high, list(zip(marks, labels(marks), strict=True))


def _points(curve: Curve, *, log: bool) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(curve.x, dtype=float), np.asarray(curve.y, dtype=float)
    if len(x) > _MOST:
        x, y = _thinned(x, y)
    if log:
        y = np.log10(np.where(y > 0, y, np.nan))
    return x, y


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keep the smallest and the largest of each stretch, so that no peak is lost."""
    kept = {0, len(x) - 1}
    for piece in np.array_split(np.arange(len(x)), _MOST // 2):
        own = y[piece]
        if np.isfinite(own).any():
            kept |= {int(piece[np.nanargmin(own)]), int(piece[np.nanargmax(own)])}
    index = np.array(sorted(kept))
    return x[index], y[index]


def _widened(low: float, high: float) -> tuple[float, float]:
    if high - low > 1e-12 * max(abs(low), abs(high)):
        return low, high
    half = 0.5 * abs(low) or 0.5
    return low - half, high + half


def _path(points: list[tuple[float, float]]) -> str:
    parts, pen = [], "M"
    for x, y in points:
        if math.isfinite(x) and math.isfinite(y):
            parts.append(f"{pen}{x:.1f} {y:.1f}")
            pen = "L"
        else:
            pen = "M"
    return "".join(parts)


def _legend(names: Sequence[str]) -> list[str]:
    parts, at = [], float(_LEFT)
    for i, name in enumerate(names):
        colour = CURVES[i % len(CURVES)]
        parts.append(
            f'<line x1="{at:.0f}" x2="{at + 16:.0f}" y1="{_TOP + 2}" y2="{_TOP + 2}" stroke="{colour}" '
            'stroke-width="2.5"/>'
        )
        parts.append(f'<text x="{at + 21:.0f}" y="{_TOP + 2}" dy="0.32em">{escape(name)}</text>')
        at += 36 + 7.2 * len(name)
    return parts
