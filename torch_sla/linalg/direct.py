"""A factorisation ready for use: pinned, scaled, and proved not to be singular."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from torch_sla.errors import Result, SolveError
from torch_sla.linalg.kernels import sparse as kernels
from torch_sla.linalg.rcond import inverse_norm, probe
from torch_sla.linalg.residual import REFINE, BatchResidual
from torch_sla.linalg.scaling import equilibrate, is_uneven

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.backends.base import Backend, Mode, Numeric, SolveOptions, Symbolic
    from torch_sla.linalg.nullspace import Nullspace
    from torch_sla.linalg.sparse.pattern import Pattern

__all__ = ["STEPS", "Factored", "FactoredBatch"]

# One solve with a fixed vector must grow by less than this share of 1/eps, or the condition number
# is estimated in earnest: the vector may miss most of it, more in many dimensions.
_SUSPICIOUS = 1e-2
# Steps of refinement.
STEPS = 4


def _suspicious(n: int, dtype: torch.dtype) -> float:
    """Return the growth ``‖A⁻¹ v‖ ‖A‖`` of a probe from which the condition number is to be estimated."""
    return _SUSPICIOUS / (torch.finfo(dtype).eps * n**0.5)


class Factored:
    """Numeric factors of ``R A' C``, with ``A'`` the pinned matrix, and solves with ``A`` itself.

    A zero pivot can hide behind rounding, and then a factorisation of a singular matrix yields
    large vectors with small residuals. So one solve is spent on two fixed vectors; where one
    grows suspiciously, the condition number is estimated, and a reciprocal below eps refused.

    Parameters
    ----------
    backend, symbolic, values, options
        What is factorised: slot values ``[nnz_csr]``.
    nullspace
        Declared nullspace, which is pinned.

    Raises
    ------
    SolveError
        From the backend, and ``SINGULAR`` from the proof.
    """

    def __init__(
        self,
        backend: Backend,
        symbolic: Symbolic,
        values: Tensor,
        options: SolveOptions,
        nullspace: Nullspace | None,
    ) -> None:
        self._backend, self._nullspace = backend, nullspace
        self._options = replace(options, preconditioner=None)
        self.pattern: Pattern = symbolic.pattern
        if 0 not in self.pattern.shape and not bool(values.any()):
            raise SolveError(Result.SINGULAR, "the matrix is zero")
        square = self.pattern.shape[0] == self.pattern.shape[1]
        values = values if nullspace is None else nullspace.pin(self.pattern, values)
        self.scale = None
        if square:
            known = symbolic.structure
            mirrored = bool(known.hermitian or known.symmetric)
            self.scale = equilibrate(self.pattern, values, mirrored)
        self._own = nullspace is not None or self.scale is not None
        if self.scale is not None:
            R, C = self.scale
            values = values * R[self.pattern.csr_row.long()] * C[self.pattern.ccol.long()]
        self._values = values if self._own else None
        self.numeric: Numeric = backend.factorize(symbolic, values, options)
        held = values.numel() * values.element_size() if self._own else 0
        self.nbytes = self.numeric.nbytes + held
        self.norm = float(_norm1(self.pattern, values))
        self._rcond: float | None = None
        self._prove(values)

    @classmethod
    def around(
        cls, backend: Backend, numeric: Numeric, values: Tensor, options: SolveOptions
    ) -> Factored:
        """Take factors of the matrix itself as they are, without scales and without the proof."""
        out = cls.__new__(cls)
        out._backend, out._nullspace = backend, None
        out._options = replace(options, preconditioner=None)
        out.pattern, out.numeric, out.scale = numeric.symbolic.pattern, numeric, None
        out._own, out._values, out._rcond = False, None, None
        out.nbytes, out.norm = numeric.nbytes, float(_norm1(numeric.symbolic.pattern, values))
        return out

    def safer(self, values: Tensor) -> Factored | None:
        """Return better factors of the same values, where the backend can make them."""
        inner = values if self._values is None else self._values
        made = self._backend.safer(self.numeric, inner, self._options)
        if made is None:
            return None
        out = copy(self)
        out.nbytes += made.nbytes - self.numeric.nbytes
        out.numeric, out._rcond = made, None
        return out

    @property
    def perturbed(self) -> bool:
        """Whether negligible pivots were replaced: the factors are those of a nearby matrix."""
        return self.numeric.perturbed

    def _scaled_solve(self, values: Tensor, b: Tensor, mode: Mode) -> Tensor:
        return self._backend.solve(self.numeric, values, b, mode, options=self._options).x

    def solve(self, values: Tensor, b: Tensor, mode: Mode) -> Tensor:
        """Solve ``op(A) x = b`` for the values it was made from; projected where there is a nullspace."""
        if not self._own:
            return self._scaled_solve(values, b, mode)
        inner = values if self._values is None else self._values
        if self._nullspace is not None:
            b = b.clone()
            b[self._nullspace.pins] = 0
        before, after = (None, None) if self.scale is None else self.scale
        if mode != "n":
            before, after = after, before
        b = b if before is None else b * before.unsqueeze(1)
        x = self._scaled_solve(inner, b, mode)
        x = x if after is None else x * after.unsqueeze(1)
        if self._nullspace is not None:
            x[self._nullspace.pins] = 0
            x = self._nullspace.project(x, left=mode != "n")
        return x

    def _prove(self, values: Tensor) -> None:
        n = self.pattern.shape[0]
        if 0 in self.pattern.shape:
            return
        probes = probe(n, values)
        if self.perturbed:
            self._prove_replaced(values, probes[:, :1])
        growth = float(self._scaled_solve(values, probes, "n").abs().amax()) * self.norm
        if growth <= _suspicious(n, values.dtype):
            return
        rcond, eps = self._estimate(values), torch.finfo(values.dtype).eps
        if not rcond >= eps:
            raise SolveError(
                Result.SINGULAR,
                f"the reciprocal condition number is about {rcond:.1e}, below eps = {eps:.1e}",
            )

    def _prove_replaced(self, values: Tensor, x: Tensor) -> None:
        """Find the null vector that a replaced pivot of an ``L D Lᴴ`` hides.

        Inverse iteration meets the eigenvector ``x`` of the perturbed matrix, as far from the null
        vector as the perturbation is large; the error of its Rayleigh quotient is the square of that.
        """
        p = self.pattern
        for _ in range(3):
            x = self._scaled_solve(values, x / x.abs().amax(), "n")
        x = x / torch.linalg.vector_norm(x)
        image = kernels.spmm(p.crow, p.ccol, values, x)
        ratio = float(torch.linalg.vecdot(x, image, dim=0).abs().sum()) / self.norm
        if not self.numeric.symbolic.structure.hermitian and x.is_complex():
            # Complex symmetric: the quotient that is stationary is the one without conjugation.
            ratio = float((x * image).sum().abs() / (x * x).sum().abs()) / self.norm
        if not ratio > 16 * torch.finfo(values.dtype).eps:
            raise SolveError(Result.SINGULAR, f"an eigenvalue of {ratio:.1e} ‖A‖ was found")

    def rcond(self, values: Tensor) -> float | None:
        """Estimate ``1 / (‖A‖₁ ‖A⁻¹‖₁)`` of the scaled matrix; 4 to 11 solves the first time.

        None where pivots were replaced: the estimate would be that of the nearby matrix.
        """
        return (
            None
            if self.perturbed
            else self._estimate(values if self._values is None else self._values)
        )

    def _estimate(self, inner: Tensor) -> float:
        if self._rcond is None:
            inverse = inverse_norm(
                lambda v: self._scaled_solve(inner, v, "n"),
                lambda v: self._scaled_solve(inner, v, "h"),
                inner.new_empty(self.pattern.shape[0], 1),
            )
            size = self.norm * inverse
            self._rcond = 1 / size if size > 0 else 1.0
        return self._rcond


class FactoredBatch:
    """Numeric factors of many square matrices on one pattern, and which of them are beyond doubt.

    What needs care (scales, replaced pivots, suspicious growth) is not done here: such members are
    not `sound`, and are for `Factored`.

    Parameters
    ----------
    backend, numerics
        The factors, as the backend made them.
    values
        ``[B, nnz_csr]``.
    options
        Of the solves.
    proved
        Whether singular members have been refused already.
    """

    def __init__(
        self,
        backend: Backend,
        numerics: list[Numeric],
        values: Tensor,
        options: SolveOptions,
        *,
        proved: bool = False,
    ) -> None:
        self._backend, self._numerics = backend, numerics
        self._options = replace(options, preconditioner=None)
        self.pattern = numerics[0].symbolic.pattern
        self.nbytes = sum(numeric.nbytes for numeric in numerics)
        replaced = [numeric.perturbed for numeric in numerics]
        self.sound = ~torch.tensor(replaced, device=values.device)
        if not proved:
            n = self.pattern.shape[0]
            probes = probe(n, values).expand(len(values), n, 2)
            growth = self._substitute(values, probes, "n").abs().amax((1, 2))
            growth *= _norm1(self.pattern, values)
            self.sound &= growth <= _suspicious(n, values.dtype)
            self.sound &= ~is_uneven(self.pattern, values)

    def _substitute(self, values: Tensor, b: Tensor, mode: Mode) -> Tensor:
        return self._backend.solve_batch(self._numerics, values, b, mode, options=self._options)

    def solve(
        self, values: Tensor, b: Tensor, mode: Mode, truth: Mode, options: SolveOptions
    ) -> tuple[Tensor, Tensor, BatchResidual, int]:
        """Solve and refine ``op(A_i) x_i = b_i``, ``b`` ``[B, n, K]``.

        Returns
        -------
        x, good, check, steps
            Solutions, which of them are beyond doubt ``[B]``, what was measured, refinement steps.
        """
        check = BatchResidual(self.pattern, values, b, truth)
        x = self._substitute(values, b, mode)
        check(x)
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


def _norm1(pattern: Pattern, values: Tensor) -> Tensor:
    """Largest column sum of absolute values: ``[*B, nnz_csr] -> [*B]``."""
    if 0 in pattern.shape:
        return values.real.new_zeros(values.shape[:-1])
    sums = values.abs().new_zeros(*values.shape[:-1], pattern.shape[1])
    return sums.index_add_(-1, pattern.ccol.long(), values.abs()).amax(-1)
