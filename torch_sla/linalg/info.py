"""What a solve reports about itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch_sla.errors import Result

if TYPE_CHECKING:
    from torch_sla.linalg.plan.plan import SolvePlan

__all__ = ["SolveInfo"]


@dataclass
class SolveInfo:
    """Report of one solve; the worst member of a batch speaks for all.

    Parameters
    ----------
    result
        Result code; its value is the help text.
    iterations
        Iterations of the method, 0 for a direct one; the largest over right-hand sides.
    residual
        True residual ``‖b - A x‖ / ‖b‖``, recomputed at the end; the largest over right-hand sides.
    backward_error
        ``‖r‖ / (‖A‖ ‖x‖ + ‖b‖)`` in the maximum norm, the largest over right-hand sides.
    history
        Relative residual after each iteration, as the method counted it.
    method, backend, preconditioner
        What was used in the end, fallbacks included.
    plan
        The plan, with the reasons.
    rcond
        Estimated reciprocal condition number, where one was asked for.
    notes
        Fallbacks and refinement steps, in words.
    """

    result: Result = Result.CONVERGED
    iterations: int = 0
    residual: float = 0.0
    backward_error: float = 0.0
    history: list[float] = field(default_factory=list)
    method: str = ""
    backend: str = ""
    preconditioner: str | None = None
    plan: SolvePlan | None = None
    rcond: float | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def converged(self) -> bool:
        """Whether the result may be used."""
        return self.result.ok

    def absorb(self, other: SolveInfo) -> None:
        """Take over what is worse in `other`."""
        if self.result.ok and (not other.result.ok or self.result is Result.CONVERGED):
            self.result = other.result
        if other.iterations >= self.iterations:
            self.iterations, self.history = other.iterations, other.history
        self.residual = max(self.residual, other.residual)
        self.backward_error = max(self.backward_error, other.backward_error)
        self.method, self.backend, self.preconditioner = (
            other.method,
            other.backend,
            other.preconditioner,
        )
        self.notes += [note for note in other.notes if note not in self.notes]
