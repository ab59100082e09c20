"""Settings and reports of nonlinear solves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from inspect import signature
from typing import TYPE_CHECKING, Any, Literal

from torch_sla.errors import ArgumentError, Result, SolveError
from torch_sla.linalg.info import failed_note, unsolved
from torch_sla.linalg.methods.outcome import asked_rtol, default_rtol, limits
from torch_sla.linalg.sparse import verbs

if TYPE_CHECKING:
    import torch

__all__ = [
    "NonlinearInfo",
    "NonlinearOptions",
    "inside_step",
    "linear_options",
    "options_of_derivatives",
    "refuse_unused",
]


# What the nonlinear solve decides about its linear ones, and what is no option of theirs.
_REPORT = frozenset({"info", "throw"})
_NO_OPTIONS = _REPORT | {"A", "b"}


@dataclass(frozen=True)
class NonlinearOptions:
    """How to iterate and when to stop.

    Parameters
    ----------
    method
        ``"newton"``, ``"picard"`` (fixed point ``u - damping B F(u)``) or ``"anderson"`` (the same,
        accelerated).
    rtol, atol
        Stop when ``‖F(u)‖ <= max(rtol ‖F(u0)‖, atol)``.
    maxiter
        Limit on iterations.
    line_search
        Whether Newton shortens steps that do not lower ``‖F‖``.
    damping
        Length of the steps of the fixed-point methods.
    memory
        Steps that Anderson acceleration remembers.
    linear
        Options of the linear solves with a sparse Jacobian, as for `SparseTensor.solve`.
    """

    method: Literal["newton", "picard", "anderson"] = "newton"
    rtol: float = 1e-10
    atol: float = 0.0
    maxiter: int = 50
    line_search: bool = True
    damping: float = 1.0
    memory: int = 5
    linear: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        if self.method not in ("newton", "picard", "anderson"):
            raise ArgumentError(f"`method` must be newton, picard or anderson, got {self.method!r}")
        limits(self.rtol, self.atol, self.maxiter)
        if not self.damping > 0:
            raise ArgumentError(f"`damping` must be > 0, got {self.damping}")
        if self.memory < 1:
            raise ArgumentError(f"`memory` must be at least 1, got {self.memory}")
        own = sorted({name for name, _ in self.linear} & _REPORT)
        if own:
            raise ArgumentError(
                f"`linear` is for how steps are solved, not {' and '.join(own)}; give {' and '.join(own)} to the "
                "nonlinear solve"
            )


def linear_options(linear: Any) -> tuple[tuple[str, Any], ...]:
    """Return what `linear` of a call holds, as `NonlinearOptions` takes it.

    Examples
    --------
    >>> linear_options({"backend": "scipy"}), linear_options(None)
    ((('backend', 'scipy'),), ())
    """
    if linear is None:
        return ()
    if not isinstance(linear, Mapping) or not all(isinstance(name, str) for name in linear):
        raise ArgumentError(
            f"`linear` must be a mapping of options of SparseTensor.solve, such as {{'method': 'lu'}}, got {linear!r}"
        )
    known = [name for name in signature(verbs.solve).parameters if name not in _NO_OPTIONS]
    for name in linear:
        if name not in known and name not in _REPORT:
            raise ArgumentError(
                f"`linear` has no option {name!r}; those of SparseTensor.solve are {', '.join(known)}"
            )
    return tuple(linear.items())


def refuse_unused(options: NonlinearOptions, jacobian_fn: Any, pattern: Any) -> None:
    """Raise `ArgumentError` for `linear` where no sparse Jacobian is there to be solved with."""
    if options.linear and jacobian_fn is None and pattern is None:
        raise ArgumentError(
            f"`linear` is for solves with a sparse Jacobian, and there is none, got {dict(options.linear)}; give "
            "`pattern` or `jacobian_fn`, or leave `linear` out: without them steps and derivatives are solved by GMRES "
            "with products, which `precondition` speeds up"
        )


def options_of_derivatives(
    linear: tuple[tuple[str, Any], ...], dtype: torch.dtype
) -> dict[str, Any]:
    """Return options for derivatives, of those of steps: these may be coarse, and `atol` is for the size of residuals.

    Examples
    --------
    >>> import torch
    >>> options_of_derivatives((("method", "cg"), ("atol", 1e-4), ("tol", 1e-3)), torch.float64)
    {'method': 'cg', 'rtol': 1e-10}
    """
    options, default = dict(linear), default_rtol(dtype)
    options.pop("atol", None)
    rtol = asked_rtol(options.pop("rtol", None), options.pop("tol", None))
    return {**options, "rtol": min(rtol or default, default)}


def inside_step(error: SolveError) -> str:
    """Return a note on the linear solve of a step that failed: its limits are its own."""
    return (
        f"in the linear solve of a step: {error.detail}, after {error.iterations} iterations at a relative residual of "
        f"{error.residual:.3g}; maxiter, rtol, method and preconditioner of the linear solver are meant below"
    )


@dataclass
class NonlinearInfo:
    """Report of a nonlinear solve.

    Parameters
    ----------
    result
        Result code; its value is the help text.
    iterations
        Steps taken.
    residual
        ``‖F(u)‖ / ‖F(u0)‖`` at the end.
    history
        ``‖F(u)‖`` at the start and after each step.
    method
        What was used.
    notes
        What else happened.
    solved
        Of a batch that did not converge as a whole, which members have a solution ``[*batch]``; None where that is not
        told.
    """

    result: Result = Result.CONVERGED
    iterations: int = 0
    residual: float = 0.0
    history: list[float] = field(default_factory=list)
    method: str = ""
    notes: list[str] = field(default_factory=list)
    solved: torch.Tensor | None = field(default=None, repr=False, compare=False)

    @property
    def converged(self) -> bool:
        """Whether the result may be used."""
        return self.result.ok

    def failure(self) -> SolveError:
        """Return what to raise where it is not: with the notes, which tell of a linear solve that failed in a step."""
        detail = f"nonlinear solve by {self.method}"
        notes = list(self.notes)
        if self.result is Result.STAGNATION and not notes:
            notes.append(
                "no step lowers the residual further: start nearer to a solution, or approach it in steps; there may "
                "be none"
            )
        if self.solved is not None and bool(self.solved.any()):
            missing = (~self.solved).nonzero()
            names = missing.flatten().tolist() if self.solved.ndim == 1 else missing.tolist()
            notes.append(failed_note("members", names))
        if notes:
            detail += f" ({'; '.join(notes)})"
        return SolveError(self.result, detail, iterations=self.iterations, residual=self.residual)

    def require_derivative(self) -> None:
        """Raise where the result has no derivative."""
        if not self.converged:
            raise unsolved(together=self.solved is not None and bool(self.solved.any()))
