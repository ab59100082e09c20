"""A factorisation ready for use: pinned, scaled, and proved not to be singular."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from torch_sla.errors import Result, SolveError
from torch_sla.linalg.factor_cache import count
from torch_sla.linalg.kernels import sparse as kernels
from torch_sla.linalg.kernels.pointers import pointers
from torch_sla.linalg.matching import match
from torch_sla.linalg.rcond import inverse_norm, mixed_probe, probe
from torch_sla.linalg.residual import REFINE, Residual
from torch_sla.linalg.scaling import equilibrate, free_scales, scaled
from torch_sla.linalg.sizes import column_sums, sizes_of
from torch_sla.linalg.sparse.pattern import Pattern
from torch_sla.linalg.sparse.transforms import outside_transforms

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.backends.base import Backend, Mode, Numeric, SolveOptions, Symbolic
    from torch_sla.linalg.nullspace import Nullspace

__all__ = ["STEPS", "Factored", "column_norm", "refined", "suspicious"]

# One solve with a fixed vector must grow by less than this share of 1/eps, or the condition number
# is estimated in earnest: the vector may miss most of it, more in many dimensions.
_SUSPICIOUS = 1e-2
# Steps of refinement, and with factors whose pivots were replaced.
STEPS, _PERTURBED_STEPS = 4, 12


def suspicious(n: int, dtype: torch.dtype) -> float:
    """Return the growth ``‖A⁻¹ v‖ ‖A‖`` of a probe from which the condition number is to be estimated."""
    return _SUSPICIOUS / float(torch.finfo(dtype).eps * n**0.5)


class Factored:
    """Numeric factors of ``R A' C``, with ``A'`` the pinned matrix, and solves with ``A`` itself.

    A zero pivot can hide behind rounding, and then a factorisation of a singular matrix yields
    large vectors with small residuals. So one solve is spent on a fixed vector, unless the backend has
    done so; where it grows suspiciously, the condition number is estimated, and a reciprocal below eps refused.

    Parameters
    ----------
    backend, symbolic, values, options
        What is factorised: slot values ``[nnz_csr]``.
    nullspace
        Declared nullspace, which is pinned.
    matched
        Whether to scale by an assignment of rows to columns first, and, without symmetry, to permute
        the rows by it: what helps where equilibration was not enough.

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
        *,
        matched: bool = False,
    ) -> None:
        self._backend, self._nullspace = backend, nullspace
        self._options = replace(options, preconditioner=None)
        self.pattern: Pattern = symbolic.pattern
        square = self.pattern.shape[0] == self.pattern.shape[1]
        values = values.resolve_conj()
        norm, uneven, self.norms = _measured(self.pattern, values)
        if 0 not in self.pattern.shape and norm == 0:
            raise SolveError(Result.SINGULAR, "the matrix is zero")
        if nullspace is not None:
            values = nullspace.pin(self.pattern, values)
            norm, uneven, _ = _measured(self.pattern, values)
        self.scale, self._order, self.matched, self.growth = None, None, matched, 0.0
        structure = symbolic.structure
        both = bool(structure.hermitian or structure.symmetric)
        if matched:
            found = match(self.pattern, values)
            self.scale = (found.R, found.C)
            if both:
                # Of a symmetric matrix the scales could differ only by the choice of the assignment.
                mean = torch.exp2(((found.R.log2() + found.C.log2()) / 2).round())
                self.scale = (mean, mean)
            else:
                self._order = found.order
        elif square and uneven:
            self.scale = equilibrate(self.pattern, values, both)
        elif not square and 0 not in self.pattern.shape:
            self.scale = free_scales(self.pattern, values)
        self._own = nullspace is not None or self.scale is not None
        if self.scale is not None:
            values = scaled(self.pattern, values, *self.scale)
        if self._order is not None:
            self.pattern, slots = _permuted(self.pattern, self._order)
            values = values[slots]
            symbolic = backend.analyze(self.pattern, symbolic.method, structure)
        self._values = values if self._own else None
        self.numeric: Numeric = backend.factorize(symbolic, values, options)
        held = values.numel() * values.element_size() if self._own else 0
        self.nbytes = self.numeric.nbytes + held
        self.norm = norm if self.scale is None else column_norm(self.pattern, values)
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
        out._own, out._values, out._rcond, out._order = False, None, None, None
        out.matched, out.growth = False, 0.0
        out.nbytes = numeric.nbytes
        out.norm, _, out.norms = _measured(out.pattern, values)
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
    def doubtful(self) -> bool:
        """Whether scales may be why a probe grew: rows and columns were uneven, and half the digits are gone."""
        square = self.pattern.shape[0] == self.pattern.shape[1]
        if self.scale is None or self.matched or not square:
            return False
        return bool(self.growth > torch.finfo(self.scale[0].dtype).eps ** -0.5)

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
        if self._order is not None and mode == "n":
            b = b[self._order]
        x = self._scaled_solve(inner, b, mode)
        if self._order is not None and mode != "n":
            x = torch.empty_like(x).index_copy_(0, self._order, x)
        x = x if after is None else x * after.unsqueeze(1)
        if self._nullspace is not None:
            x[self._nullspace.pins] = 0
            x = self._nullspace.project(x, left=mode != "n")
        return x

    def _prove(self, values: Tensor) -> None:
        n = self.pattern.shape[0]
        if 0 in self.pattern.shape:
            return
        if self.perturbed:
            self._prove_replaced(values, probe(n, values)[:, :1])
        self.growth = self.measured_growth(values)
        if self.growth <= suspicious(n, values.dtype):
            return
        rcond, eps = self._estimate(values), torch.finfo(values.dtype).eps
        if not rcond >= eps:
            raise SolveError(
                Result.SINGULAR,
                f"the reciprocal condition number is about {rcond:.1e}, below eps = {eps:.1e}",
            )

    def measured_growth(self, values: Tensor) -> float:
        """Return ``‖A⁻¹ v‖ ‖A‖`` of a fixed vector, for the values that were factorised."""
        size = self.numeric.probed
        if size is None:
            # One column costs half of two, or less.
            probe = mixed_probe(self.pattern.shape[0], values)
            x = self._scaled_solve(values, probe, "n")
            size = float(torch.linalg.vector_norm(x, torch.inf))
        return size * self.norm

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
        # The left eigenvector of a symmetric matrix is not x but its conjugate.
        left = x if self.numeric.symbolic.structure.hermitian else x.conj()
        size = torch.linalg.vecdot(left, x, dim=0).abs().clamp(min=torch.finfo(values.dtype).eps)
        ratio = float((torch.linalg.vecdot(left, image, dim=0).abs() / size).sum()) / self.norm
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


