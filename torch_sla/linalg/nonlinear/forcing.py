"""How accurately a Newton step is worth solving."""

from __future__ import annotations

__all__ = ["Forcing"]

_MOST = 0.1
_GAMMA = 0.9


class Forcing:
    """Relative tolerances of the linear solves of an inexact Newton method.

    The second choice of Eisenstat and Walker, SIAM J. Sci. Comput. 17 (1996), 16-32, with their safeguard:
    ``η = γ (‖F‖ / ‖F before‖)²``, which keeps the order of convergence. Never so small that a step would go
    beyond the tolerance of the nonlinear solve.

    Parameters
    ----------
    rtol
        Of the nonlinear solve, relative to the first residual.

    Examples
    --------
    >>> forcing = Forcing(1e-10)
    >>> [round(forcing(size), 6) for size in (1.0, 0.1, 0.001)]
    [0.1, 0.009, 9e-05]
    """

    def __init__(self, rtol: float) -> None:
        self._rtol = rtol
        self._first = self._before = 0.0
        self._eta = _MOST

    def __call__(self, size: float) -> float:
        """Return the tolerance for a step from a residual of this size."""
        if self._before > 0.0:
            kept = _GAMMA * self._eta**2
            self._eta = _GAMMA * (size / self._before) ** 2
            if kept > _MOST:
                self._eta = max(self._eta, kept)
        else:
            self._first = size
        self._before = size
        floor = 0.5 * self._rtol * self._first / size if size > 0.0 else _MOST
        self._eta = min(_MOST, max(self._eta, floor))
        return self._eta
