"""Values along the time, and how much motion is damped."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Damping", "Series"]


class Series(NamedTuple):
    """Values with one entry for each time, and straight lines between.

    Parameters
    ----------
    values
        Tensors by name, with the axis of the times.
    end, steps
        The times are ``0, end / steps, ... end``.
    """

    values: dict[str, tuple[Tensor, int]]
    end: float
    steps: int

    def at(self, name: str, t: float) -> Tensor:
        """Return the value at a time."""
        tensor, axis = self.values[name]
        place = t / self.end * self.steps
        i = min(round(place), self.steps)
        if abs(place - i) <= 1e-9 * self.steps:
            return tensor.select(axis, i)
        i = min(int(place), self.steps - 1)
        rest = place - i
        return (1.0 - rest) * tensor.select(axis, i) + rest * tensor.select(axis, i + 1)


class Damping(NamedTuple):
    """Rayleigh damping C = α M + β K; tensors ``[*batch]``, or None for none."""

    mass: Tensor | None = None
    stiffness: Tensor | None = None
