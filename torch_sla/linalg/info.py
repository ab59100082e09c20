"""What a solve reports about itself."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from torch_sla.errors import GradientError, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from torch_sla.linalg.plan.plan import SolvePlan

__all__ = ["UNTRIED", "SolveInfo", "failed", "failed_note", "unsolved"]


_LIVE = ("plan", "matrix", "estimate_rcond")
_NAMED = 20
UNTRIED = (
    "a right-hand side of zeros has the solution zero: nothing was factorised or iterated for it"
)


def failed_note(what: str, which: Sequence[Any]) -> str:
    """Name what did not converge.

    Examples
    --------
    >>> failed_note("members", [0, 3])
    'members that did not converge, counted from 0: 0, 3'
    """
    names = ", ".join(map(str, which[:_NAMED]))
    more = f" and {len(which) - _NAMED} more" if len(which) > _NAMED else ""
    return f"{what} that did not converge, counted from 0: {names}{more}"


def unsolved(*, together: bool = False) -> GradientError:
    """Return what to raise where the derivative of a solution is asked for that is none.

    Parameters
    ----------
    together
        Whether it is one of a batch that has derivatives as a whole or not at all.
    """
    if together:
        return GradientError(
            "members of the batch did not converge, and a nonlinear batch has derivatives as a whole or not at all; "
            "solve without them (`info.solved` tells which), or let the solve raise (`throw=True`)"
        )
    return GradientError(
        "the solve did not converge, so its result has no derivative; let it raise (`throw=True`), or leave what "
        "did not converge out of the loss"
    )


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
        Relative residual after each iteration, as the method counted it (BiCGSTAB of `eigen`: after each half
        step); empty for direct methods.
    method, backend, preconditioner
        What was used in the end, fallbacks included. For a right-hand side of zeros it is what was planned, and a note
        says that none of it was done: such a solve tells nothing about the matrix.
    plan
        The plan, with the reasons.
    inconsistency
        Share of ``‖b‖`` outside the range of a singular matrix, which was projected out; 0 without
        a declared nullspace or rank deficiency.
    notes
        Fallbacks, refinement steps and what was not done, in words.
    solved
        Of a solve that did not converge, which members of the batch have a solution ``[*batch]``; what has several
        right-hand sides or loads on one matrix is judged as one. None where all have.
    matrix
        Values that `rcond` is estimated of, or how to get them again.
    estimate_rcond
        How `rcond` is found from these when it is asked for.

    Examples
    --------
    >>> import torch
    >>> from torch_sla.linalg import SparseTensor
    >>> x, info = SparseTensor.eye(3).solve(torch.ones(3), info=True)
    >>> info.converged, info.iterations
    (True, 0)
    """

    result: Result = Result.CONVERGED
    iterations: int = 0
    residual: float = 0.0
    backward_error: float = 0.0
    history: list[float] = field(default_factory=list)
    method: str = ""
    backend: str = ""
    preconditioner: str | None = None
    plan: SolvePlan | None = field(default=None, repr=False)
    inconsistency: float = 0.0
    notes: list[str] = field(default_factory=list)
    solved: Tensor | None = field(default=None, repr=False, compare=False)
    matrix: Tensor | Callable[[], Tensor] | None = field(default=None, repr=False, compare=False)
    estimate_rcond: Callable[[Tensor], float | None] | None = field(
        default=None, repr=False, compare=False
    )

    @property
    def converged(self) -> bool:
        """Whether the result may be used."""
        return self.result.ok

    @property
    def rcond(self) -> float | None:
        """Estimate of ``1 / (‖A‖₁ ‖A⁻¹‖₁)``, of the equilibrated matrix where that was used.

        Made on first use by 4 to 11 solves, from the factors of a direct method or by rough solves with
        an iterative one; of the last matrix of a batch. None for least squares and declared
        nullspaces, where such a solve fails, and where the values have changed in place since.
        """
        if self.estimate_rcond is None or self.matrix is None:
            return None
        values = self.matrix() if callable(self.matrix) else self.matrix
        return self.estimate_rcond(values)

    def plain(self) -> dict[str, Any]:
        """Return what JSON can hold: all but the plan, the matrix and what `rcond` is found by."""
        told = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _LIVE}
        history = [float(r) for r in self.history]
        solved = None if self.solved is None else self.solved.tolist()
        more = {"history": history, "notes": [*self.notes], "solved": solved}
        return {**told, "result": self.result.name, **more}

    @classmethod
    def of_plain(cls, told: Mapping[str, Any]) -> SolveInfo:
        """Return the report that `plain` told.

        Examples
        --------
        >>> SolveInfo.of_plain(SolveInfo(iterations=3).plain()).iterations
        3
        """
        solved = told.get("solved")
        if solved is not None:
            import torch

            solved = torch.tensor(solved, dtype=torch.bool)
        return cls(**{**told, "result": Result[told["result"]], "solved": solved})

    def log(self) -> None:
        """Write the plan and this report to the logger ``torch_sla``."""
        import logging

        logger = logging.getLogger("torch_sla")
        if self.plan is not None:
            logger.info("%s", self.plan.explain())
        logger.info(
            "%s with %s %s: %d iterations, relative residual %.2e, backward error %.2e",
            self.result.name.lower(),
            self.backend,
            self.method,
            self.iterations,
            self.residual,
            self.backward_error,
        )

    def absorb(self, other: SolveInfo) -> None:
        """Take over what is worse in `other`."""
        if self.result.ok and (not other.result.ok or self.result is Result.CONVERGED):
            self.result = other.result
        if other.iterations >= self.iterations:
            self.iterations, self.history = other.iterations, other.history
        self.residual = _worse(self.residual, other.residual)
        self.backward_error = _worse(self.backward_error, other.backward_error)
        self.inconsistency = max(self.inconsistency, other.inconsistency)
        self.matrix, self.estimate_rcond = other.matrix, other.estimate_rcond
        self.method, self.backend, self.preconditioner = (
            other.method,
            other.backend,
            other.preconditioner,
        )
        self.notes += [note for note in other.notes if note not in self.notes]

    def __getstate__(self) -> dict[str, object]:
        """Leave the factors behind: a copy knows no `rcond`."""
        return {**self.__dict__, "matrix": None, "estimate_rcond": None}


def _worse(a: float, b: float) -> float:
    """Return the larger error; an unknown one, NaN, is the worst."""
    return a if a != a or a >= b else b


def failed(result: Result, note: str) -> SolveInfo:
    """Return the report of a solve that gave nothing."""
    nan = float("nan")
    return SolveInfo(result, residual=nan, backward_error=nan, notes=[note])
