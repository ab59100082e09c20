"""Our own supernodal solver: Cholesky, and LDL with 1x1 and 2x2 pivots inside supernodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch

from torch_sla.errors import Result, SolveError
from torch_sla.linalg.backends import native_lanes, native_lu
from torch_sla.linalg.backends.analyses import Analyses, analyses_of
from torch_sla.linalg.backends.base import (
    Backend,
    Capabilities,
    Counts,
    Method,
    Mode,
    Numeric,
    Solution,
    SolveOptions,
    Symbolic,
)
from torch_sla.linalg.backends.native_lanes import Lane, placed_analyses
from torch_sla.linalg.kernels import cholesky as kernels, lu, unavailable

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.kernels.lanes import LaneFactor
    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.structure import Structure

__all__ = ["Native"]

# Work that a safer factorisation may take, in terms of the first, some flops being free.
_MORE, _FREE = 8.0, 1e8


class Native(Backend):
    """Multifrontal factorisation on dense kernels, ordered by minimum degree or nested dissection.

    ``cholesky`` needs a positive definite matrix and names the row where it meets another. ``ldlt``
    takes Hermitian matrices and complex symmetric ones; it scales by powers of two, pairs rows that
    have no usable diagonal before ordering, and replaces what pivots remain negligible, which it
    notes and the caller's refinement repairs. Where that is not enough, `safer` gives such pivots more
    to choose from. ``static_lu`` is for unsymmetric matrices and takes its pivots from the rows of each
    front, in batches from the diagonal; one that does not come out well is refused.

    Batches of real matrices with small fronts are factorised in the lanes of registers, see
    `backends.native_lanes`.
    """

    name = "native"
    capabilities = Capabilities(
        methods=(
            Method("cholesky", "direct", "positive_definite", aliases=("llt",)),
            Method("ldlt", "direct", "symmetric"),
            Method("static_lu", "direct", pivots=False),
        ),
        batched=True,
    )

    def unavailable(self) -> str | None:
        return unavailable()

    def analyze(self, pattern: Pattern, method: str, structure: Structure) -> Symbolic:
        if method == "static_lu":
            if not pattern.whole_diagonal:
                raise SolveError(
                    Result.BREAKDOWN,
                    "static_lu looks for pivots near the diagonal, and some rows have no entry there; "
                    "method='lu' pivots anywhere",
                )
            shared = placed_analyses(pattern, structure)
            shared.analyses.get()
            return Symbolic(pattern, method, structure, shared, shared.nbytes)
        if not pattern.symmetric:
            raise SolveError(
                Result.BREAKDOWN,
                f"{method} needs entries at symmetric positions; some have no mirror",
            )
        analyses = analyses_of(pattern, structure)
        if method == "cholesky" or pattern.whole_diagonal:
            analyses.get()
        return Symbolic(pattern, method, structure, analyses, analyses.nbytes)

    def counts(self, pattern: Pattern, structure: Structure) -> Counts | None:
        if self.unavailable() is not None or not pattern.symmetric or not pattern.whole_diagonal:
            return None
        a = analyses_of(pattern, structure).get()
        return Counts(
            a.factor_nnz,
            a.flops,
            a.factor_bytes(torch.float64) // 8,
            a.working_bytes(torch.float64, 1) // 8,
            a.supernodes,
            a.front_flops,
            a.ordering == "dissection",
            a.nbytes,
        )

    def factorize(self, symbolic: Symbolic, values: Tensor, options: SolveOptions) -> Numeric:
        made = self.factorize_batch(symbolic, values.unsqueeze(0), options)[0]
        if made is None:
            raise SolveError(
                Result.BREAKDOWN,
                "pivots inside fronts leave too large an error; method='lu' pivots anywhere",
            )
        return made

    def factorize_batch(
        self, symbolic: Symbolic, values: Tensor, options: SolveOptions
    ) -> list[Numeric | None]:
        del options
        if native_lanes.suits(symbolic, values):
            return native_lanes.factorize(symbolic, values)
        if symbolic.method == "static_lu":
            return native_lu.factorize(symbolic, values)
        pattern, structure = symbolic.pattern, symbolic.structure
        analyses: Analyses = symbolic.payload
        if symbolic.method == "cholesky":
            made = kernels.factorize(analyses.get(), values[0] if len(values) == 1 else values)
            return [_numeric(symbolic, f) for f in (made if isinstance(made, list) else [made])]
        transposed = values.is_complex() and structure.hermitian is not True and structure.symmetric
        kind: kernels.Kind = "symmetric" if transposed else "hermitian"
        scale, scaled = _scale(pattern, values)
        # Pairs are those of the first member; another's weak pivots are replaced, and noted.
        mates = kernels.weak_pairs(pattern.crow, pattern.ccol, scaled[0])
        found = kernels.factorize(analyses.get(mates), scaled, kind, scale=scale)
        return [_numeric(symbolic, f) for f in (found if isinstance(found, list) else [found])]

    def safer(self, numeric: Numeric, values: Tensor, options: SolveOptions) -> Numeric | None:
        """Factorise again with larger fronts, where pivots had to be replaced for want of choice.

        A front can only pivot among its own columns. Where none of them served, it joins its parent, which
        is what delaying the pivot comes to, on a structure that the marks determine and analyses share.
        Given up when that has multiplied the work.
        """
        del options
        symbolic = numeric.symbolic
        factor = numeric.payload
        if (
            not isinstance(factor, kernels.Factor)
            or not factor.perturbed
            or not factor.stuck.numel()
        ):
            return None
        pattern, analyses = symbolic.pattern, symbolic.payload
        scale, scaled = kernels.symmetric_scale(pattern.crow, pattern.ccol, values)
        mates = kernels.weak_pairs(pattern.crow, pattern.ccol, scaled)
        best, spent = factor, 0.0
        limit = _MORE * factor.analysis.front_flops + _FREE
        marks = factor.stuck
        while factor.perturbed and factor.stuck.numel():
            analysis = analyses.get(mates, marks)
            spent += analysis.front_flops
            if spent > limit:
                break
            made = kernels.factorize(analysis, scaled, factor.kind, scale=scale)
            factor = cast("kernels.Factor", made)
            best = factor if factor.perturbed < best.perturbed else best
            marks = torch.unique(torch.cat([marks, factor.stuck]))
        return None if best is numeric.payload else _numeric(symbolic, best)

    def solve(
        self,
        numeric: Numeric,
        values: Tensor,
        b: Tensor,
        mode: Mode = "n",
        *,
        options: SolveOptions,
        x0: Tensor | None = None,
    ) -> Solution:
        del values, options, x0
        return Solution(numeric.payload.solve(b, mode))

    def solve_batch(
        self,
        numerics: list[Numeric],
        values: Tensor,
        b: Tensor,
        mode: Mode = "n",
        *,
        options: SolveOptions,
    ) -> Tensor:
        del values, options
        factors = [numeric.payload for numeric in numerics]
        first = factors[0]
        if isinstance(first, lu.LuFactor):
            return lu.solve_batch(factors, b, mode)
        if not isinstance(first, Lane):
            return kernels.solve_batch(factors, b, mode)
        listed = native_lanes.listed(factors)
        if listed is None:
            alone = zip(factors, b, strict=True)
            return torch.stack([lane.solve(part, mode) for lane, part in alone])
        return first.batch.solve(listed, b, mode)

    def solve_batch_measured(
        self,
        numerics: list[Numeric],
        values: Tensor,
        b: Tensor,
        mode: Mode,
        truth: Mode,
        *,
        options: SolveOptions,
    ) -> tuple[Tensor, Tensor] | None:
        del options
        first = numerics[0]
        listed = native_lanes.listed([numeric.payload for numeric in numerics])
        if listed is None:
            return None
        places = placed_analyses(first.symbolic.pattern, first.symbolic.structure).places
        batch: LaneFactor = first.payload.batch
        return batch.solve_measured(
            listed, b, places.crow, places.ccol, values, mode=mode, truth=truth
        )

    def slogdet(self, numeric: Numeric) -> tuple[Tensor, Tensor] | None:
        if isinstance(numeric.payload, Lane):
            lane = numeric.payload
            sign, log = lane.batch.slogdet(lane.member)
            kept = torch.tensor(log, dtype=torch.float64)
            return torch.tensor(sign, dtype=lane.batch.dtype), kept
        factor = numeric.payload
        if not isinstance(factor, lu.LuFactor):
            factor = _exact(numeric, "the determinant")
        phase, log = factor.slogdet
        real = not isinstance(factor, lu.LuFactor) and factor.kind != "symmetric"
        kind = factor.dtype.to_real() if real else factor.dtype
        value = phase if kind.is_complex else phase.real
        return torch.tensor(value, dtype=kind), torch.tensor(log, dtype=torch.float64)

    def inertia(self, numeric: Numeric) -> tuple[int, int, int] | None:
        if numeric.symbolic.method == "static_lu":
            return None
        return _exact(numeric, "the inertia").inertia

    def selected_inverse(self, numeric: Numeric) -> Tensor | None:
        if numeric.symbolic.method == "static_lu":
            return None
        factor = _alone(numeric)
        if factor.perturbed:
            return None
        pattern = numeric.symbolic.pattern
        mirror = pattern.transpose_permutation.long()
        half, filled = factor.selected_inverse()
        other = half[mirror]
        whole = torch.where(filled, half, other if factor.kind == "symmetric" else other.conj())
        return whole[mirror]


def _numeric(symbolic: Symbolic, factor: kernels.Factor) -> Numeric:
    lost = factor.perturbed
    notes = (f"{lost} negligible pivot(s) replaced",) if lost else ()
    return Numeric(symbolic, factor, factor.nbytes, notes, perturbed=lost > 0)


def _scale(pattern: Pattern, values: Tensor) -> tuple[Tensor, Tensor]:
    """Symmetric scaling of ``[B, nnz]`` values: scales ``[B, n]`` and scaled values."""
    pairs = [kernels.symmetric_scale(pattern.crow, pattern.ccol, item) for item in values]
    return torch.stack([s for s, _ in pairs]), torch.stack([a for _, a in pairs])


def _alone(numeric: Numeric) -> kernels.Factor:
    factor: kernels.Factor | Lane = numeric.payload
    return factor.alone if isinstance(factor, Lane) else factor


def _exact(numeric: Numeric, what: str) -> kernels.Factor:
    """Return the factor, unless pivots were replaced, which solutions survive and `what` does not."""
    factor = _alone(numeric)
    if factor.perturbed:
        raise SolveError(
            Result.SINGULAR, f"negligible pivots were replaced, so {what} is not known"
        )
    return factor
