"""What an iterative method returns, and the options they all share."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from torch_sla.errors import ArgumentError, Result

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["KrylovOptions", "Outcome", "asked_rtol", "default_rtol", "limits", "tolerance"]

_MOST = 2**31 - 1  # iterations, what compiled methods count


def asked_rtol(rtol: float | None, tol: float | None) -> float | None:
    """Return what was asked for by either of the two names."""
    if tol is not None and rtol is not None:
        raise ArgumentError("`tol` is another name for `rtol`; give one of them")
    return tol if rtol is None else rtol


def default_rtol(dtype: torch.dtype) -> float:
    """Return the relative tolerance used when none is given: 1e-10 in double, 1e-5 in single precision."""
    return 1e-10 if torch.finfo(dtype).bits == 64 else 1e-5


def limits(rtol: Any, atol: Any, maxiter: Any) -> tuple[float, float, int | None]:
    """Return ``rtol, atol, maxiter`` as they are asked of a user, as plain numbers.

    Raises
    ------
    ArgumentError
        When one is no number, or out of range.

    Examples
    --------
    >>> limits(1e-8, 0, None)
    (1e-08, 0.0, None)
    """
    found = [tolerance(rtol, "rtol"), tolerance(atol, "atol")]
    if not 0 <= found[0] < 1:
        raise ArgumentError(f"`rtol` must lie in [0, 1), got {found[0]}")
    if not found[1] >= 0:
        raise ArgumentError(f"`atol` must be >= 0, got {found[1]}")
    if maxiter is None:
        return found[0], found[1], None
    try:
        most = operator.index(maxiter)
    except TypeError:
        most = 0
    if most < 1:
        raise ArgumentError(f"`maxiter` must be an integer of at least 1, got {maxiter!r}")
    return found[0], found[1], min(most, _MOST)


def tolerance(given: Any, name: str) -> float:
    """Return a tolerance as a plain number.

    Raises
    ------
    ArgumentError
        When it is none, such as text.

    Examples
    --------
    >>> tolerance(0, "atol")
    0.0
    """
    if isinstance(given, str):  # which `float` would read
        raise ArgumentError(f"`{name}` must be a number, got {given!r}; give it without quotes")
    try:
        return float(given)
    except (TypeError, ValueError, RuntimeError):
        raise ArgumentError(f"`{name}` must be a number, got {given!r}") from None


@dataclass(frozen=True)
class KrylovOptions:
    """When to stop.

    Parameters
    ----------
    rtol, atol
        Stop when ``‖r‖ <= max(rtol ‖b‖, atol)``.
    maxiter
        Limit on iterations; None means ``10 n``.
    stagnation
        Give up when the residual has not improved for this many iterations.
    restart
        Dimension of the Krylov space that `gmres` keeps before it starts again.
    least_squares
        Whether `lsqr` and `lsmr` may also stop at ``‖Aᴴ r‖ <= rtol ‖A‖ ‖r‖``, the residual of an
        inconsistent system being as small as it gets.
    """

    rtol: float = 1e-10
    atol: float = 0.0
    maxiter: int | None = None
    stagnation: int = 1000
    restart: int = 50
    least_squares: bool = True

    def __post_init__(self) -> None:
        for name in ("rtol", "atol"):
            if not getattr(self, name) >= 0:
                raise ArgumentError(f"`{name}` must be >= 0, got {getattr(self, name)!r}")
        if self.maxiter is not None and self.maxiter < 1:
            raise ArgumentError(f"`maxiter` must be at least 1, got {self.maxiter}")
        if self.restart < 1:
            raise ArgumentError(f"`restart` must be at least 1, got {self.restart}")


@dataclass
class Outcome:
    """Solution ``[n, K]``, iterations, largest relative residual after each, and how it ended.

    A method that forms ``b - A x`` at the end may hand on what it saw, ``[5, K]``: the 2-norm and the largest
    entry of the residual, the largest entries of x and b, and the 2-norm of b.
    """

    x: Tensor
    iterations: int = 0
    history: list[float] = field(default_factory=list)
    result: Result = Result.CONVERGED
    sizes: Tensor | None = None
