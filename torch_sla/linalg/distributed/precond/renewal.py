"""What a loop over values keeps of a preconditioner in parts: what was chosen stays, numbers follow the values."""

from __future__ import annotations

from math import ceil, log10
from typing import TYPE_CHECKING, Any

from torch_sla.linalg.distributed.precond.base import Renewable, make

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.distributed.precond.base import PartPreconditioner
    from torch_sla.linalg.distributed.sharding import Sharding

__all__ = ["Renewal"]


class Renewal:
    """Preconditioners of the matrices of a loop, on the same positions.

    Each is made of the one before, for its own values; where iterations exceed ``growth`` times those of the first
    solve after a set-up (in proportion to the digits asked for) by more than `slack`, the next one is set up. What a
    solve returns meets its tolerance like any other; only the digits beyond depend on the history of the loop.

    Parameters
    ----------
    growth, slack
        The bound on iterations.

    Attributes
    ----------
    set_ups, renewals
        How many were made from nothing, and how many of another.
    """

    def __init__(self, growth: float = 1.5, slack: int = 3) -> None:
        self.growth, self.slack = growth, slack
        self.set_ups = self.renewals = 0
        self._kept: dict[str, Renewable] = {}
        self._first: dict[str, tuple[int, float]] = {}

    def made(
        self,
        name: str,
        wanted: Any,
        sharding: Sharding,
        values: Tensor,
        near_nullspace: Tensor | None,
    ) -> PartPreconditioner | None:
        """Make the preconditioner `wanted`, called `name`, for slot values; all processes call it together."""
        like = self._kept.get(name)
        found = make(wanted, sharding, values, near_nullspace, renewable=True, like=like)
        if like is not None:
            self.renewals += 1
        elif found is not None:
            self.set_ups += 1
        if isinstance(found, Renewable):
            self._kept[name] = found
        return found

    def judge(self, name: str, iterations: int, rtol: float) -> None:
        """Learn what a solve took that converged; forget what has become too weak."""
        digits = max(-log10(rtol), 0.5) if rtol > 0 else 16.0
        if name not in self._kept:
            return
        if name not in self._first:
            self._first[name] = iterations, digits
            return
        first, then = self._first[name]
        if iterations > ceil(self.growth * digits / then * first) + self.slack:
            del self._kept[name], self._first[name]
