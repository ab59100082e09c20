"""Carrying out a plan: factors from the cache, the solve, and the check of its residual."""

from __future__ import annotations

from collections import deque
from copy import copy
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.errors import GradientError, Result, SolveError
from torch_sla.linalg.adjoint.solve import Whole
from torch_sla.linalg.backends.registry import backend as get_backend
from torch_sla.linalg.checks import settle
from torch_sla.linalg.direct import refined
from torch_sla.linalg.extremes import look, powers
from torch_sla.linalg.factor_cache import count
from torch_sla.linalg.info import SolveInfo, unsolved
from torch_sla.linalg.kept import Kept, is_direct, pivots
from torch_sla.linalg.kernels import sparse as kernels
from torch_sla.linalg.kernels.detection import all_finite, largest_entry
from torch_sla.linalg.kernels.threads import spread
from torch_sla.linalg.known import Known, largest_row
from torch_sla.linalg.residual import ACCEPT, Residual, judge
from torch_sla.linalg.together import factorize_together, iterate_together

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from torch_sla.linalg.backends.base import Mode, SolveOptions
    from torch_sla.linalg.nullspace import Nullspace
    from torch_sla.linalg.plan.plan import SolvePlan
    from torch_sla.linalg.plan.rules import Candidate
    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.structure import Structure

__all__ = ["SolverState"]

# Fresh starts of an iterative solve whose recurrence drifted away from the true residual.
_RESUMES = 3
# Entries of a member of a batch from which on members go in threads: below, the interpreter decides.
MEMBER = 20_000


