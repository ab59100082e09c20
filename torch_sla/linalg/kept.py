"""What a plan keeps of its matrices: analyses and factors, from the bounded caches."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch_sla.errors import SolveError
from torch_sla.lazy import cached_property
from torch_sla.linalg.backends.registry import backend as get_backend
from torch_sla.linalg.batches import FactoredBatch
from torch_sla.linalg.direct import Factored, column_norm
from torch_sla.linalg.extremes import exponent, shifted
from torch_sla.linalg.factor_cache import count, numerics, symbolics
from torch_sla.linalg.kernels import sparse as kernels
from torch_sla.linalg.kernels.detection import largest_entry
from torch_sla.linalg.rcond import inverse_norm

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.backends.base import Mode, Numeric, SolveOptions, Symbolic
    from torch_sla.linalg.nullspace import Nullspace
    from torch_sla.linalg.plan.rules import Candidate
    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.structure import Structure

__all__ = ["Kept", "is_direct", "pivots"]

# Tolerance of the iterative solves that estimate a condition number.
_ROUGH = 1e-3
# Factors of other values that stay, of a backend whose old ones spare the new ones an analysis.
_FEW = 2


def is_direct(candidate: Candidate) -> bool:
    """Whether a candidate factorises."""
    method = get_backend(candidate.backend).capabilities.method(candidate.method)
    return method is not None and method.kind == "direct"


def pivots(candidate: Candidate) -> bool:
    """Whether it factorises matrices that are not known to be definite."""
    method = get_backend(candidate.backend).capabilities.method(candidate.method)
    return method is not None and method.kind == "direct" and method.needs != "positive_definite"


class Kept:
    """Analyses and factors of the matrices on one pattern, made when they are first asked for.

    The caches may drop any of them: they are made again from the values.

    Parameters
    ----------
    pattern, structure
        What is shared by the matrices.
    nullspace
        Declared nullspace, which factors are pinned by.
    user
        Who may ask again as long as it lives; None for this object.
    """

    def __init__(
        self,
        pattern: Pattern,
        structure: Structure,
        nullspace: Nullspace | None = None,
        user: Kept | None = None,
    ) -> None:
        self.pattern, self.structure, self.nullspace = pattern, structure, nullspace
        self._user = user

    @property
    def square(self) -> bool:
        """Whether there are as many rows as columns."""
        return self.pattern.shape[0] == self.pattern.shape[1]

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
        mark = self._ordering_mark if is_direct(candidate) else self._vectors_mark
        return (candidate, *self._marks, mark)

    def joined(self, times: int) -> Kept:
        """Return what is kept of the block diagonal matrices of so many of these, on their behalf."""
        name = ("joined", self.pattern.key, times)
        pattern = symbolics.get(name, lambda: self.pattern.repeated(times))
        return Kept(pattern, self.structure.repeated(times), user=self)

    def symbolic_of(self, candidate: Candidate) -> Symbolic:
        """Return the analysis of the pattern."""

        def analyze() -> Symbolic:
            backend = get_backend(candidate.backend)
            return backend.analyze(self.pattern, candidate.method, self.structure)

        return symbolics.get(self._base(candidate), analyze)

    def aside(self) -> Kept:
        """Return this object for a report: one that does not keep factors from being retired."""
        return copy(self)

    def factored(
        self,
        candidate: Candidate,
        values: Tensor,
        mark: Hashable,
        options: SolveOptions,
        matched: bool = False,
    ) -> Factored:
        """Return checked factors of slot values ``[nnz_csr]``, whose fingerprint is `mark`.

        With `matched` rows and columns were scaled, and rows permuted, by a matching first.
        """

        def factorize() -> Factored:
            count("factorize")
            backend, symbolic = get_backend(candidate.backend), self.symbolic_of(candidate)
            made = Factored(backend, symbolic, values, options, self.nullspace, matched=matched)
            if made.doubtful and pivots(candidate) and self.nullspace is None:
                other = Factored(backend, symbolic, values, options, None, matched=True)
                made = other if other.growth < 1e-2 * made.growth else made
            return made

        family = self._family(candidate, values)
        few = _FEW if get_backend(candidate.backend).capabilities.recycles else None
        return numerics.get(
            (*family, mark, matched),
            factorize,
            self,
            place=str(values.device),
            family=family,
            few=few,
        )

    def _family(self, candidate: Candidate, values: Tensor) -> tuple[Hashable, ...]:
        return self._base(candidate), values.dtype

    def kept_factors(
        self, candidate: Candidate, values: Tensor, mark: Hashable, matched: bool
    ) -> Factored | None:
        """Return what `factored` would, where it is there."""
        found = numerics.peek((*self._family(candidate, values), mark, matched), self)
        return found if isinstance(found, Factored) else None

    def safer(
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

        family = (*self._family(candidate, values), "safer")
        found = numerics.get(
            (*family, mark, matched), factorize, place=str(values.device), family=family
        )
        return None if found.numeric is factored.numeric else found

    def factored_batch(
        self,
        candidate: Candidate,
        values: Tensor,
        marks: Sequence[Hashable],
        options: SolveOptions,
    ) -> FactoredBatch:
        """Return the factors of values ``[B, nnz_csr]`` together."""

        def factorize() -> FactoredBatch:
            count("factorize", len(values))
            backend = get_backend(candidate.backend)
            made = backend.factorize_batch(self.symbolic_of(candidate), values, options)
            return FactoredBatch(backend, made, values, options)

        family = (*self._family(candidate, values), "together")
        few = 0 if get_backend(candidate.backend).capabilities.recycles else None
        return numerics.get(
            (*family, tuple(marks)),
            factorize,
            self,
            place=str(values.device),
            family=family,
            few=few,
        )

    def numeric_of(
        self, candidate: Candidate, values: Tensor, mark: Hashable, options: SolveOptions
    ) -> Numeric:
        """Return what the backend makes of the values as they are: factors, or a preconditioner."""

        def factorize() -> Numeric:
            count("factorize")
            backend = get_backend(candidate.backend)
            made = backend.factorize(self.symbolic_of(candidate), values, options)
            symbolics.measure(self._base(candidate))  # a preconditioner may leave a skeleton there
            return made

        made = options.preconditioner
        tag: Hashable = made if isinstance(made, Hashable) else _Same(made)
        family = self._family(candidate, values)
        key = (*family, mark, tag)
        user, place = self._user or self, str(values.device)
        found = numerics.get(key, factorize, user, place=place, family=family)
        if found.payload is None:
            # Nothing to keep, but the pattern would be kept with it.
            numerics.drop(key)
        return found

    def rcond(
        self,
        candidate: Candidate,
        mark: Hashable,
        options: SolveOptions,
        matched: bool,
        values: Tensor,
    ) -> float | None:
        """Estimate the reciprocal condition number, unless the values have changed meanwhile."""
        if kernels.fingerprint(values) != mark:
            return None
        if not self.square:
            values = _of_ordinary_size(values)
        return self.factored(candidate, values, mark, options, matched).rcond(values)

    def krylov_rcond(
        self,
        candidate: Candidate,
        mark: Hashable,
        options: SolveOptions,
        values: Tensor,
    ) -> float | None:
        """Estimate it by rough solves of an iterative method; None where one of them fails."""
        if kernels.fingerprint(values) != mark:
            return None
        values = _of_ordinary_size(values)
        backend = get_backend(candidate.backend)
        numeric = self.numeric_of(candidate, values, mark, options)
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
        size = column_norm(self.pattern, values) * inverse
        return 1 / size if size > 0 else 1.0


def _of_ordinary_size(values: Tensor) -> Tensor:
    """Return values as iterations and least squares are given them: extreme ones divided by a power of two."""
    return shifted(values, -exponent(float(largest_entry(values)), values))


@dataclass(frozen=True, eq=False)
class _Same:
    """Something without a hash as a key, by identity; kept alive, lest another take its place."""

    it: object

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.it is other.it

    def __hash__(self) -> int:
        return id(self.it)
