"""Carrying out a plan: one solve and its adjoints, of one matrix or of many."""

from __future__ import annotations

from copy import copy
from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.errors import GradientError, SolveError
from torch_sla.linalg.adjoint.solve import Whole
from torch_sla.linalg.attempts import Attempts, System, started
from torch_sla.linalg.backends.registry import backend as get_backend
from torch_sla.linalg.checks import ask, gathers, read, settle
from torch_sla.linalg.extremes import unseen
from torch_sla.linalg.info import SolveInfo, unsolved
from torch_sla.linalg.kept import is_direct
from torch_sla.linalg.kernels import sparse as kernels
from torch_sla.linalg.kernels.detection import all_finite, largest_entry
from torch_sla.linalg.kernels.threads import spread
from torch_sla.linalg.sparse.transforms import outside_autocast
from torch_sla.linalg.together import factorize_together, iterate_together

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from torch_sla.linalg.backends.base import SolveOptions
    from torch_sla.linalg.known import Known
    from torch_sla.linalg.nullspace import Nullspace
    from torch_sla.linalg.plan.plan import SolvePlan
    from torch_sla.linalg.sparse.marked import Marked
    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.structure import Structure

__all__ = ["SolverState"]

# Entries of a member of a batch from which on members go in threads: below, the interpreter decides.
MEMBER = 20_000


