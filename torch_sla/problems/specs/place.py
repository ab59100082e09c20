"""Where a law stands in a declaration, what shape it has, and what its numbers have to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

__all__ = ["NONNEGATIVE", "POSITIVE", "SHARE", "Bound", "Place"]


class Bound(NamedTuple):
    """An interval of the numbers that have a meaning.

    Of a number that is declared it is known before anything is solved; of a formula, a file or what is given to
    ``solve`` as soon as it is evaluated.

    Parameters
    ----------
    words
        What a number must be, for messages: "it must {words}".
    least, most
        The ends.
    open
        Whether the lower end is outside.

    Examples
    --------
    >>> POSITIVE.holds(0.0), NONNEGATIVE.holds(0.0), SHARE.holds(1.5)
    (False, True, False)
    """

    words: str
    least: float = 0.0
    most: float | None = None
    open: bool = False

    def holds(self, x: Any) -> Any:
        """Return whether a number, or each of a tensor, lies within."""
        above = x > self.least if self.open else x >= self.least
        return above if self.most is None else above & (x <= self.most)


POSITIVE: Final = Bound("be positive", open=True)
NONNEGATIVE: Final = Bound("not be negative")
SHARE: Final = Bound("be between 0 and 1", most=1.0)


@dataclass(frozen=True, slots=True)
class Place:
    """Marks a field that holds a law, with where it is evaluated and of what shape.

    Parameters
    ----------
    on
        ``"cells"`` (quadrature points of cells), ``"facets"``, ``"dofs"`` (constrained ones),
        ``"points"`` of the body, ``"output"`` (wherever the output asks) or ``"constant"`` (nowhere).
    ranks
        Ranks allowed: 0 scalar, 1 vector, 2 matrix.
    fields
        Whether the solution may be seen.
    named
        Whether the field is a mapping from names to laws.
    within
        What numbers have to be; None for any.
    size
        How many components vectors have, and rows and columns matrices: those of space, or a number; None for any.
    """

    on: Literal["cells", "facets", "dofs", "points", "output", "constant"]
    ranks: tuple[int, ...] = (0,)
    fields: bool = False
    named: bool = False
    within: Bound | None = None
    size: Literal["space", 3] | None = None
