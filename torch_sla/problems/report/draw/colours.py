"""Numbers to colours: one map for sizes, one for what has a sign; both even in lightness.

The anchors are those of viridis (S. van der Walt, N. Smith, E. Firing, 2015, CC0) and of RdBu (C. Brewer,
colorbrewer2.org, Apache 2.0).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

__all__ = ["CURVES", "Scale"]

CURVES = ("#0b6e99", "#d1603d", "#3a7d44", "#7b4b94", "#c29a2b", "#4a4e69")
"""Colours of curves, told apart in grey and by most eyes."""

_SIZES = (
    *("#440154", "#482475", "#414487", "#355f8d", "#2a788e", "#21918c"),
    *("#22a884", "#44bf70", "#7ad151", "#bddf26", "#fde725"),
)
_SIGNS = (
    *("#2166ac", "#4393c3", "#92c5de", "#d1e5f0", "#f7f7f7"),
    *("#fddbc7", "#f4a582", "#d6604d", "#b2182b"),
)


@cache
def _table(anchors: tuple[str, ...]) -> npt.NDArray[np.uint8]:
    rgb = np.array([[int(a[i : i + 2], 16) for i in (1, 3, 5)] for a in anchors], dtype=float)
    at = np.linspace(0, len(anchors) - 1, 256)
    columns = [np.interp(at, np.arange(len(anchors)), column) for column in rgb.T]
    return np.stack(columns, -1).round().astype(np.uint8)


@dataclass(frozen=True)
class Scale:
    """Which colour a number has.

    Parameters
    ----------
    low, high
        The ends.
    signed
        Whether zero is in the middle and has no colour.
    """

    low: float
    high: float
    signed: bool = False

    @staticmethod
    def of(values: npt.NDArray[np.float64]) -> Scale:
        """Choose the scale of some numbers: signed where both signs are about as large."""
        finite = values[np.isfinite(values)]
        if not finite.size:
            return Scale(0.0, 1.0)
        low, high = float(finite.min()), float(finite.max())
        size = max(-low, high)
        if low < 0 < high and min(-low, high) > 0.1 * size:
            return Scale(-size, size, signed=True)
        if high - low <= 1e-9 * max(abs(low), abs(high)):
            # Constant to rounding: noise is not to be shown as a pattern.
            middle, half = 0.5 * (low + high), 0.5 * max(abs(low), abs(high)) or 0.5
            return Scale(middle - half, middle + half)
        return Scale(low, high)

    def colours(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
        """Return ``[..., 3]``; NaN has the lowest colour."""
        table = _table(_SIGNS if self.signed else _SIZES)
        place = (values - self.low) / (self.high - self.low)
        return table[(np.nan_to_num(place.clip(0, 1)) * 255).round().astype(int)]

    @property
    def stops(self) -> list[str]:
        """Colours from the low end to the high one, evenly spaced, as SVG has them."""
        return list(_SIGNS if self.signed else _SIZES)
