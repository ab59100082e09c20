"""Carrying out a plan: factors from the cache, the solve, and the check of its residual."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property, partial
from math import isfinite
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.errors import GradientError, Result, SolveError
from torch_sla.linalg.adjoint.solve import Whole
from torch_sla.linalg.backends.registry import backend as get_backend
from torch_sla.linalg.direct import Factored, FactoredBatch, column_norm, refined
from torch_sla.linalg.factor_cache import count, numerics, symbolics
from torch_sla.linalg.info import SolveInfo
from torch_sla.linalg.kernels import sparse as kernels
from torch_sla.linalg.kernels.detection import all_finite, largest_entry
from torch_sla.linalg.kernels.threads import spread
from torch_sla.linalg.known import Known
from torch_sla.linalg.rcond import inverse_norm
from torch_sla.linalg.residual import ACCEPT, BatchResidual, Residual, judge, largest_entries

if TYPE_CHECKING:
    from torch_sla.linalg.backends.base import Backend, Mode, Numeric, SolveOptions, Symbolic
    from torch_sla.linalg.nullspace import Nullspace
    from torch_sla.linalg.plan.plan import SolvePlan
    from torch_sla.linalg.plan.rules import Candidate
    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.structure import Structure

__all__ = ["SolverState"]

# Fresh starts of an iterative solve whose recurrence drifted away from the true residual.
_RESUMES = 3
# Tolerance of the iterative solves that estimate a condition number.
_ROUGH = 1e-3
# Factors of other values that are kept although no graph needs them, where new ones could take
# their place: what needs no analysis, or no first touches of fresh memory.
_SPARE = 2
# Entries of a member of a batch from which on members go in threads: below, the interpreter decides.
MEMBER = 20_000


class SolverState(Whole):
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
        self.pattern, self.structure, self.plan = pattern, structure, plan
        self.options, self.throw, self.x0 = options, throw, x0
        self.adjoint_options = adjoint_options or options
        self.nullspace, self._known = nullspace, known
        self.info = SolveInfo(plan=plan)
        self.adjoint_info = SolveInfo(plan=plan)
        self._prints: frozenset[Hashable] | None = None
        self._deficient, self._finite = False, True
        self._matched: frozenset[Hashable] = frozenset()

    def report(self) -> SolveInfo:
        """Hand over how the forward solve went, once.

        The report knows this object, which can tell a condition number; were it kept here too, values
        and factors would wait for the garbage collector.
        """
        info, self.info = self.info, SolveInfo(plan=self.plan)
        return info

    def _aside(self) -> SolverState:
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
        return bool(self.structure.hermitian) and not self._is_direct(self.plan.choice)

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
            When the values have changed since the first run, or a rank-deficient least-squares
            problem has no derivative.
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
        if values.ndim == 1:
            columns = b if b.ndim == 2 else b.movedim(0, 1).flatten(1)
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

    @property
    def _square(self) -> bool:
        return self.pattern.shape[0] == self.pattern.shape[1]

    def _is_direct(self, candidate: Candidate) -> bool:
        method = get_backend(candidate.backend).capabilities.method(candidate.method)
        return method is not None and method.kind == "direct"

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
        everyone = None, list(range(len(values)))
        candidate, n = self.plan.choice, self.pattern.shape[0]
        backend = get_backend(candidate.backend)
        if not self._is_direct(candidate):
            return self._iterate_together(backend, candidate, values, b, adjoint, first)
        fits = self._square and self.nullspace is None
        if not fits or len(values) < 2 or 0 in (n, b.shape[2], self.pattern.nnz_csr):
            return everyone
        size = b.abs().amax(1)
        bound = torch.finfo(size.dtype).max ** 0.25
        usual = (((size > 1 / bound) & (size < bound)) | (size == 0)).all(-1)
        if first:
            self._finite = bool(all_finite(values))
        if not (self._finite and bool(torch.isfinite(size).all() & usual.any())):
            return everyone
        options = self.adjoint_options if adjoint else self.options
        mode, truth = self._modes(adjoint)
        try:
            factored = self._factored_batch(backend, candidate, values, marks, options)
            count("solve", len(values))
            x, good, check, steps = factored.solve(values, b, mode, truth, options)
        except SolveError:
            return everyone  # one of them fails, and says so alone
        good &= usual
        if not bool(good.any()):
            return everyone
        info = SolveInfo(
            residual=float(check.relative[good].max()),
            backward_error=float(check.backward[good].max()),
            method=candidate.method,
            backend=candidate.backend,
            notes=[f"{int(good.sum())} matrices at once"],
        )
        if steps:
            info.notes.append(f"{steps} step(s) of iterative refinement")
        last = int(good.nonzero()[-1])
        info.matrix = values[last]
        info.estimate_rcond = partial(
            self._aside()._rcond, backend, candidate, marks[last], options, False
        )
        self._absorb(info, first)
        return x, (~good).nonzero().flatten().tolist()

    def _iterate_together(
        self,
        backend: Backend,
        candidate: Candidate,
        values: Tensor,
        b: Tensor,
        adjoint: bool,
        first: bool,
    ) -> tuple[Tensor | None, list[int]]:
        """Iterate on all members at once where the backend does; as `_together`."""
        everyone = None, list(range(len(values)))
        if len(values) < 2 or not self._square or self.nullspace is not None:
            return everyone
        if self.x0 is not None or 0 in b.shape or not self.pattern.nnz_csr:
            return everyone
        options = self.adjoint_options if adjoint else self.options
        if options.preconditioner is None:
            options = replace(options, preconditioner=candidate.preconditioner)
        mode, truth = self._modes(adjoint)
        symbolic = self._symbolic(backend, candidate)
        found = backend.iterate_batch(symbolic, values, b, mode, options)
        if found is None:
            return everyone
        x, iterations = found
        count("solve", len(values))
        check = BatchResidual(self.pattern, values, b, truth)
        check(x)
        good = check.relative <= options.rtol  # NaN is not
        if not bool(good.any()):
            return everyone
        info = SolveInfo(
            iterations=int(iterations[good].max()),
            residual=float(check.relative[good].max()),
            backward_error=float(check.backward[good].max()),
            method=candidate.method,
            backend=candidate.backend,
            notes=[f"{int(good.sum())} matrices at once"],
        )
        info.preconditioner = candidate.preconditioner
        self._absorb(info, first)
        return x, (~good).nonzero().flatten().tolist()

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
        finite, zero, extreme = _look(values if self._known is None else self._known, b)
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
            scale = _powers(b)
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
                self._deficient |= error.result is Result.SINGULAR and not self._square
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

    def _ways(self, mark: Hashable) -> Iterator[tuple[Candidate, bool]]:
        """Candidates in the order they are tried; the last direct one a second time, its rows matched."""
        tried = (self.plan.choice, *self.plan.fallbacks)
        pivoting = [c for c in tried if self._pivots(c)] if self.nullspace is None else []
        if mark in self._matched:
            yield pivoting[-1], True
        for candidate in tried:
            yield candidate, False
        if pivoting and mark not in self._matched:
            yield pivoting[-1], True

    def _pivots(self, candidate: Candidate) -> bool:
        method = get_backend(candidate.backend).capabilities.method(candidate.method)
        if method is None or method.kind != "direct" or not self._square:
            return False
        return method.needs != "positive_definite"

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
        backend = get_backend(candidate.backend)
        options = self.adjoint_options if adjoint else self.options
        options = replace(options, atol=options.atol / shrink)
        if options.preconditioner is None:
            options = replace(options, preconditioner=candidate.preconditioner)
        if options.maxiter is None and self.plan.fallbacks and candidate == self.plan.choice:
            # Far beyond what was predicted, the next candidate is the better bet.
            options = replace(options, maxiter=int(200 + 10 * self.plan.iterations))
        mode, truth = self._modes(adjoint)
        direct = self._is_direct(candidate)
        run = (backend, candidate, values, mark, b, mode, truth, options)
        x, info, check = self._direct(*run, matched) if direct else self._iterative(*run, x0)
        info.result = judge(
            check, (info.residual, info.backward_error), options, info.result, direct
        )
        wide = self.pattern.shape[0] < self.pattern.shape[1]
        if not self._square and wide == (mode == "n"):
            # Fewer equations than unknowns: only a rank-deficient matrix leaves a residual.
            limit = max(100 * options.rtol, torch.finfo(b.dtype).eps ** 0.5)
            if info.residual > limit:
                info.inconsistency = info.residual
                self._deficient = True
                info.notes.append("rank deficient: the shortest least-squares solution")
        return x, info

    def _direct(
        self,
        backend: Backend,
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
        factored = self._factored(backend, candidate, values, mark, options, matched)
        x, error, steps, check = refined(
            self.pattern, factored, values, b, mode, truth, self._known
        )
        if factored.perturbed and not error[1] <= ACCEPT * torch.finfo(x.dtype).eps:
            better = self._safer(factored, candidate, values, mark, matched)
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
        info.estimate_rcond = partial(
            self._aside()._rcond, backend, candidate, mark, options, matched
        )
        return x, info, check

    def _iterative(
        self,
        backend: Backend,
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
        numeric = self._numeric(backend, candidate, values, mark, options)
        clean: Callable[[Tensor], Tensor] | None = None
        if self.nullspace is not None:
            clean = partial(self.nullspace.project, left=mode != "n")
            options = replace(options, project=clean)
        check = Residual(self.pattern, values, b, truth, known=self._known)
        count("solve")
        done = backend.solve(numeric, values, b, mode, options=options, x0=x0)
        x = done.x if clean is None else clean(done.x)
        estimate: Callable[[Tensor], float | None] | None = None
        if self._square and clean is None:
            estimate = partial(self._aside()._krylov_rcond, backend, candidate, mark, options)
        info = SolveInfo(
            done.result,
            done.iterations,
            history=list(done.history),
            notes=list(numeric.notes),
            matrix=values,
            estimate_rcond=estimate,
        )
        error = check(x)
        for _ in range(_RESUMES):
            if info.result is not Result.CONVERGED or check.met(options):
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

    # --- what is kept --------------------------------------------------------------------------

    @cached_property
    def _marks(self) -> tuple[Hashable, ...]:
        s, pins = self.structure, None
        if self.nullspace is not None:
            pins = tuple(self.nullspace.pins.tolist())
        return (s.symmetric, s.hermitian, s.positive_definite, self.pattern.key, pins)

    @cached_property
    def _vectors_mark(self) -> Hashable:
        return self.structure.vectors_mark

    @cached_property
    def _ordering_mark(self) -> Hashable:
        return self.structure.ordering_mark

    def _base(self, candidate: Candidate) -> Hashable:
        """All that an analysis depends on: factors on an ordering, preconditioners on vectors."""
        direct = self._is_direct(candidate)
        return (candidate, *self._marks, self._ordering_mark if direct else self._vectors_mark)

    def _symbolic(self, backend: Backend, candidate: Candidate) -> Symbolic:
        def analyze() -> Symbolic:
            return backend.analyze(self.pattern, candidate.method, self.structure)

        return symbolics.get(self._base(candidate), analyze)

    def _factored(
        self,
        backend: Backend,
        candidate: Candidate,
        values: Tensor,
        mark: Hashable,
        options: SolveOptions,
        matched: bool = False,
    ) -> Factored:
        family = (self._base(candidate), values.dtype)

        def factorize() -> Factored:
            count("factorize")
            if backend.capabilities.recycles:
                numerics.retire(family, _SPARE)
            symbolic = self._symbolic(backend, candidate)
            made = Factored(backend, symbolic, values, options, self.nullspace, matched=matched)
            if made.doubtful and self._pivots(candidate) and self.nullspace is None:
                other = Factored(backend, symbolic, values, options, None, matched=True)
                made = other if other.growth < 1e-2 * made.growth else made
            return made

        place = str(values.device)
        return numerics.get((*family, mark, matched), factorize, self, place=place)

    def _safer(
        self,
        factored: Factored,
        candidate: Candidate,
        values: Tensor,
        mark: Hashable,
        matched: bool,
    ) -> Factored | None:
        """Better factors under a key of their own, so that what was solved before changes nothing."""

        def factorize() -> Factored:
            count("factorize")
            better = factored.safer(values)
            return factored if better is None else better

        key = (self._base(candidate), values.dtype, mark, matched, "safer")
        found = numerics.get(key, factorize, place=str(values.device))
        return None if found.numeric is factored.numeric else found

    def _factored_batch(
        self,
        backend: Backend,
        candidate: Candidate,
        values: Tensor,
        marks: Sequence[Hashable],
        options: SolveOptions,
    ) -> FactoredBatch:
        family = (self._base(candidate), values.dtype, "together")

        def factorize() -> FactoredBatch:
            count("factorize", len(values))
            # Factors of many matrices are large, and new values the usual next step.
            numerics.retire(family, 0)
            symbolic = self._symbolic(backend, candidate)
            made = backend.factorize_batch(symbolic, values, options)
            return FactoredBatch(backend, made, values, options)

        place = str(values.device)
        return numerics.get((*family, tuple(marks)), factorize, self, place=place)

    def _numeric(
        self,
        backend: Backend,
        candidate: Candidate,
        values: Tensor,
        mark: Hashable,
        options: SolveOptions,
    ) -> Numeric:
        family = (self._base(candidate), values.dtype)

        def factorize() -> Numeric:
            count("factorize")
            numerics.retire(family, _SPARE)
            made = backend.factorize(self._symbolic(backend, candidate), values, options)
            symbolics.measure(self._base(candidate))  # a preconditioner may leave a skeleton there
            return made

        made = options.preconditioner
        tag: Hashable = made if isinstance(made, Hashable) else _Same(made)
        key = (*family, mark, tag)
        found = numerics.get(key, factorize, self, place=str(values.device))
        if found.payload is None:
            # Nothing to keep, but the pattern would be kept with it.
            numerics.drop(key)
        return found

    def _rcond(
        self,
        backend: Backend,
        candidate: Candidate,
        mark: Hashable,
        options: SolveOptions,
        matched: bool,
        values: Tensor,
    ) -> float | None:
        """Estimate the reciprocal condition number, unless the values have changed meanwhile."""
        if kernels.fingerprint(values) != mark:
            return None
        return self._factored(backend, candidate, values, mark, options, matched).rcond(values)

    def _krylov_rcond(
        self,
        backend: Backend,
        candidate: Candidate,
        mark: Hashable,
        options: SolveOptions,
        values: Tensor,
    ) -> float | None:
        """Estimate it by rough solves of an iterative method; None where one of them fails."""
        if kernels.fingerprint(values) != mark:
            return None
        numeric = self._numeric(backend, candidate, values, mark, options)
        rough = replace(options, rtol=_ROUGH, atol=0.0, maxiter=None)

        def solve(mode: Mode) -> Callable[[Tensor], Tensor]:
            def run(v: Tensor) -> Tensor:
                done = backend.solve(numeric, values, v, mode, options=rough)
                if not done.result.ok:
                    raise SolveError(done.result, "a rough solve for the condition number")
                return done.x

            return run

        try:
            inverse = inverse_norm(
                solve("n"), solve("h"), values.new_empty(self.pattern.shape[0], 1)
            )
        except SolveError:
            return None
        size = float(column_norm(self.pattern, values)) * inverse
        return 1 / size if size > 0 else 1.0


@dataclass(frozen=True, eq=False)
class _Same:
    """Something without a hash as a key, by identity; kept alive, lest another take its place."""

    it: object

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.it is other.it

    def __hash__(self) -> int:
        return id(self.it)


def _look(values: Tensor | Known, b: Tensor) -> tuple[bool, bool, bool]:
    """Whether all is finite, `b` is zero or empty, and has columns of extreme size; one wait for a device."""
    entry = values.entry if isinstance(values, Known) else largest_entry(values)
    if not b.numel():
        return isfinite(entry), True, False
    columns = (
        torch.view_as_real(b.resolve_conj()).movedim(1, -1).flatten(0, 1) if b.is_complex() else b
    )
    sizes = largest_entries(columns)  # NaN where there is one
    largest, *found = torch.cat([entry.reshape(1), sizes]).tolist()
    bound = _bound(b)
    finite = isfinite(largest) and all(isfinite(size) for size in found)
    extreme = any(size > bound or 0 < size < 1 / bound for size in found)
    return finite, not any(found), extreme


def _bound(b: Tensor) -> float:
    return float(torch.finfo(b.dtype).max ** 0.25)


def _powers(b: Tensor) -> Tensor:
    """Powers of two ``[K]`` that bring extreme columns to about one.

    Squares of such numbers over- or underflow, so that norms would be inf or 0. The absolute tolerance
    has to be divided by the largest of them, which tightens it for the others.
    """
    size, bound = torch.linalg.vector_norm(b, torch.inf, dim=0), _bound(b)
    extreme = (size > bound) | ((size < 1 / bound) & (size > 0))
    powers = torch.exp2(torch.log2(size.clamp(min=torch.finfo(size.dtype).tiny)).round())
    return torch.where(extreme, powers, 1.0)
