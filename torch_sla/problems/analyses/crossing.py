"""When a number that is known at some times crosses a level.

Between two times it is followed by the cubic through these and one more on either side, an error of fourth order in
their distance, so that a time found is as good as the scheme that made the values. The first derivative of the root
is that of one Newton step from it, the second and third those of another one behind (each step squares the error).
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["crossed", "crossing"]

_HALVINGS = 40
"""Of the interval, until Newton's method ends the search."""


def crossed(values: Tensor, level: float, direction: str) -> Tensor:
    """Tell between which of the values ``[n, *batch]`` a level is crossed: ``[n - 1, *batch]``.

    Parameters
    ----------
    direction
        ``"up"``, ``"down"`` or ``"both"``.
    """
    before, after = values[:-1] - level, values[1:] - level
    up, down = (before < 0) & (after >= 0), (before > 0) & (after <= 0)
    return {"up": up, "down": down, "both": up | down}[direction]


def crossing(times: Tensor, values: Tensor, level: float, direction: str) -> Tensor:
    """Return the first time at which a level is crossed.

    Parameters
    ----------
    times
        ``[n]``.
    values
        ``[n, *batch]``.
    direction
        ``"up"``, ``"down"`` or ``"both"``.

    Returns
    -------
    Tensor ``[*batch]``
        Infinity where the level is not crossed; differentiable three times.

    Examples
    --------
    >>> t = torch.linspace(0.0, 2.0, 5, dtype=torch.float64)
    >>> crossing(t, t**3, 2.0, "up")
    tensor(1.2599, dtype=torch.float64)
    """
    never = torch.full_like(values[0], float("inf"))
    hit = crossed(values, level, direction)
    if not len(hit):
        return never
    found, i = hit.any(0), hit.to(torch.uint8).argmax(0)
    start, end = times[i], times[i + 1]
    # Places count from the start of the interval to its end as from 0 to 1.
    some = min(4, len(times))
    first = (i - 1).clamp(0, len(times) - some)
    index = torch.stack([first + k for k in range(some)])
    above = values.gather(0, index) - level
    # What is not finite next to the interval counts for nothing, in gradients neither.
    curved = torch.isfinite(above).all(0)
    ramp = torch.arange(some, dtype=above.dtype, device=above.device).reshape(-1, *[1] * found.ndim)
    above = torch.where(curved, above, ramp - 1.5)
    curve = _Curve((times[index] - start) / (end - start), above)
    a, b = (values.gather(0, (i + k)[None])[0] - level for k in range(2))
    line = torch.where(found, b - a, torch.ones_like(a))
    place = -a / line
    # A value on the level is where it is crossed, whatever the cubic does before.
    root = torch.where(b == 0, torch.ones_like(a), curve.root(b - a))
    for _ in range(2):
        value, slope = curve(root)
        rising = slope * line.sign() > 0
        root = root - value / torch.where(rising, slope, line)
    place = torch.where(curved, root, place)
    return torch.where(found, start + (end - start) * place, never)


class _Curve:
    """The polynomial through some points ``[k, *batch]``, in Newton's form."""

    def __init__(self, places: Tensor, values: Tensor) -> None:
        self._places, self._parts = places, [values[0]]
        column = values
        for j in range(1, len(values)):
            column = (column[1:] - column[:-1]) / (places[j:] - places[:-j])
            self._parts.append(column[0])

    def __call__(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """Return value and slope."""
        value, slope = self._parts[-1], torch.zeros_like(s)
        for part, place in zip(self._parts[-2::-1], self._places[:-1].flip(0), strict=True):
            slope = value + (s - place) * slope
            value = part + (s - place) * value
        return value, slope

    @torch.no_grad()
    def root(self, rise: Tensor) -> Tensor:
        """Find a root between 0 and 1, where the values differ by `rise` and in sign."""
        low, high = torch.zeros_like(rise), torch.ones_like(rise)
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            beyond = self(middle)[0] * rise > 0
            low, high = torch.where(beyond, low, middle), torch.where(beyond, middle, high)
        return 0.5 * (low + high)
