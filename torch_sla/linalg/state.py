"""Carrying out a plan: factors from the cache, the solve, and the check of its residual."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.errors import GradientError, Result, SolveError
from torch_sla.linalg.backends.registry import backend as get_backend
from torch_sla.linalg.factor_cache import count, numerics, symbolics
from torch_sla.linalg.info import SolveInfo
from torch_sla.linalg.kernels import sparse as kernels

if TYPE_CHECKING:
    from torch_sla.linalg.backends.base import Backend, Mode, Numeric, SolveOptions, Symbolic
    from torch_sla.linalg.plan.plan import SolvePlan
    from torch_sla.linalg.plan.rules import Candidate
    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.structure import Structure

__all__ = ["SolverState"]

# A direct solve is refined above the first multiple of eps of backward error and accepted below the
# second.
_REFINE, _ACCEPT, _STEPS = 8.0, 50.0, 4


class SolverState:
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
        Starting value ``[M, K]`` of iterative methods, forward solve only.
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
    ) -> None:
        self.pattern, self.structure, self.plan = pattern, structure, plan
        self.options, self.throw, self.x0 = options, throw, x0
        self.adjoint_options = adjoint_options or options
        self.info = SolveInfo(plan=plan)
        self.adjoint_info = SolveInfo(plan=plan)
        self._prints: frozenset[Hashable] | None = None

    def run(self, values: Tensor, b: Tensor, *, adjoint: bool) -> Tensor:
        """Solve ``A x = b`` or ``Aᴴ x = b``; shapes as in `LinearSolve`.

        Raises
        ------
        SolveError
            When a solve fails (forward: only with `throw`).
        GradientError
            When the values have changed since the first run.
        """
        values, b = values.detach(), b.detach()
        first = self._prints is None
        items = values.unsqueeze(0) if values.ndim == 1 else values
        prints = [kernels.fingerprint(item) for item in items]
        if self._prints is None:
            self._prints = frozenset(prints)
        elif not self._prints.issuperset(prints):
            raise GradientError(
                "the matrix values were modified in place between the solve and its derivative; "
                "clone them before changing them"
            )
        if values.ndim == 1:
            columns = b if b.ndim == 2 else b.movedim(0, 1).flatten(1)
            x = self._one(values, prints[0], columns, adjoint, first, self.x0)
            return x if b.ndim == 2 else x.unflatten(1, (b.shape[0], b.shape[2])).movedim(1, 0)
        out = torch.empty(
            b.shape[0], self.pattern.shape[1], b.shape[2], dtype=b.dtype, device=b.device
        )
        for i, item in enumerate(items):
            x0 = self.x0 if self.x0 is None or self.x0.ndim == 2 else self.x0[i]
            out[i] = self._one(item, prints[i], b[i], adjoint, first, x0)
        return out

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
        info, x = self._attempts(values, mark, b, adjoint, x0 if first else None)
        (self.info if first else self.adjoint_info).absorb(info)
        if not info.result.ok and (self.throw or not first):
            kind = "adjoint solve" if adjoint and not first else "solve"
            detail = f"{kind} with {info.backend} {info.method}"
            if info.notes:
                detail += f" ({'; '.join(info.notes)})"
            raise SolveError(
                info.result, detail, iterations=info.iterations, residual=info.residual
            )
        return x

    def _attempts(
        self, values: Tensor, mark: Hashable, b: Tensor, adjoint: bool, x0: Tensor | None
    ) -> tuple[SolveInfo, Tensor]:
        """Try the choice, then the fallbacks; the last failure is the one reported."""
        n = self.pattern.shape[0] if adjoint else self.pattern.shape[1]
        nan = torch.full((n, b.shape[1]), float("nan"), dtype=b.dtype, device=b.device)
        if not (torch.isfinite(values).all() and torch.isfinite(b).all()):
            return SolveInfo(
                Result.NONFINITE, residual=float("nan"), notes=["NaN or infinity in the input"]
            ), nan
        if n == 0 or b.shape[1] == 0 or not b.any():
            choice = self.plan.choice
            return SolveInfo(method=choice.method, backend=choice.backend), torch.zeros_like(nan)
        notes: list[str] = []
        info, x = SolveInfo(), nan
        for candidate in (self.plan.choice, *self.plan.fallbacks):
            try:
                x, info = self._with(candidate, values, mark, b, adjoint, x0)
            except SolveError as error:
                x, info = nan, SolveInfo(error.result, residual=float("nan"), notes=[error.detail])
            info.backend, info.method = candidate.backend, candidate.method
            info.preconditioner = candidate.preconditioner
            info.notes = notes + info.notes
            if info.result.ok:
                break
            notes = [*info.notes, f"{candidate}: {info.result.name.lower()}"]
        return info, x

    def _with(
        self,
        candidate: Candidate,
        values: Tensor,
        mark: Hashable,
        b: Tensor,
        adjoint: bool,
        x0: Tensor | None,
    ) -> tuple[Tensor, SolveInfo]:
        backend = get_backend(candidate.backend)
        options = self.adjoint_options if adjoint else self.options
        if options.preconditioner is None:
            options = replace(options, preconditioner=candidate.preconditioner)
        numeric = self._numeric(backend, candidate, values, mark, options)
        # A Hermitian matrix is its own adjoint.
        mode: Mode = "h" if adjoint and not self.structure.hermitian else "n"
        count("solve")
        done = backend.solve(numeric, values, b, mode, options=options, x0=x0)
        info = SolveInfo(
            done.result, done.iterations, history=done.history, notes=list(numeric.notes)
        )
        check = _Residual(self.pattern, values, b, mode)
        method = backend.capabilities.method(candidate.method)
        direct = method is not None and method.kind == "direct"
        x = done.x
        error = check(x)
        if direct:
            x, error, steps = self._refine(backend, numeric, values, check, x, error, mode, options)
            if steps:
                info.notes.append(f"{steps} step(s) of iterative refinement")
        elif done.result is Result.CONVERGED and not check.met(options):
            # The recurrence drifted from the true residual: go on from here, once.
            rest = replace(options, rtol=0.0, atol=check.target(options))
            more = backend.solve(numeric, values, check.r, mode, options=rest)
            x = x + more.x
            info.iterations += more.iterations
            info.history = done.history + more.history
            error = check(x)
        info.residual, info.backward_error = error
        info.result = _judge(check, error, options, done.result, direct)
        return x, info

    def _refine(
        self,
        backend: Backend,
        numeric: Numeric,
        values: Tensor,
        check: _Residual,
        x: Tensor,
        error: tuple[float, float],
        mode: Mode,
        options: SolveOptions,
    ) -> tuple[Tensor, tuple[float, float], int]:
        """Improve a direct solution while the backward error is above the floor and still halves."""
        eps = torch.finfo(x.dtype).eps
        steps = 0
        while steps < _STEPS and _REFINE * eps < error[1] < float("inf"):
            trial = x + backend.solve(numeric, values, check.r, mode, options=options).x
            found = check(trial)
            if not found[1] < error[1]:
                error = check(x)
                break
            slow = found[1] > 0.5 * error[1]
            x, error, steps = trial, found, steps + 1
            if slow:
                break
        return x, error, steps

    def _numeric(
        self,
        backend: Backend,
        candidate: Candidate,
        values: Tensor,
        mark: Hashable,
        options: SolveOptions,
    ) -> Numeric:
        s = self.structure
        base = (candidate, s.hermitian, s.positive_definite, self.pattern.key)

        def analyze() -> Symbolic:
            return backend.analyze(self.pattern, candidate.method, s)

        def factorize() -> Numeric:
            count("factorize")
            return backend.factorize(symbolics.get(base, analyze), values, options)

        preconditioner = options.preconditioner
        tag: Hashable = (
            preconditioner if isinstance(preconditioner, Hashable) else id(preconditioner)
        )
        return numerics.get((base, values.dtype, mark, tag), factorize)


class _Residual:
    """True residual of one system, measured column by column."""

    def __init__(self, pattern: Pattern, values: Tensor, b: Tensor, mode: Mode) -> None:
        if mode == "n":
            self.pattern, self.values = pattern, values
        else:
            self.pattern = pattern.transposed
            self.values = pattern.transpose_values(values).conj().resolve_conj()
        self.b = b
        self.r = b
        self.b_norm = torch.linalg.vector_norm(b, dim=0)
        self.b_max = b.abs().amax(0)
        rows = self.pattern.sum_rows(self.values.abs())
        self.A_max = float(rows.amax()) if rows.numel() else 0.0
        self.r_norm = self.b_norm

    def __call__(self, x: Tensor) -> tuple[float, float]:
        """Return (largest relative residual, largest backward error)."""
        self.r = self.b - kernels.spmm(self.pattern.crow, self.pattern.ccol, self.values, x)
        self.r_norm = torch.linalg.vector_norm(self.r, dim=0)
        if not torch.isfinite(self.r_norm).all():
            return float("nan"), float("inf")
        tiny = torch.finfo(self.r_norm.dtype).tiny
        relative = self.r_norm / self.b_norm.clamp(min=tiny)
        scale = self.A_max * x.abs().amax(0) + self.b_max
        backward = self.r.abs().amax(0) / scale.clamp(min=tiny)
        return float(relative.max()), float(backward.max())

    def met(self, options: SolveOptions) -> bool:
        """Whether every column of the last residual meets rtol or atol."""
        limit = torch.clamp(options.rtol * self.b_norm, min=options.atol)
        return bool((self.r_norm <= limit).all())

    def target(self, options: SolveOptions) -> float:
        """Return the tightest absolute residual asked of a column, with a little to spare."""
        limit = torch.clamp(options.rtol * self.b_norm, min=options.atol)
        return 0.5 * float(limit[limit > 0].amin()) if bool((limit > 0).any()) else 0.0


def _judge(
    check: _Residual, error: tuple[float, float], options: SolveOptions, said: Result, direct: bool
) -> Result:
    """Turn what was measured into a result code; what the method said only names a failure."""
    if error[0] != error[0]:
        return said if not said.ok else Result.NONFINITE
    eps = torch.finfo(check.r.dtype).eps
    floor = error[1] <= (_ACCEPT if direct else _REFINE) * eps
    if check.met(options):
        return Result.CONVERGED
    if floor:
        return Result.CONVERGED if direct else Result.ROUNDOFF
    return said if not said.ok else Result.RESIDUAL