@outside_transforms
def _permuted(pattern: Pattern, order: Tensor) -> tuple[Pattern, Tensor]:
    """Pattern with row ``order[k]`` in place ``k``, and where its slots come from."""
    first, length = pattern.crow.long()[order], pattern.crow.long().diff()[order]
    crow = pointers(length)
    inside = torch.arange(int(crow[-1]), device=order.device) - crow[:-1].repeat_interleave(length)
    slots = first.repeat_interleave(length) + inside
    return Pattern.from_csr(crow, pattern.ccol[slots], pattern.shape), slots


def refined(
    pattern: Pattern, factored: Factored, values: Tensor, b: Tensor, mode: Mode, truth: Mode
) -> tuple[Tensor, tuple[float, float], int, Residual]:
    """Solve ``op(A) x = b`` and refine while the backward error is above the floor and still halves.

    Returns
    -------
    x, error, steps, check
        Solution ``[n, K]``, its (relative residual, backward error), refinement steps, and what
        measured them: `truth` is the mode of that.
    """
    check = Residual(
        pattern,
        values,
        b,
        truth,
        scale=None if factored.scale is None else factored.scale[1 if truth == "n" else 0],
        perturbed=factored.perturbed,
        norm=None if factored.norms is None else factored.norms[0 if truth == "n" else 1],
    )
    count("solve")
    x = factored.solve(values, b, mode)
    error = check(x)
    eps = torch.finfo(x.dtype).eps
    steps, limit = 0, _PERTURBED_STEPS if factored.perturbed else STEPS
    while steps < limit and REFINE * eps < error[1] < float("inf"):
        trial = x + factored.solve(values, check.r, mode)
        found = check(trial)
        if not found[1] < error[1]:
            error = check(x)
            break
        slow = found[1] > 0.5 * error[1]
        x, error, steps = trial, found, steps + 1
        if slow:
            break
    return x, error, steps, check


def column_norm(pattern: Pattern, values: Tensor) -> float:
    """Largest column sum of magnitudes of slot values ``[nnz_csr]``."""
    return _measured(pattern, values)[0]


def _measured(pattern: Pattern, values: Tensor) -> tuple[float, bool, tuple[Tensor, Tensor] | None]:
    """Measure a matrix once, for its factors and for all residuals of solves with them.

    Returns
    -------
    norm, uneven, norms
        Largest column sum of magnitudes; of a square matrix also whether rows or columns are on scales of their own,
        and the largest sums along a row and along a column as scalars on its device.
    """
    if 0 in pattern.shape:
        return 0.0, False, None
    if pattern.shape[0] != pattern.shape[1]:
        return float(column_sums(pattern, values.abs()).amax()), False, None
    sizes = sizes_of(pattern, values.unsqueeze(0))
    norm, uneven = torch.stack([sizes.columns[0].double(), sizes.uneven[0].double()]).tolist()
    return norm, bool(uneven), (sizes.rows[0], sizes.columns[0])
