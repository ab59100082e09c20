"""What aggregation reads of a matrix before it begins, for which a device is waited for once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch

from torch_sla.errors import Result, SolveError

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.sparse.pattern import Pattern

__all__ = ["Facts", "power_scale"]

_COMFORTABLE = 2.0**30  # squares and inverses of entries up to it are harmless in float32


def power_scale(largest: float, dtype: torch.dtype) -> float:
    """Power of two that brings extreme entries to about one, 1 for ordinary ones; it is a number of `dtype` itself."""
    if largest == 0 or 1 / _COMFORTABLE < largest < _COMFORTABLE:
        return 1.0
    most = math.frexp(torch.finfo(dtype).max)[1] - 2
    return 2.0 ** max(-most, min(most, -math.frexp(largest)[1]))


class Facts(NamedTuple):
    """What is read of a matrix at once.

    Parameters
    ----------
    largest
        Largest size of an entry.
    longest
        Entries of the longest row.
    spread
        Ratio of the largest to the smallest entry on the diagonal. Where it is large, float32 does not keep row sums
        beside a jump of the coefficient.
    holes
        Whether a diagonal entry is zero or absent.
    """

    largest: float
    longest: int
    spread: float
    holes: bool = False

    @classmethod
    def of(cls, pattern: Pattern, values: Tensor) -> Facts:
        """Read them; `SolveError` with ``NONFINITE`` where an entry is not finite."""
        if not values.numel():
            return cls(1.0, 0, 1.0)
        slots = pattern.diagonal_slots
        size = values[slots.clamp(min=0).long()].abs()
        size = torch.where(slots >= 0, size, 0.0)
        found = (
            torch.linalg.vector_norm(values, float("inf")),
            size.amax(),
            torch.where(size > 0, size, torch.inf).amin(),
            pattern.crow.diff().amax(),
            size.amin(),
        )
        largest, high, low, longest, least = torch.stack([t.double() for t in found]).tolist()
        if not math.isfinite(largest):
            raise SolveError(Result.NONFINITE, "multigrid: an entry of the matrix is not finite")
        return cls(largest, int(longest), high / low, least == 0)