class SolverState(Attempts, Whole):
    """One solve and its adjoints: same plan, same values, same factors.

    The graph node of a solve holds this object, not the factors: those sit in the bounded cache
    under a fingerprint of the values, and are made again from the saved values when they were
    evicted.

    Parameters
    ----------
    pattern, structure, plan, options, adjoint_options, nullspace, known
        As for `Attempts`.
    throw
        Whether a failed forward solve raises. Adjoint solves always do.
    x0
        Starting value ``[N, K]`` of iterative methods, forward solve only.
    marked
        Values whose fingerprint was taken just now, for the first run.
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
        marked: Marked | None = None,
    ) -> None:
        super().__init__(
            pattern, structure, plan, options, adjoint_options, nullspace=nullspace, known=known
        )
        self.throw, self.x0, self._marked = throw, x0, marked
        self.info = SolveInfo(plan=plan)
        self.adjoint_info = SolveInfo(plan=plan)
        self._prints: tuple[Hashable, ...] | None = None
        self._unsolved: set[Hashable] = set()
        self._finite = True

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

    @property
    def failed(self) -> bool:
        """Whether some member has no solution, as `throw` being False allows."""
        return bool(self._unsolved)

    def solved(self, batch: tuple[int, ...]) -> Tensor:
        """Return which members of a batch have a solution, bool ``[*batch]``."""
        every = [mark not in self._unsolved for mark in self._prints or ()]
        if len(every) != prod(batch):  # as under transforms, which have members of their own
            every = [all(every)] * prod(batch)
        return torch.tensor(every, dtype=torch.bool).reshape(batch)

    @outside_autocast
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
        columns = b
        if values.ndim == 1:
            columns = b if b.ndim == 2 else b.movedim(0, 1).flatten(1)
            # The cotangent of a sum is one number seen many times; everything below would copy it anew.
            columns = columns.contiguous()
        prints, seen = self._look(values, items, columns)
        if self._prints is None:
            self._prints = tuple(prints)
            if self.nullspace is not None:
                for item in items:
                    self.nullspace.check(self.pattern, item)
        elif not _unchanged(self._prints, prints):
            raise _modified()
        elif self._unsolved:
            self._require_solved(prints, b.unsqueeze(0) if values.ndim == 1 else b)
        if values.ndim == 1:
            begin = self.x0 if first else start
            system = System(values, prints[0], columns, adjoint, begin, seen, not first)
            x = self._settled(*self._attempted(system, first), adjoint, first)
            self.x0 = None  # of the first run alone: what lives on needs no memory for it
            return x if b.ndim == 2 else x.unflatten(1, (b.shape[0], b.shape[2])).movedim(1, 0)
        found, alone = self._together(items, prints, b, adjoint, first)
        n = self.pattern.shape[0 if adjoint else 1]
        out = b.new_empty(b.shape[0], n, b.shape[2]) if found is None else found

        def attempt(i: int) -> tuple[SolveInfo, Tensor]:
            x0 = self.x0 if self.x0 is None or self.x0.ndim == 2 else self.x0[i]
            system = System(items[i], prints[i], b[i], adjoint, x0, derivative=not first)
            return self._attempted(system, first)

        for i, (info, x) in zip(alone, self._each(attempt, alone, items, adjoint), strict=True):
            out[i] = self._settled(info, x, adjoint, first)
        self.x0 = None
        return out

    def _look(
        self, values: Tensor, items: Tensor, b: Tensor
    ) -> tuple[list[Hashable], Sequence[float]]:
        """Return fingerprints, and of one matrix `System.seen` where a device told it with that."""
        marked, self._marked = self._marked, None  # of the first run alone
        if self._known is not None:
            return [self._known.mark], ()
        told = None if marked is None or values.ndim > 1 else marked.mark_of(values)
        if told is not None and marked is not None:
            return [told], marked.beside
        if values.ndim > 1 or values.is_cpu:
            return list(kernels.fingerprints(items)), ()
        (unread,), prints = kernels.unread_fingerprints(values), list(self._prints or ())
        if len(prints) == 1 and gathers(values):
            # That it is still the same matrix is read with what is read next.
            mark = prints[0]
            ask(unread.words, lambda found: None if unread.told(found) == mark else _modified)
            return prints, ()
        numbers = read(unread.words, *unseen(largest_entry(values), b))
        size = unread.words.numel()
        return [unread.told(numbers[:size])], numbers[size:]

    def _require_solved(self, marks: Sequence[Hashable], b: Tensor) -> None:
        """Refuse derivatives of solutions that are none, of members that the loss looks at."""
        for mark, rhs in zip(marks, b, strict=True):
            if mark in self._unsolved and bool((rhs != 0).any()):
                raise unsolved()

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
        options = self._tolerances(adjoint, not first, b.dtype)
        modes = self._modes(adjoint)
        if is_direct(candidate):
            if first:
                self._finite = bool(all_finite(values))
            if self._finite:
                found = factorize_together(self, candidate, values, marks, b, modes, options)
        else:
            x0 = None if self.x0 is None else started(self.x0, b)
            found = iterate_together(self, candidate, values, marks, b, modes, options, x0)
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

    def _attempted(self, system: System, first: bool) -> tuple[SolveInfo, Tensor]:
        if not first and system.mark in self._unsolved:
            # Its right-hand sides are zero, see `_require_solved`, and the matrix may be what failed.
            shape = (self.pattern.shape[0 if system.adjoint else 1], system.b.shape[1])
            choice = self.plan.choice
            info = SolveInfo(method=choice.method, backend=choice.backend)
            return info, system.b.new_zeros(shape)
        lost = 0.0
        if self.nullspace is not None and bool(torch.isfinite(system.b).all()):
            b, lost = self.nullspace.consistent(system.b, left=not system.adjoint)
            system = system._replace(b=b, seen=())
        info, x = self.attempt(system)
        info.inconsistency = max(lost, info.inconsistency)
        if first and not self.throw and not info.result.ok:
            self._unsolved.add(system.mark)
        if lost > 1e3 * torch.finfo(x.dtype).eps and first:
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


def _unchanged(before: tuple[Hashable, ...], now: Sequence[Hashable]) -> bool:
    """Whether members are what they were, each in its place; more of them, under `torch.vmap`, are copies."""
    if len(now) == len(before):
        return tuple(now) == before
    return set(before).issuperset(now)


def _modified() -> GradientError:
    return GradientError(
        "the matrix values were modified in place between the solve and its derivative; "
        "clone them before changing them"
    )
