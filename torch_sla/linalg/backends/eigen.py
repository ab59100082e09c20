"""Eigen's sparse solvers, compiled into the extension: simplicial Cholesky, LU, CG and BiCGSTAB."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from torch_sla.errors import Result, SolveError
from torch_sla.linalg.backends.base import (
    Backend,
    Capabilities,
    Method,
    Mode,
    Numeric,
    Solution,
    SolveOptions,
    Symbolic,
)
from torch_sla.linalg.factor_cache import count
from torch_sla.linalg.kernels import eigen as kernels, unavailable
from torch_sla.linalg.kernels.threads import spread

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.structure import Structure

__all__ = ["Eigen"]

# Operations of a factorisation per entry of the matrix, at least.
_PER_ENTRY = 100

_DIRECT: dict[str, kernels.DirectMethod] = {"cholesky": "llt", "ldlt": "ldlt", "lu": "lu"}


class Eigen(Backend):
    """Scalar (simplicial) factorisations: quick on small and two-dimensional problems."""

    name = "eigen"
    capabilities = Capabilities(
        methods=(
            Method("cholesky", "direct", "positive_definite", aliases=("llt",)),
            Method("ldlt", "direct", "hermitian", pivots=False),
            Method("lu", "direct"),
            Method("cg", "iterative", "positive_definite", ("ichol", "jacobi", "none")),
            Method("bicgstab", "iterative", "general", ("ilu", "jacobi", "none")),
        ),
        batched=True,
    )

    def unavailable(self) -> str | None:
        return unavailable()

    def analyze(self, pattern: Pattern, method: str, structure: Structure) -> Symbolic:
        if method not in _DIRECT:
            return Symbolic(pattern, method, structure)
        if method != "lu" and not pattern.symmetric:
            raise SolveError(
                Result.BREAKDOWN,
                f"{method} needs entries at symmetric positions; some have no mirror",
            )
        count("analyze")
        try:
            analysis = kernels.analyze(_DIRECT[method], pattern.crow, pattern.ccol)
        except MemoryError as error:
            raise SolveError(Result.OUT_OF_MEMORY, str(error)) from error
        return Symbolic(pattern, method, structure, analysis, analysis.nbytes)

    def factorize(self, symbolic: Symbolic, values: Tensor, options: SolveOptions) -> Numeric:
        if symbolic.method not in _DIRECT:
            return self._preconditioner(symbolic, values, options)
        pattern = symbolic.pattern
        if symbolic.method == "lu" and pattern.nnz_csr < pattern.shape[0]:
            # With next to no entries Eigen estimates factors of no size, and grows them without end.
            row = int((pattern.crow.diff() == 0).nonzero()[0])
            raise SolveError(Result.SINGULAR, f"structurally singular: row {row} has no entries")
        try:
            factor = symbolic.payload.factorize(values)
        except MemoryError as error:
            raise SolveError(Result.OUT_OF_MEMORY, "the factor does not fit into memory") from error
        if factor.result.ok:
            return Numeric(symbolic, factor, factor.nbytes)
        where = "" if factor.pivot is None else f" in row {factor.pivot}"
        if symbolic.method == "ldlt" and factor.result is Result.SINGULAR:
            raise SolveError(
                Result.BREAKDOWN, f"zero pivot{where}, and this factorisation does not pivot"
            )
        raise SolveError(factor.result, f"the factorisation stopped{where}")

    def factorize_batch(
        self, symbolic: Symbolic, values: Tensor, options: SolveOptions
    ) -> list[Numeric | None]:
        work = _PER_ENTRY * values.numel()
        return spread(lambda member: self.factorize(symbolic, member, options), values, work)

    def solve_batch(
        self,
        numerics: list[Numeric],
        values: Tensor,
        b: Tensor,
        mode: Mode = "n",
        *,
        options: SolveOptions,
    ) -> Tensor:
        def substitute(k: int) -> Tensor:
            return numerics[k].payload.solve(b[k], mode)

        work = 10 * values.numel() * b.shape[-1]
        return torch.stack(spread(substitute, range(len(numerics)), work))

    def _preconditioner(self, symbolic: Symbolic, values: Tensor, options: SolveOptions) -> Numeric:
        kind = options.preconditioner
        kind = kind if isinstance(kind, str) else "none"
        pattern, method = symbolic.pattern, symbolic.method
        made = kernels.krylov(
            "cg" if method == "cg" else "bicgstab", kind, pattern.crow, pattern.ccol, values
        )
        if not made.ready:
            raise SolveError(Result.BREAKDOWN, f"the {kind} preconditioner could not be built")
        return Numeric(symbolic, made, made.nbytes)

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
        if isinstance(numeric.payload, kernels.Factor):
            return Solution(numeric.payload.solve(b, mode))
        made: kernels.Krylov = numeric.payload
        pattern = numeric.symbolic.pattern
        if mode != "n":
            values = pattern.transpose_values(values)
            values = values.conj().resolve_conj() if mode == "h" else values
            pattern = pattern.transposed
            if numeric.symbolic.method != "cg" or mode == "t":
                turned = Symbolic(pattern, numeric.symbolic.method, numeric.symbolic.structure)
                made = self._preconditioner(turned, values, options).payload
        # One relative tolerance serves all columns, so the largest decides what atol allows.
        largest = float(torch.linalg.vector_norm(b, dim=0).max())
        absolute = options.atol / largest if largest > 0 else 0.0
        done = made.solve(
            pattern.crow,
            pattern.ccol,
            values,
            b,
            rtol=max(options.rtol, absolute),
            maxiter=options.maxiter or max(10 * b.shape[0], 50),
            x0=x0,
        )
        # Eigen's CG does not count the step that converges.
        last = int(numeric.symbolic.method == "cg" and done.result.ok)
        steps = max(done.iterations, default=0) + last
        told = [column for column in done.histories if column]
        history = [
            max(column[min(step, len(column) - 1)] for column in told)
            for step in range(max(map(len, told), default=0))
        ]
        return Solution(done.x, steps, history, done.result)

    def slogdet(self, numeric: Numeric) -> tuple[Tensor, Tensor] | None:
        factor = numeric.payload
        return factor.slogdet() if isinstance(factor, kernels.Factor) else None

    def inertia(self, numeric: Numeric) -> tuple[int, int, int] | None:
        factor = numeric.payload
        if not isinstance(factor, kernels.Factor) or numeric.symbolic.method == "lu":
            return None
        pivots = factor.pivots().real
        below = int((pivots < 0).sum())
        return pivots.numel() - below, below, 0
