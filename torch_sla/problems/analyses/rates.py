"""First and second rates of what is known at any time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

__all__ = ["rates"]


def rates(
    of: Callable[[float], Tensor], t: float, h: float, end: float, first: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return a value at t with its first and second rates, by differences of second order.

    They are central inside the time there is, and one-sided at its ends.

    Parameters
    ----------
    of
        The value at a time.
    t
        When.
    h
        Length of the differences, at most a third of the time where they are one-sided.
    end
        Last time; the first is 0.
    first
        The value at t.
    """
    room = 1.0 + 1e-9

    def at(k: float) -> Tensor:
        return of(min(max(t + k * h, 0.0), end))

    if h <= t * room and t + h <= end * room:
        before, after = at(-1.0), at(1.0)
        return first, (after - before) / (2.0 * h), (before - 2.0 * first + after) / h**2
    h = h if 2.0 * h <= end * room else end / 3.0
    side = 1.0 if t < end / 2.0 else -1.0
    near, far = at(side), at(2.0 * side)
    rate = side * (-3.0 * first + 4.0 * near - far) / (2.0 * h)
    bend = first - 2.0 * near + far
    if 3.0 * h <= end * room:
        bend = 2.0 * bend - (near - 2.0 * far + at(3.0 * side))
    return first, rate, bend / h**2
