"""Solving with one matrix as a plan says: its choice, then its fallbacks, and the check of their residuals."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from torch_sla.errors import Result, SolveError
from torch_sla.linalg.backends.registry import backend as get_backend
from torch_sla.linalg.checks import read, was_asked
from torch_sla.linalg.direct import Factored, refined
from torch_sla.linalg.extremes import exponent, look, ordinary, powers, shifted, unseen
from torch_sla.linalg.factor_cache import count
from torch_sla.linalg.info import UNTRIED, SolveInfo, failed
from torch_sla.linalg.kept import Kept, is_direct, pivots
from torch_sla.linalg.kernels.detection import largest_entry
from torch_sla.linalg.known import Known, largest_row
from torch_sla.linalg.methods.outcome import default_rtol
from torch_sla.linalg.residual import ACCEPT, Residual, judge
from torch_sla.linalg.scaling import light_sides

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from torch_sla.linalg.backends.base import Mode, SolveOptions
    from torch_sla.linalg.nullspace import Nullspace
    from torch_sla.linalg.plan.plan import SolvePlan
    from torch_sla.linalg.plan.rules import Candidate
    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.structure import Structure

__all__ = ["Attempts", "System", "started"]

# Fresh starts of an iterative solve whose recurrence drifted away from the true residual.
_RESUMES = 3


class System(NamedTuple):
    """One system of equations.

    Parameters
    ----------
    values, mark
        Slot values of its matrix ``[nnz_csr]``, and their fingerprint.
    b
        Right-hand sides ``[N, K]``.
    adjoint
        Whether the adjoint of the matrix is solved with.
    x0
        Where an iteration begins ``[N, K]``.
    seen
        What `unseen` makes of it, where that has been read.
    derivative
        Whether a derivative is solved for.
    exponent
        Of the power of two that its matrix is as large as, where that is extreme; else 0.
    """

    values: Tensor
    mark: Hashable
    b: Tensor
    adjoint: bool
    x0: Tensor | None = None
    seen: Sequence[float] = ()
    derivative: bool = False
    exponent: int = 0


class Attempts(Kept):
    """Solves with one matrix at a time.

    Parameters
    ----------
    pattern
        Scalar slot pattern, square unless the method takes rectangular ones.
    structure, plan
        What is known, and what was decided.
    options, adjoint_options
        Tolerances of the forward and the adjoint solves.
    nullspace
        Declared nullspace; every solve is then one with the pseudoinverse.
    known
        What is known of the one matrix, whose values do not change.
    """

    def __init__(
        self,
        pattern: Pattern,
        structure: Structure,
        plan: SolvePlan,
        options: SolveOptions,
        adjoint_options: SolveOptions | None = None,
        *,
        nullspace: Nullspace | None = None,
        known: Known | None = None,
    ) -> None:
        super().__init__(pattern, structure, nullspace)
        self.plan, self.options = plan, options
        self.adjoint_options = adjoint_options or options
        self._known = known
        self._deficient = False
        self._matched: frozenset[Hashable] = frozenset()
        self._entries: dict[Hashable, Tensor] = {}

    def _modes(self, adjoint: bool) -> tuple[Mode, Mode]:
        """Mode of the solve, and of its check: of the adjoint itself, so that a wrong declaration is noticed."""
        if not adjoint:
            return "n", "n"
        return "n" if self.structure.hermitian else "h", "h"

    def _tolerances(self, adjoint: bool, derivative: bool, dtype: torch.dtype) -> SolveOptions:
        """Options of a solve; the size of a derivative is not that of `b`, which `atol` was given for."""
        options = self.adjoint_options if adjoint else self.options
        if not derivative:
            return options
        return replace(options, rtol=options.rtol or default_rtol(dtype), atol=0.0)

    def attempt(self, system: System) -> tuple[SolveInfo, Tensor]:
        """Try the choice, then the fallbacks; the last failure is the one reported, beside an x of NaN."""
        known = self._with_known_factors(system)
        if known is not None:
            return known
        b, choice = system.b, self.plan.choice
        shape = (self.pattern.shape[0 if system.adjoint else 1], b.shape[1])
        seen = system.seen
        if not seen:
            entry = self._entry(system)
            seen = read(*unseen(entry, b))
            self._entries[system.mark] = entry  # now it is known to be that of the values so marked
        finite, zero, extreme = look(seen, b)
        if not finite:
            info = failed(Result.NONFINITE, "NaN or infinity in the input")
            info.backend, info.method = choice.backend, choice.method
            return info, b.new_full(shape, float("nan"))
        if shape[0] == 0 or zero:
            info = SolveInfo(method=choice.method, backend=choice.backend)
            if b.numel():
                info.notes.append(UNTRIED)
            return info, b.new_zeros(shape)
        system = system._replace(exponent=exponent(seen[0], system.values))
        if extreme:
            scale = powers(b)
            x0 = None if system.x0 is None else system.x0 / scale
            system = system._replace(b=b / scale, x0=x0)
            info, x = self._attempts(system, shape, float(scale.amax()))
            x = x * scale
        else:
            info, x = self._attempts(system, shape, 1.0)
        if not (extreme or system.exponent):
            return info, x
        if info.result.ok and not bool(torch.isfinite(x).all()):
            info.result = Result.NONFINITE
            info.notes.append("the solution overflows")
        return info, x

    def _with_known_factors(self, system: System) -> tuple[SolveInfo, Tensor] | None:
        """Substitute in factors that are there, and look at the right-hand side with what is left over of it.

        So a device is waited for once. None where there are no factors, or something is to be looked at first.
        """
        b, seen = system.b, system.seen
        if b.is_cpu or not b.numel() or self.nullspace is not None or not self.square:
            return None
        if self._modes(system.adjoint)[0] != "n":
            return None  # of some factors those of the transpose are made when they are asked for first
        candidate, matched = next(self._ways(system.mark))
        if not is_direct(candidate) or (seen and not ordinary(seen[1:], b)):
            return None
        factored = self.kept_factors(candidate, system.values, system.mark, matched)
        if factored is None or factored.perturbed:
            return None
        try:
            x, info, check = self._with(candidate, system, 1.0, matched, factored)
        except SolveError as error:
            if was_asked(error):
                raise
            return None
        if not (info.result.ok and ordinary(check.b_max, b)):
            return None
        return _named(info, candidate), x

    def _attempts(
        self, system: System, shape: tuple[int, int], shrink: float
    ) -> tuple[SolveInfo, Tensor]:
        """Go through the candidates, for right-hand sides that were divided by `shrink`."""
        notes: list[str] = []
        info, x = SolveInfo(), None
        ways = deque(self._ways(system.mark))
        while ways:
            candidate, matched = ways.popleft()
            try:
                x, info, _ = self._with(candidate, system, shrink, matched)
            except SolveError as error:
                x, info = None, failed(error.result, error.detail)
                self._deficient |= error.result is Result.SINGULAR and not self.square
            _named(info, candidate).notes = notes + info.notes
            if info.result.ok:
                if matched:
                    self._matched |= {system.mark}
                break
            notes = [*info.notes, f"{candidate}: {info.result.name.lower()}"]
            lean = self.plan.lean
            if info.result is Result.OUT_OF_MEMORY and lean is not None and candidate != lean:
                # Other factors are no smaller.
                ways = deque([(lean, False)])
            elif info.result is Result.OUT_OF_MEMORY:
                ways = deque(way for way in ways if not way[1])
        return info, system.b.new_full(shape, float("nan")) if x is None else x

    def _entry(self, system: System) -> Tensor:
        """Largest absolute value of a matrix, looked for when it is first solved with."""
        if self._known is not None:
            return self._known.entry
        found = self._entries.get(system.mark)
        return largest_entry(system.values) if found is None else found

    def _ways(self, mark: Hashable) -> Iterator[tuple[Candidate, bool]]:
        """Candidates in the order they are tried; the last direct one a second time, its rows matched."""
        tried = (self.plan.choice, *self.plan.fallbacks)
        pivoting = [c for c in tried if pivots(c)] if self.nullspace is None and self.square else []
        if mark in self._matched:
            yield pivoting[-1], True
        for candidate in tried:
            yield candidate, False
        if pivoting and mark not in self._matched:
            yield pivoting[-1], True

    def _with(
        self,
        candidate: Candidate,
        system: System,
        shrink: float,
        matched: bool,
        factored: Factored | None = None,
    ) -> tuple[Tensor, SolveInfo, Residual]:
        options = self._tolerances(system.adjoint, system.derivative, system.b.dtype)
        wanted, limit = options.preconditioner, options.maxiter
        if limit is None and self.plan.fallbacks and candidate == self.plan.choice:
            # Far beyond what was predicted, the next candidate is the better bet.
            limit = int(200 + 10 * self.plan.iterations)
        options = replace(
            options,
            atol=options.atol / shrink,
            maxiter=limit,
            preconditioner=candidate.preconditioner if wanted is None else wanted,
        )
        direct = is_direct(candidate)
        # Squares of extreme entries over- or underflow, in iterations and in checks of least squares.
        # Divided by a power of two, the matrix leaves the same residuals.
        power, whole = 0 if direct and self.square else system.exponent, system.values
        if power:
            x0 = None if system.x0 is None else shifted(system.x0, power)
            system = system._replace(values=shifted(whole, -power), x0=x0)
        if direct:
            x, info, check = self._direct(candidate, system, options, matched, factored)
        else:
            x, info, check = self._iterative(candidate, system, options)
        info.result = judge(
            check, (info.residual, info.backward_error), options, info.result, direct
        )
        wide = self.pattern.shape[0] < self.pattern.shape[1]
        if not self.square and wide != system.adjoint:
            # Fewer equations than unknowns: only a rank-deficient matrix leaves a residual.
            limit = max(100 * options.rtol, torch.finfo(x.dtype).eps ** 0.5)
            if info.residual > limit:
                info.inconsistency = info.residual
                self._deficient = True
                info.notes.append("rank deficient: the shortest least-squares solution")
        if not (self.square or direct or system.adjoint):
            told = light_sides(self.pattern, whole, options.rtol)
            info.notes += [note for note in told if note is not None]
            info.result = Result.SINGULAR if told[0] and self._deficient else info.result
        if power:
            info.matrix = whole
            x = shifted(x, -power)
        return x, info, check

    def _direct(
        self,
        candidate: Candidate,
        system: System,
        options: SolveOptions,
        matched: bool,
        factored: Factored | None,
    ) -> tuple[Tensor, SolveInfo, Residual]:
        """Substitute and refine; where replaced pivots leave too much, with safer factors once more."""
        values, mark, b, adjoint, *_ = system
        mode, truth = self._modes(adjoint)
        if factored is None:
            factored = self.factored(candidate, values, mark, options, matched)
        x, error, steps, check = refined(self.pattern, factored, values, b, mode, truth)
        if factored.perturbed and not error[1] <= ACCEPT * torch.finfo(x.dtype).eps:
            better = self.safer(factored, candidate, values, mark, matched)
            if better is not None:
                again = refined(self.pattern, better, values, b, mode, truth)
                if again[1][1] < error[1]:
                    factored, (x, error, steps, check) = better, again
                else:
                    error = check(x)
        info = SolveInfo(
            residual=error[0], backward_error=error[1], notes=list(factored.numeric.notes)
        )
        if factored.scale is not None:
            how = "scaled and matched by size" if factored.matched else "equilibrated"
            info.notes.append(f"rows and columns {how}")
        if steps:
            info.notes.append(f"{steps} step(s) of iterative refinement")
        info.matrix = values
        info.estimate_rcond = partial(self.aside().rcond, candidate, mark, options, matched)
        return x, info, check

    def _iterative(
        self, candidate: Candidate, system: System, options: SolveOptions
    ) -> tuple[Tensor, SolveInfo, Residual]:
        """Iterate, and go on from the true residual where the recurrence drifted away from it."""
        values, mark, b, adjoint, *_ = system
        x0 = None if system.x0 is None else started(system.x0, b)
        mode, truth = self._modes(adjoint)
        backend = get_backend(candidate.backend)
        numeric = self.numeric_of(candidate, values, mark, options)
        clean: Callable[[Tensor], Tensor] | None = None
        if self.nullspace is not None:
            clean = partial(self.nullspace.project, left=mode != "n")
            options = replace(options, project=clean)
        norm = None
        if mode == "n" and self._known is not None and not system.exponent:
            norm = self._known.largest
        elif mode != truth:  # rows and columns of its own adjoint add up alike
            norm = largest_row(self.pattern, values)
        check = Residual(self.pattern, values, b, truth, norm=norm)
        count("solve")
        done = backend.solve(numeric, values, b, mode, options=options, x0=x0)
        if done.result is not Result.CONVERGED and x0 is not None and not x0.isfinite().all():
            raise SolveError(Result.NONFINITE, "NaN or infinity in `x0`")
        x = done.x if clean is None else clean(done.x)
        estimate: Callable[[Tensor], float | None] | None = None
        if self.square and clean is None:
            estimate = partial(self.aside().krylov_rcond, candidate, mark, options)
        info = SolveInfo(
            done.result,
            done.iterations,
            history=list(done.history),
            notes=list(numeric.notes),
            matrix=values,
            estimate_rcond=estimate,
        )
        error = check(x, done.sizes if clean is None and mode == truth else None)
        for _ in range(_RESUMES):
            met = check.met(options) or check.rounded(error[1], options)
            if info.result is not Result.CONVERGED or met:
                break
            limit = options.maxiter
            if limit is not None and info.iterations >= limit:
                info.result = Result.MAXITER
                break
            rtol = 0.1 * options.rtol if check.rectangular else 0.0
            rest = replace(
                options,
                rtol=rtol,
                atol=check.target(options),
                maxiter=None if limit is None else limit - info.iterations,
            )
            r = check.r
            if self.nullspace is not None:
                r = self.nullspace.project(r, left=mode == "n")
            more = backend.solve(numeric, values, r, mode, options=rest)
            trial = x + (more.x if clean is None else clean(more.x))
            info.iterations += more.iterations
            info.history += more.history
            found = check(trial)
            if not found[0] < error[0]:
                error = check(x)
                break
            x, error, info.result = trial, found, more.result
        info.residual, info.backward_error = error
        return x, info, check


def started(x0: Tensor, b: Tensor) -> Tensor:
    """Return where iterations begin: at zero for right-hand sides of zeros, of which nothing may be left over.

    Examples
    --------
    >>> started(torch.ones(2, 2), torch.tensor([[3.0, 0.0], [0.0, 0.0]])).tolist()
    [[1.0, 0.0], [1.0, 0.0]]
    """
    return torch.where((b != 0).any(-2, keepdim=True), x0, 0.0)


def _named(info: SolveInfo, candidate: Candidate) -> SolveInfo:
    """Note whose report it is."""
    info.backend, info.method = candidate.backend, candidate.method
    info.preconditioner = candidate.preconditioner
    return info
