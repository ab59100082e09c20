"""Factors of many matrices on one pattern, and which of them are beyond doubt."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from torch_sla.errors import Result, SolveError
from torch_sla.linalg.direct import STEPS, suspicious
from torch_sla.linalg.rcond import mixed_probe
from torch_sla.linalg.residual import REFINE, BatchResidual
from torch_sla.linalg.sizes import sizes_of

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.backends.base import Backend, Mode, Numeric, SolveOptions

__all__ = ["FactoredBatch"]


class FactoredBatch:
    """Numeric factors of many square matrices on one pattern, and which of them are beyond doubt.

    What needs care (scales, replaced pivots, suspicious growth) is not done here: such members are
    not `sound`, and are for `Factored`.

    Parameters
    ----------
    backend, numerics
        The factors, as the backend made them; None for members that go alone.
    values
        ``[B, nnz_csr]``.
    options
        Of the solves.
    scaled
        Whether members whose rows or columns are on scales of their own are left to `Factored`, which equilibrates.
    """

    def __init__(
        self,
        backend: Backend,
        numerics: list[Numeric | None],
        values: Tensor,
        options: SolveOptions,
        *,
        scaled: bool = True,
    ) -> None:
        self._backend = backend
        self._numerics = [numeric for numeric in numerics if numeric is not None]
        if not self._numerics:
            raise SolveError(
                Result.BREAKDOWN, "no matrix of the batch could be factorised with all"
            )
        self._options = replace(options, preconditioner=None)
        self.pattern = self._numerics[0].symbolic.pattern
        self.nbytes = sum(numeric.nbytes for numeric in self._numerics)
        good = [numeric is not None and not numeric.perturbed for numeric in numerics]
        self.sound = torch.tensor(good, device=values.device)
        here = [k for k, numeric in enumerate(numerics) if numeric is not None]
        self._here = (
            None if len(here) == len(numerics) else torch.tensor(here, device=values.device)
        )
        self._sizes = sizes_of(self.pattern, values)
        growth = self._probe(values) * self._sizes.columns
        self.sound &= growth <= suspicious(self.pattern.shape[0], values.dtype)
        if scaled:
            self.sound &= ~self._sizes.uneven

    def _probe(self, values: Tensor) -> Tensor:
        """Return the largest entry of each member's solution for one vector."""
        known = [numeric.probed for numeric in self._numerics]
        if None not in known:
            return self._placed(self._sizes.columns.new_tensor(known))
        probes = mixed_probe(self.pattern.shape[0], values).expand(len(values), -1, 1)
        return self._substitute(values, probes, "n").abs().amax((1, 2))

    def _substitute(self, values: Tensor, b: Tensor, mode: Mode) -> Tensor:
        """Solve with all factors there are; NaN for members without."""
        here, options = self._here, self._options
        if here is None:
            return self._backend.solve_batch(self._numerics, values, b, mode, options=options)
        return self._placed(
            self._backend.solve_batch(self._numerics, values[here], b[here], mode, options=options)
        )

    def _placed(self, found: Tensor) -> Tensor:
        """Put what members with factors have in its place, NaN in those of the others."""
        if self._here is None:
            return found
        out = found.new_full((len(self.sound), *found.shape[1:]), float("nan"))
        return out.index_copy_(0, self._here, found)

    def solve(
        self, values: Tensor, b: Tensor, mode: Mode, truth: Mode, options: SolveOptions
    ) -> tuple[Tensor, Tensor, BatchResidual, int]:
        """Solve and refine ``op(A_i) x_i = b_i``, ``b`` ``[B, n, K]``.

        Returns
        -------
        x, good, check, steps
            Solutions, which of them are beyond doubt ``[B]``, what was measured, refinement steps.
        """
        check = BatchResidual(self.pattern, values, b, truth, self._sizes)
        found = None
        if self._here is None:
            found = self._backend.solve_batch_measured(
                self._numerics, values, b, mode, truth, options=self._options
            )
        x, sizes = (self._substitute(values, b, mode), None) if found is None else found
        check(x, sizes)
        steps, target = 0, REFINE * torch.finfo(x.dtype).eps
        while steps < STEPS and bool((self.sound & (check.backward > target)).any()):
            before = check.backward
            trial = x + self._substitute(values, check.r, mode)
            check(trial)
            better = check.backward < before
            x, steps = torch.where(better[:, None, None], trial, x), steps + 1
            if not bool(better.all()):
                check(x)
            if not bool((self.sound & (check.backward < 0.5 * before)).any()):
                break
        return x, self.sound & check.accepted(options), check, steps
