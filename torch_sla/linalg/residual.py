"""What a solution leaves over, and the verdict on it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import torch

from torch_sla.errors import Result
from torch_sla.linalg.kernels import sparse as kernels
from torch_sla.linalg.kernels.detection import largest_row_sum

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.backends.base import Mode, SolveOptions
    from torch_sla.linalg.sparse.pattern import Pattern

__all__ = ["ACCEPT", "REFINE", "Residual", "judge"]

# A direct solve is refined above the first multiple of eps of backward error and accepted below the
# second.
REFINE, ACCEPT = 8.0, 50.0
# How far a least-squares method's estimate of ‖A‖ may lie from the norm used here.
_SLACK = 4.0
# A solution at the floor of the dtype is one only while its residual is well below that of x = 0.
_USELESS = 0.5


class Residual:
    """True residual ``b - op(A) x`` of one system, measured column by column.

    Three measures of backward error, each 0 for an exact solution and about eps for a stable one:

    - square: ``‖r‖ / (‖A‖ ‖x‖ + ‖b‖)`` in the maximum norm (Rigal and Gaches, 1967);
    - square and badly scaled: the largest ``|r|ᵢ / (|A| |x| + |b|)ᵢ`` (Oettli and Prager, Numer.
      Math. 6, 1964), the denominators of rows without cancellation replaced as in Arioli, Demmel
      and Duff, SIAM J. Matrix Anal. Appl. 10, 1989, section 2;
    - rectangular: ``‖Aᴴ r‖ / (‖A‖ (‖A‖ ‖x‖ + ‖b‖))``.

    Parameters
    ----------
    pattern, values
        Scalar slots of ``A``.
    b
        ``[M, K]`` (``[N, K]`` for the adjoint).
    mode
        ``"n"`` or ``"h"``.
    componentwise
        Whether rows are to be measured each on its own scale.
    perturbed
        Whether `x` comes from factors of a nearby matrix, so that only the floor of the dtype counts.
    """

    def __init__(
        self,
        pattern: Pattern,
        values: Tensor,
        b: Tensor,
        mode: Mode,
        *,
        componentwise: bool = False,
        perturbed: bool = False,
    ) -> None:
        self.perturbed = perturbed
        self.rectangular = pattern.shape[0] != pattern.shape[1]
        self._here, self._there = (pattern, values), None
        if mode != "n" or self.rectangular:
            turned = (pattern.transposed, pattern.transpose_values(values).conj().resolve_conj())
            self._there = self._here
            self._here = turned if mode != "n" else self._here
            self._there = turned if mode == "n" else self._there
        found = largest_row_sum(self._here[0].crow, self._here[1])
        if found is None:
            found = float(self._rows.amax()) if pattern.shape[0] else 0.0
        self.A_max = found
        self.A_norm = float(torch.linalg.vector_norm(values))
        self.componentwise = componentwise and not self.rectangular
        self.b, self.r = b, b
        self.b_norm = self.r_norm = torch.linalg.vector_norm(b, dim=0)
        self.slope = torch.full_like(self.b_norm, float("inf"))

    @cached_property
    def _sizes(self) -> Tensor:
        return self._here[1].abs()

    @cached_property
    def _rows(self) -> Tensor:
        return self._here[0].sum_rows(self._sizes)

    @staticmethod
    def _product(matrix: tuple[Pattern, Tensor], x: Tensor) -> Tensor:
        return kernels.spmm(matrix[0].crow, matrix[0].ccol, matrix[1], x)

    def __call__(self, x: Tensor) -> tuple[float, float]:
        """Return (largest relative residual, largest backward error)."""
        self.r = self.b - self._product(self._here, x)
        self.r_norm = torch.linalg.vector_norm(self.r, dim=0)
        if not torch.isfinite(self.r_norm).all():
            return float("nan"), float("inf")
        tiny = torch.finfo(self.r_norm.dtype).tiny
        relative = self.r_norm / self.b_norm.clamp(min=tiny)
        if self.rectangular and self._there is not None:
            self.slope = torch.linalg.vector_norm(self._product(self._there, self.r), dim=0)
            scale = self.A_norm * (self.A_norm * torch.linalg.vector_norm(x, dim=0) + self.b_norm)
            backward = self.slope / scale.clamp(min=tiny)
        elif self.componentwise:
            backward = (self.r.abs() / self._denominators(x).clamp(min=tiny)).amax(0)
        else:
            scale = self.A_max * x.abs().amax(0) + self.b.abs().amax(0)
            backward = self.r.abs().amax(0) / scale.clamp(min=tiny)
        return float(relative.max()), float(backward.max())

    def _denominators(self, x: Tensor) -> Tensor:
        size, b = x.abs(), self.b.abs()
        own = self._product((self._here[0], self._sizes), size) + b
        largest, rows = size.amax(0), self._rows.unsqueeze(1)
        small = own <= 1000 * len(x) * torch.finfo(own.dtype).eps * (rows * largest + b)
        return torch.where(small, own + rows * largest, own)

    def _limit(self, options: SolveOptions) -> Tensor:
        return torch.clamp(options.rtol * self.b_norm, min=options.atol)

    def met(self, options: SolveOptions) -> bool:
        """Whether every column of the last residual meets rtol or atol.

        A least-squares residual may instead be orthogonal to the columns of ``A``, to `rtol`.
        """
        met = self.r_norm <= self._limit(options)
        if self.rectangular:
            met |= self.slope <= _SLACK * options.rtol * self.A_norm * self.r_norm
        return bool(met.all())

    def target(self, options: SolveOptions) -> float:
        """Return the tightest absolute residual asked of a column, with a little to spare."""
        limit = self._limit(options)
        return 0.5 * float(limit[limit > 0].amin()) if bool((limit > 0).any()) else 0.0


def judge(
    check: Residual, error: tuple[float, float], options: SolveOptions, said: Result, direct: bool
) -> Result:
    """Turn what was measured into a result code; what the method said only names a failure."""
    if error[0] != error[0]:
        return said if not said.ok else Result.NONFINITE
    eps = torch.finfo(check.r.dtype).eps
    floor = error[1] <= (ACCEPT if direct else REFINE) * eps
    if check.met(options) and (floor or not check.perturbed):
        return Result.CONVERGED
    if floor and error[0] > _USELESS and not (check.rectangular or check.componentwise):
        # x is so large that rounding in A x exceeds b: x = 0 would do as well. Where rows live on
        # scales of their own the norm of the residual says nothing, and each row was looked at.
        return Result.SINGULAR
    if floor:
        return Result.CONVERGED if direct else Result.ROUNDOFF
    return said if not said.ok else Result.RESIDUAL
