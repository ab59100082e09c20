"""The diagonal that pointwise preconditioners divide by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch_sla.errors import Result, SolveError

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.sparse.pattern import Pattern

__all__ = ["nonzero_diagonal"]


def nonzero_diagonal(pattern: Pattern, values: Tensor, who: str) -> Tensor:
    """Return the diagonal ``[n]`` of a square matrix.

    Raises
    ------
    SolveError
        ``BREAKDOWN`` when an entry is zero or absent; the row is named.
    """
    slots = pattern.diagonal_slots
    if pattern.whole_diagonal:
        diagonal = values.index_select(0, slots)
        bad = diagonal == 0
    else:
        bad = slots < 0
    if bool(bad.any()):
        row = int(bad.nonzero()[0])
        raise SolveError(Result.BREAKDOWN, f"{who} needs a nonzero diagonal; row {row} has none")
    return diagonal