class SolverState(Kept, Whole):
    """One solve and its adjoints: same plan, same values, same factors.

    The graph node of a solve holds this object, not the factors: those sit in the bounded cache
    under a fingerprint of the values, and are made again from the saved values when they were
    evicted.

    Parameters
    ----------
    pattern
        Scalar slot pattern, square unless the method takes rectangular ones.
    structure, plan
        What is known, and what was decided.
    options, adjoint_options
        Tolerances of the forward and the adjoint solves.
    throw
        Whether a failed forward solve raises. Adjoint solves always do.
    x0
        Starting value ``[N, K]`` of iterative methods, forward solve only.
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
        throw: bool = True,
        x0: Tensor | None = None,
        nullspace: Nullspace | None = None,
        known: Known | None = None,
    ) -> None:
        super().__init__(pattern, structure, nullspace)
        self.plan, self.options, self.throw, self.x0 = plan, options, throw, x0
        self.adjoint_options = adjoint_options or options
        self._known = known
        self.info = SolveInfo(plan=plan)
        self.adjoint_info = SolveInfo(plan=plan)
        self._prints: frozenset[Hashable] | None = None
        self._unsolved: set[Hashable] = set()
        self._deficient, self._finite = False, True
        self._matched: frozenset[Hashable] = frozenset()
        self._entries: dict[Hashable, Tensor] = {}

    def report(self) -> SolveInfo:
        """Hand over how the forward solve went, once.

        The report knows this object, which can tell a condition number; were it kept here too, values
        and factors would wait for the garbage collector.
        """
        info, self.info = self.info, SolveInfo(plan=self.plan)
        return info

    def aside(self) -> SolverState:
        """Return this object for a report: one that does not keep factors from being retired."""
        other = copy(self)
        other.x0 = other._known = None
        other.info = other.adjoint_info = SolveInfo()
        return other

    def _absorb(self, info: SolveInfo, first: bool) -> None:
        if not first:
            info.matrix = info.estimate_rcond = None
        (self.info if first else self.adjoint_info).absorb(info)

    @property
    def starts(self) -> bool:
        """Whether solves are iterations with a matrix that is its own adjoint."""
        return bool(self.structure.hermitian) and not is_direct(self.plan.choice)

    def run(
        self, values: Tensor, b: Tensor, *, adjoint: bool, start: Tensor | None = None
    ) -> Tensor:
        """Solve ``A x = b`` or ``Aᴴ x = b``; shapes as in `LinearSolve`.

        An iteration begins at `start` ``[M, K]``, of one matrix; the first run at the ``x0`` of the state.

        Raises
        ------
        SolveError
            When a solve fails (forward: only with `throw`).
        GradientError
            When the values have changed since the first run, the first run did not converge, or a
            rank-deficient least-squares problem has no derivative.
        """
        # Libraries read the memory, in which pending conjugations and signs are not.
        values, b = (x.detach().resolve_conj().resolve_neg() for x in (values, b))
        first = self._prints is None
        items = values.unsqueeze(0) if values.ndim == 1 else values
        if self._known is not None:
            self._known.arrange(self.pattern, values)
        prints = kernels.fingerprints(items) if self._known is None else [self._known.mark]
        if self._prints is None:
            self._prints = frozenset(prints)
            if self.nullspace is not None:
                for item in items:
                    self.nullspace.check(self.pattern, item)
        elif not self._prints.issuperset(prints):
            raise GradientError(
                "the matrix values were modified in place between the solve and its derivative; "
                "clone them before changing them"
            )
        elif self._unsolved:
            self._require_solved(prints, b.unsqueeze(0) if values.ndim == 1 else b)
        if values.ndim == 1:
            columns = b if b.ndim == 2 else b.movedim(0, 1).flatten(1)
            # The cotangent of a sum is one number seen many times; everything below would copy it anew.
            columns = columns.contiguous()
            x = self._one(values, prints[0], columns, adjoint, first, self.x0 if first else start)
            self.x0 = None  # of the first run alone: what lives on needs no memory for it
            return x if b.ndim == 2 else x.unflatten(1, (b.shape[0], b.shape[2])).movedim(1, 0)
        found, alone = self._together(items, prints, b, adjoint, first)
        n = self.pattern.shape[0 if adjoint else 1]
        out = b.new_empty(b.shape[0], n, b.shape[2]) if found is None else found

        def attempt(i: int) -> tuple[SolveInfo, Tensor]:
            x0 = self.x0 if self.x0 is None or self.x0.ndim == 2 else self.x0[i]
            return self._attempted(items[i], prints[i], b[i], adjoint, first, x0)

        for i, (info, x) in zip(alone, self._each(attempt, alone, items, adjoint), strict=True):
            out[i] = self._settled(info, x, adjoint, first)
        self.x0 = None
        return out

    def _require_solved(self, marks: Sequence[Hashable], b: Tensor) -> None:
        """Refuse derivatives of solutions that are none, of members that the loss looks at."""
        for mark, rhs in zip(marks, b, strict=True):
            if mark in self._unsolved and bool((rhs != 0).any()):
                raise unsolved()

    def _modes(self, adjoint: bool) -> tuple[Mode, Mode]:
        """Mode of the solve, and of its check: of the adjoint itself, so that a wrong declaration is noticed."""
        if not adjoint:
            return "n", "n"
        return "n" if self.structure.hermitian else "h", "h"

    # --- many matrices -------------------------------------------------------------------------

    def _together(
        self,
        values: Tensor,
        marks: Sequence[Hashable],
        b: Tensor,
        adjoint: bool,
        first: bool,
    ) -> tuple[Tensor | None, list[int]]:
        """Solve with all at once; return what came of it, and the members that have to go alone."""
        settle()  # the work of all members would be in vain
        candidate, found = self.plan.choice, None
        options = self.adjoint_options if adjoint else self.options
        modes = self._modes(adjoint)
        if is_direct(candidate):
            if first:
                self._finite = bool(all_finite(values))
            if self._finite:
                found = factorize_together(self, candidate, values, marks, b, modes, options)
        elif self.x0 is None:
            found = iterate_together(self, candidate, values, b, modes, options)
        if found is None:
            return None, list(range(len(values)))
        self._absorb(found.info, first)
        return found.x, (~found.good).nonzero().flatten().tolist()

    def _each(
        self,
        attempt: Callable[[int], tuple[SolveInfo, Tensor]],
        members: Sequence[int],
        values: Tensor,
        adjoint: bool,
    ) -> Iterator[tuple[SolveInfo, Tensor]]:
        """Attempt members one by one, or in threads, one each, where that is faster; results in their order.

        The first goes ahead, on all threads: what its set-up decides serves the others.
        """
        choice, options = self.plan.choice, self.adjoint_options if adjoint else self.options
        wanted = options.preconditioner or choice.preconditioner
        backend, nnz = get_backend(choice.backend), self.pattern.nnz_csr
        pays = len(members) > 2 and nnz >= MEMBER and self.nullspace is None
        if pays and backend.concurrent(choice.method, wanted, values):
            yield attempt(members[0])
            yield from spread(attempt, members[1:], len(members) * nnz)
        else:
            yield from map(attempt, members)

    # --- one matrix ----------------------------------------------------------------------------

    def _one(
        self,
        values: Tensor,
        mark: Hashable,
        b: Tensor,
        adjoint: bool,
        first: bool,
        x0: Tensor | None,
    ) -> Tensor:
        return self._settled(*self._attempted(values, mark, b, adjoint, first, x0), adjoint, first)

    def _attempted(
        self,
        values: Tensor,
        mark: Hashable,
        b: Tensor,
        adjoint: bool,
        first: bool,
        x0: Tensor | None,
    ) -> tuple[SolveInfo, Tensor]:
        lost = 0.0
        if self.nullspace is not None and bool(torch.isfinite(b).all()):
            b, lost = self.nullspace.consistent(b, left=not adjoint)
        info, x = self._attempts(values, mark, b, adjoint, x0)
        info.inconsistency = max(lost, info.inconsistency)
        if first and not info.result.ok:
            self._unsolved.add(mark)
        if lost > 1e3 * torch.finfo(b.dtype).eps and first:
            info.notes.append(f"{lost:.1e} of b lies outside the range and was projected out")
        return info, x

    def _settled(self, info: SolveInfo, x: Tensor, adjoint: bool, first: bool) -> Tensor:
        """Add a solve to the report, and raise where it failed."""
        self._absorb(info, first)
        if not info.result.ok and (self.throw or not first):
            kind = "adjoint solve" if adjoint and not first else "solve"
            detail = f"{kind} with {info.backend} {info.method}"
            if info.notes:
                detail += f" ({'; '.join(info.notes)})"
            raise SolveError(
                info.result, detail, iterations=info.iterations, residual=info.residual
            )
        if not first and self._deficient:
            raise GradientError(
                "the matrix of this least-squares problem is rank deficient, where the solution is "
                "not differentiable in it; detach the matrix"
            )
        return x

    def _attempts(
        self, values: Tensor, mark: Hashable, b: Tensor, adjoint: bool, x0: Tensor | None
    ) -> tuple[SolveInfo, Tensor]:
        """Try the choice, then the fallbacks; the last failure is the one reported."""
        n = self.pattern.shape[0] if adjoint else self.pattern.shape[1]
        nan = b.new_full((1, 1), float("nan")).expand(n, b.shape[1])
        finite, zero, extreme = look(self._entry(values, mark), b)
        if not finite:
            return SolveInfo(
                Result.NONFINITE,
                residual=float("nan"),
                backward_error=float("nan"),
                notes=["NaN or infinity in the input"],
                method=self.plan.choice.method,
                backend=self.plan.choice.backend,
            ), nan.clone(memory_format=torch.contiguous_format)
        if n == 0 or zero:
            choice = self.plan.choice
            return SolveInfo(method=choice.method, backend=choice.backend), b.new_zeros(nan.shape)
        scale, shrink = None, 1.0
        if extreme:
            scale = powers(b)
            b, shrink = b / scale, float(scale.amax())
            x0 = None if x0 is None else x0 / scale
        notes: list[str] = []
        info, x = SolveInfo(), nan
        ways = deque(self._ways(mark))
        while ways:
            candidate, matched = ways.popleft()
            try:
                x, info = self._with(candidate, values, mark, b, adjoint, x0, shrink, matched)
            except SolveError as error:
                x, info = (
                    nan,
                    SolveInfo(
                        error.result,
                        residual=float("nan"),
                        backward_error=float("nan"),
                        notes=[error.detail],
                    ),
                )
                self._deficient |= error.result is Result.SINGULAR and not self.square
            info.backend, info.method = candidate.backend, candidate.method
            info.preconditioner = candidate.preconditioner
            info.notes = notes + info.notes
            if info.result.ok:
                if matched:
                    self._matched |= {mark}
                break
            notes = [*info.notes, f"{candidate}: {info.result.name.lower()}"]
            lean = self.plan.lean
            if info.result is Result.OUT_OF_MEMORY and lean is not None and candidate != lean:
                # Other factors are no smaller.
                ways = deque([(lean, False)])
            elif info.result is Result.OUT_OF_MEMORY:
                ways = deque(way for way in ways if not way[1])
        if x is nan:
            x = nan.clone(memory_format=torch.contiguous_format)
        if scale is not None:
            x = x * scale
            if info.result.ok and not bool(torch.isfinite(x).all()):
                info.result = Result.NONFINITE
                info.notes.append("the solution overflows")
        return info, x

    def _entry(self, values: Tensor, mark: Hashable) -> Tensor:
        """Largest absolute value of a matrix, looked for when it is first solved with."""
        if self._known is not None:
            return self._known.entry
        if mark not in self._entries:
            self._entries[mark] = largest_entry(values)
        return self._entries[mark]

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
        values: Tensor,
        mark: Hashable,
        b: Tensor,
        adjoint: bool,
        x0: Tensor | None,
        shrink: float,
        matched: bool,
    ) -> tuple[Tensor, SolveInfo]:
        options = self.adjoint_options if adjoint else self.options
        options = replace(options, atol=options.atol / shrink)
        if options.preconditioner is None:
            options = replace(options, preconditioner=candidate.preconditioner)
        if options.maxiter is None and self.plan.fallbacks and candidate == self.plan.choice:
            # Far beyond what was predicted, the next candidate is the better bet.
            options = replace(options, maxiter=int(200 + 10 * self.plan.iterations))
        mode, truth = self._modes(adjoint)
        direct = is_direct(candidate)
        run = (candidate, values, mark, b, mode, truth, options)
        x, info, check = self._direct(*run, matched) if direct else self._iterative(*run, x0)
        info.result = judge(
            check, (info.residual, info.backward_error), options, info.result, direct
        )
        wide = self.pattern.shape[0] < self.pattern.shape[1]
        if not self.square and wide == (mode == "n"):
            # Fewer equations than unknowns: only a rank-deficient matrix leaves a residual.
            limit = max(100 * options.rtol, torch.finfo(b.dtype).eps ** 0.5)
            if info.residual > limit:
                info.inconsistency = info.residual
                self._deficient = True
                info.notes.append("rank deficient: the shortest least-squares solution")
        return x, info

    def _direct(
        self,
        candidate: Candidate,
        values: Tensor,
        mark: Hashable,
        b: Tensor,
        mode: Mode,
        truth: Mode,
        options: SolveOptions,
        matched: bool,
    ) -> tuple[Tensor, SolveInfo, Residual]:
        """Substitute and refine; where replaced pivots leave too much, with safer factors once more."""
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
        self,
        candidate: Candidate,
        values: Tensor,
        mark: Hashable,
        b: Tensor,
        mode: Mode,
        truth: Mode,
        options: SolveOptions,
        x0: Tensor | None,
    ) -> tuple[Tensor, SolveInfo, Residual]:
        """Iterate, and go on from the true residual where the recurrence drifted away from it."""
        backend = get_backend(candidate.backend)
        numeric = self.numeric_of(candidate, values, mark, options)
        clean: Callable[[Tensor], Tensor] | None = None
        if self.nullspace is not None:
            clean = partial(self.nullspace.project, left=mode != "n")
            options = replace(options, project=clean)
        norm = None
        if mode == "n" and self._known is not None:
            norm = self._known.largest
        elif mode != truth:  # rows and columns of its own adjoint add up alike
            norm = largest_row(self.pattern, values)
        check = Residual(self.pattern, values, b, truth, norm=norm)
        count("solve")
        done = backend.solve(numeric, values, b, mode, options=options, x0=x0)
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
