"""The contract of a preconditioner, and the table of those that have a name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from torch_sla.errors import PlanError
from torch_sla.linalg.precond.jacobi import Jacobi

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.structure import Structure

__all__ = ["NAMES", "Preconditioner", "make_preconditioner"]


class Preconditioner(Protocol):
    """An approximate inverse ``B`` of a matrix, with its adjoint; owns its numbers."""

    @property
    def nbytes(self) -> int:
        """Bytes held."""

    def apply(self, r: Tensor) -> Tensor:
        """Return ``B r`` for ``r`` ``[n, K]``."""

    def apply_adjoint(self, r: Tensor) -> Tensor:
        """Return ``Bᴴ r``."""


class _Given:
    """A callable of the user's, used as it is; its adjoint is taken to be itself."""

    nbytes = 0

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self._function = function

    def apply(self, r: Tensor) -> Tensor:
        return self._function(r)

    apply_adjoint = apply


_MAKERS: dict[str, Callable[[Pattern, Tensor, Structure], Preconditioner]] = {
    "jacobi": lambda pattern, values, _: Jacobi(pattern, values),
}
NAMES = ("none", *_MAKERS)


def make_preconditioner(
    wanted: Any, pattern: Pattern, values: Tensor, structure: Structure
) -> Preconditioner | None:
    """Make the preconditioner that was asked for.

    Parameters
    ----------
    wanted
        A name, None, an options object with ``build(pattern, values, structure)``, or a callable
        ``r -> z`` on ``[n, K]``.
    pattern, values, structure
        The matrix, scalar slots.

    Raises
    ------
    PlanError
        When the name is unknown.
    """
    if wanted is None or wanted == "none":
        return None
    if isinstance(wanted, str):
        if wanted not in _MAKERS:
            raise PlanError(f"`preconditioner` must be one of {', '.join(NAMES)}, got {wanted!r}")
        return _MAKERS[wanted](pattern, values, structure)
    if hasattr(wanted, "build"):
        made: Preconditioner = wanted.build(pattern, values, structure)
        return made
    if callable(wanted):
        return _Given(wanted)
    raise PlanError(
        f"`preconditioner` must be a name, an options object or a callable, got {type(wanted).__name__}"
    )
