"""What numbers of a law have to be, whoever gives them: positive, not negative, a share."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

__all__ = ["NONNEGATIVE", "POSITIVE", "SHARE", "Bound"]


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
