"""Exceptions and result codes of torch_sla.

Every exception derives from `TorchSlaError` and, where one fits, from the built-in exception a
caller would expect, so that ``except ValueError`` keeps working. Numerical failure is a `Result`,
whose value is the help text; `SolveError` carries it.
"""

from __future__ import annotations

import enum

__all__ = [
    "ArgumentError",
    "BackendUnavailableError",
    "DTypeError",
    "ExpressionError",
    "GradientError",
    "MeshError",
    "PlanError",
    "RankError",
    "Result",
    "SolveError",
    "SpecError",
    "TorchSlaError",
]


class Result(enum.Enum):
    """How a numerical process ended; the value says what to do about it.

    Examples
    --------
    >>> Result.CONVERGED.ok
    True
    >>> print(Result.SINGULAR.value.split(";")[0])
    the matrix is singular to working precision
    """

    CONVERGED = "the requested tolerance was met"
    ROUNDOFF = (
        "the tolerance is below what the dtype resolves for this matrix; the backward error is at the "
        "floor of the dtype"
    )
    MAXITER = (
        "the iteration limit was reached before the tolerance; raise maxiter, use a stronger preconditioner or a "
        "direct method, or loosen rtol"
    )
    STAGNATION = (
        "the residual stopped decreasing above the tolerance; if the system is linear, it may be singular, "
        "inconsistent or too ill-conditioned for this method: try a direct method"
    )
    BREAKDOWN = (
        "the method broke down (division by a vanishing quantity); the matrix does not have the structure this "
        "method needs: try gmres, minres (symmetric indefinite) or a direct method"
    )
    NONFINITE = "NaN or infinity appeared; check matrix, right-hand side and parameters for NaN and overflow"
    SINGULAR = (
        "the matrix is singular to working precision; constrain it (Dirichlet values, a reaction term) or declare its "
        "nullspace"
    )
    NOT_POSITIVE_DEFINITE = (
        "a non-positive pivot was met, so the matrix is not positive definite; use method='ldlt' or 'lu', or check "
        "the signs of coefficients"
    )
    RESIDUAL = (
        "the solution does not satisfy the system to the requested accuracy; the matrix is too ill-conditioned for "
        "this method: rescale it, or choose a pivoting method ('lu')"
    )
    STEP = (
        "no step in time was short enough for the tolerance; loosen adaptive.rtol, give adaptive.atol, allow more "
        "halvings, or take more steps"
    )
    OUT_OF_MEMORY = (
        "the method needs more memory than there is; use an iterative method or a smaller problem"
    )

    @property
    def ok(self) -> bool:
        """Whether the result may be used."""
        return self in (Result.CONVERGED, Result.ROUNDOFF)


class TorchSlaError(Exception):
    """Base of every exception torch_sla raises on purpose."""

    repeated = False
    """Whether another process says the same to people already."""


class ArgumentError(TorchSlaError, ValueError):
    """An argument has a wrong value or shape."""


class DTypeError(TorchSlaError, TypeError):
    """An argument has a dtype that cannot be used, or two do not go together."""


class MeshError(ArgumentError):
    """A mesh, or a question asked of it, makes no sense."""


class SpecError(ArgumentError):
    """A declaration is wrong.

    Parameters
    ----------
    message
        What is wrong, what was received and the remedy.
    file, line
        Where the declaration was read from, when it came from a file (lines count from 1).
    path
        Path of the field inside the declaration, such as ``"boundary.0.value"``.
    """

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        line: int | None = None,
        path: str | None = None,
    ) -> None:
        self.message, self.file, self.line, self.path = message, file, line, path
        place = ":".join(str(part) for part in (file, line) if part is not None)
        super().__init__(": ".join(part for part in (place, path, message) if part))


class ExpressionError(SpecError):
    """An expression does not parse, or asks for something that is not allowed."""


class PlanError(ArgumentError):
    """A request (``backend=``, ``method=``) cannot be honoured, or nothing can solve the system."""


class BackendUnavailableError(PlanError):
    """A backend was asked for that cannot be used here; the message says why."""


class GradientError(TorchSlaError, RuntimeError):
    """A derivative that was asked for does not exist or would be wrong."""


class RankError(TorchSlaError, RuntimeError):
    """Work on several processes cannot go on: one ended, failed, or disagrees with the others."""


class SolveError(TorchSlaError, RuntimeError):
    """A numerical process failed.

    Parameters
    ----------
    result
        The code; its value is the general remedy.
    detail
        What happened here, in one sentence.
    iterations
        Iterations done (0 for a direct method).
    residual
        Relative residual reached, NaN when unknown.
    """

    def __init__(
        self,
        result: Result,
        detail: str = "",
        *,
        iterations: int = 0,
        residual: float = float("nan"),
    ) -> None:
        self.result, self.detail, self.iterations, self.residual = (
            result,
            detail,
            iterations,
            residual,
        )
        self.remedy = result.value
        super().__init__(result, detail)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), self.args, self.__dict__

    def __str__(self) -> str:
        head = (
            f"{self.result.name.lower()}: {self.detail}"
            if self.detail
            else self.result.name.lower()
        )
        return f"{head} (iterations {self.iterations}, relative residual {self.residual:.3g}); {self.remedy}"
