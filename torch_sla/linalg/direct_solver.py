"""One matrix and its factor, for what solves with it again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.errors import PlanError, Result, SolveError
from torch_sla.linalg.backends.base import Numeric, SolveOptions
from torch_sla.linalg.backends.registry import backend as get_backend
from torch_sla.linalg.batches import FactoredBatch
from torch_sla.linalg.direct import Factored, suspicious
from torch_sla.linalg.factor_cache import count
from torch_sla.linalg.kept import Kept, pivots
from torch_sla.linalg.kernels import sparse as kernels
from torch_sla.linalg.solve import default_rtol
from torch_sla.linalg.sparse.transforms import outside_transforms, physical
from torch_sla.linalg.state import SolverState

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from torch_sla.linalg.plan.plan import SolvePlan
    from torch_sla.linalg.plan.rules import Candidate
    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.structure import Structure

__all__ = ["DirectSolver"]


class DirectSolver(SolverState):
    """One matrix and its factor, kept for as long as this object lives.

    What graph nodes of solves, inverses and determinants hold. The factor is not in the bounded
    cache alone, so it is never made twice.

    Parameters
    ----------
    pattern, structure, plan
        As for `SolverState`; the plan names a direct method.
    values
        ``[nnz_csr]``.
    kept
        Factors made already, by the fingerprints of their values.
    """

    def __init__(
        self,
        pattern: Pattern,
        structure: Structure,
        plan: SolvePlan,
        values: Tensor,
        kept: dict[Hashable, Numeric] | None = None,
    ) -> None:
        options = SolveOptions(default_rtol(values.dtype))
        super().__init__(pattern, structure, plan, options)
        self._kept = {} if kept is None else kept
        self._growth: dict[Hashable, float] = {}
        self._batch: dict[Hashable, FactoredBatch] = {}
        self._values = physical(values)
        self.singular = False
        if not torch.isfinite(self._values).all():
            raise SolveError(Result.NONFINITE, "NaN or infinity in the matrix")
        self.numeric = self.numeric_of(
            plan.choice,
            self._values,
            kernels.fingerprint(self._values),
            options,
        )
        if self.numeric.perturbed:
            # Determinants and inertia need pivots of the matrix itself.
            backend = get_backend(plan.backend)
            better = backend.safer(self.numeric, self._values, options)
            if better is not None:
                self._kept[kernels.fingerprint(self._values)] = self.numeric = better

    @classmethod
    def several(
        cls, pattern: Pattern, structure: Structure, plan: SolvePlan, values: Tensor
    ) -> list[DirectSolver]:
        """Factorise values ``[B, nnz_csr]`` together; each solver knows the factors of all."""
        kept: dict[Hashable, Numeric] = {}
        if len(values) > 1 and bool(torch.isfinite(values).all()):
            options = SolveOptions(default_rtol(values.dtype))
            backend = get_backend(plan.backend)
            symbolic = Kept(pattern, structure).symbolic_of(plan.choice)
            count("factorize", len(values))
            numerics = backend.factorize_batch(symbolic, values, options)
            marks = map(kernels.fingerprint, values)
            made = zip(marks, numerics, strict=True)
            kept = {mark: numeric for mark, numeric in made if numeric is not None}
        solvers = []
        for k, member in enumerate(values):
            try:
                solvers.append(cls(pattern, structure, plan, member, kept))
            except SolveError as error:
                if len(values) == 1:
                    raise
                raise SolveError(error.result, f"{error.detail} of member {k}") from error
        return solvers

    def numeric_of(
        self, candidate: Candidate, values: Tensor, mark: Hashable, options: SolveOptions
    ) -> Numeric:
        """As `Kept.numeric_of`, of factors that are never made twice."""
        if mark not in self._kept:
            self._kept[mark] = super().numeric_of(candidate, values, mark, options)
        return self._kept[mark]

    def factored(
        self,
        candidate: Candidate,
        values: Tensor,
        mark: Hashable,
        options: SolveOptions,
        matched: bool = False,
    ) -> Factored:
        """Return the factor at hand, or, where a probe grows, one with scales that has been proved.

        Determinants and inertia are read off the factor at hand, also of a singular matrix: it is only solves
        that need the proof.
        """
        if matched:  # the factor at hand failed
            return super().factored(candidate, values, mark, options, matched)
        numeric = self.numeric_of(candidate, values, mark, options)
        made = Factored.around(get_backend(candidate.backend), numeric, values, options)
        n = self.pattern.shape[0]
        if n and mark not in self._growth:
            self._growth[mark] = made.measured_growth(values)
        sound = not n or self._growth[mark] <= suspicious(n, values.dtype)
        if sound and not numeric.perturbed:
            return made
        try:
            return super().factored(candidate, values, mark, options)
        except SolveError as error:
            if error.result is not Result.SINGULAR or pivots(candidate):
                raise  # of what pivots, matched rows are the next attempt anyway
            return super().factored(candidate, values, mark, options, matched=True)

    def factored_batch(
        self,
        candidate: Candidate,
        values: Tensor,
        marks: Sequence[Hashable],
        options: SolveOptions,
    ) -> FactoredBatch:
        """Return the factors at hand together."""
        made = self._batch.get(tuple(marks))
        if made is None:
            known: list[Numeric | None] = [
                self.numeric_of(candidate, member, mark, options)
                for member, mark in zip(values, marks, strict=True)
            ]
            backend = get_backend(candidate.backend)
            made = FactoredBatch(backend, known, values, options, scaled=False)
            self._batch.clear()  # others are those of `torch.vmap`
            self._batch[tuple(marks)] = made
        return made

    def fresh(self) -> DirectSolver:
        """Return a solver on the same factor for another graph node."""
        other = object.__new__(DirectSolver)
        other.__dict__.update(self.__dict__)
        SolverState.__init__(other, self.pattern, self.structure, self.plan, self.options)
        return other

    def raw(self, b: Tensor, *, adjoint: bool = False) -> Tensor:
        """Solve without checking the residual, ``[n, K]``; for iterations that check their own."""
        mode = "h" if adjoint and not self.structure.hermitian else "n"
        backend = get_backend(self.plan.backend)
        return backend.solve(self.numeric, self._values, b, mode, options=self.options).x  # type: ignore[arg-type]

    @outside_transforms
    def slogdet(self) -> tuple[Tensor, Tensor]:
        """Sign or phase, and logarithm of the absolute value, of the determinant."""
        known = get_backend(self.plan.backend).slogdet(self.numeric)
        if known is None:
            raise PlanError(
                f"backend {self.plan.backend!r} does not tell determinants; use 'scipy', 'eigen' or 'native'"
            )
        return known

    def inertia(self) -> tuple[int, int, int] | None:
        """Numbers of positive, negative and zero eigenvalues, where the factor tells."""
        return get_backend(self.plan.backend).inertia(self.numeric)

    def selected_inverse(self, values: Tensor) -> Tensor | None:
        """Entries of ``A⁻ᵀ`` on the pattern, where the factor tells."""
        del values
        return get_backend(self.plan.backend).selected_inverse(self.numeric)
