"""One application of a hierarchy of compressed rows: a V or W cycle from a zero guess, or what lies between."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from torch_sla.linalg.kernels.arguments import plain
from torch_sla.linalg.kernels.rows import Rows, add_product, product, residual
from torch_sla.linalg.kernels.sparse import transpose_csr

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from torch_sla.linalg.precond.multigrid.device.smoothers import Smoother

__all__ = ["Cycle", "Stage", "visited_twice"]

_JUMPS = 100.0  # of the diagonal, above which some coarse levels are visited twice
_REVISITED = 2  # how many, from the first small one on
_SYMMETRIC = 1e-12  # relative difference of mirrored entries


@dataclass(frozen=True)
class Stage:
    """One level.

    Parameters
    ----------
    A
        Its matrix.
    smoother
        Used before and after the coarse correction.
    edge
        Of the blocks of its unknowns.
    P, R
        Prolongation from the next level and its transpose; None on the last.
    """

    A: Rows
    smoother: Smoother
    edge: int
    P: Rows | None = None
    R: Rows | None = None


@dataclass(frozen=True, eq=False)
class Cycle:
    """The levels, and how they are visited.

    Parameters
    ----------
    stages
        Levels, finest first.
    inverse
        Inverse of the last matrix in double precision; None where it is only smoothed.
    scale
        The matrices are this multiple of the caller's.
    twice
        Levels that are visited twice whenever the one above them is visited.

    With as many smoothing steps after as before, of one polynomial, the cycle is symmetric for a
    symmetric matrix, and its adjoint is the same cycle on the transposed matrices.
    """

    stages: tuple[Stage, ...]
    inverse: Rows | None
    scale: float
    twice: tuple[int, ...]

    def __call__(self, r: Tensor, out: Tensor | None = None) -> Tensor:
        """Return ``B r`` for ``r`` ``[n, K]``, in the dtype of `r`; written to `out` where it is given."""
        out = torch.empty_like(r) if out is None else out
        if not r.numel():
            return out
        dtype = self.stages[0].A.values.dtype
        if dtype is torch.float64 and r.dtype is torch.float64:
            return torch.mul(self._visit(0, plain(r)), self.scale, out=out)
        # A power of two brings each column to the size of one, for float32's small range.
        size = torch.linalg.vector_norm(r, float("inf"), 0, dtype=torch.float64)
        factor = torch.exp2(-torch.frexp(size).exponent.double())
        down = torch.mul(r, factor, out=torch.empty_like(r, dtype=dtype))
        return torch.mul(self._visit(0, down), self.scale / factor, out=out)

    def _visit(self, level: int, r: Tensor) -> Tensor:
        s = self.stages[level]
        if s.P is None or s.R is None:
            if self.inverse is None:
                return s.smoother.from_zero(s.A, r)
            return product(self.inverse, r.double()).to(r.dtype)
        x = s.smoother.from_zero(s.A, r)
        rc = product(s.R, residual(s.A, x, r))
        xc = self._visit(level + 1, rc)
        if level + 1 in self.twice:
            # Of a part that is nearly singular xc is so large that rounding its product would outweigh rc.
            left = residual(self.stages[level + 1].A, xc.double(), rc.double()).to(rc.dtype)
            xc = xc + self._visit(level + 1, left)
        return s.smoother(s.A, add_product(s.P, xc, x), r)

    def adjoint(self) -> Cycle:
        """Return the cycle of ``Bᵀ``: this one for a symmetric matrix, where no blocks smooth that are not."""
        first = self.stages[0].A
        mirrored = _transposed(first)
        same = torch.equal(mirrored.crow, first.crow) and torch.equal(mirrored.ccol, first.ccol)
        if same and first.nnz:
            gap = (mirrored.values - first.values).abs()
            blocks = [s.smoother.weight for s in self.stages if s.smoother.weight.ndim > 1]
            even = [(w == w.mT).all() for w in blocks]
            even.append(gap.amax() <= _SYMMETRIC * first.values.abs().amax())
            if bool(torch.stack(even).all()):
                return self
        turned = [_transposed(s.A) for s in self.stages]
        stages = tuple(
            replace(s, A=A, smoother=s.smoother.adjoint(A))
            for s, A in zip(self.stages, turned, strict=True)
        )
        inverse = None if self.inverse is None else _transposed(self.inverse)
        return replace(self, stages=stages, inverse=inverse)


def visited_twice(
    unknowns: Sequence[int],
    cycle: str | None,
    spread: float,
    *,
    small: float = 1 / 40,
    share: float = 1.0,
) -> tuple[int, ...]:
    """Levels that a cycle visits twice; the last, which is solved, never needs it.

    Between jumps of the coefficient coarse corrections of many levels are too small; visiting two small levels twice
    mends most of that, and costs little.

    Parameters
    ----------
    unknowns
        Of each level, finest first.
    cycle
        ``"V"``, ``"W"``, or None for what suits the matrix.
    spread
        Ratio of its largest to its smallest entry on the diagonal.
    small
        Part of all unknowns up to which a level is small.
    share
        Part of the unknowns above that a level of a W cycle has less than.

    Examples
    --------
    >>> visited_twice([1000, 180, 24, 3], None, 1e6), visited_twice([1000, 180, 24, 3], "W", 1.0)
    ((2,), (1, 2))
    """
    between = range(1, len(unknowns) - 1)
    if cycle == "W":
        return tuple(i for i in between if unknowns[i] < share * unknowns[i - 1])
    if cycle is not None or not spread > _JUMPS:
        return ()
    return tuple(i for i in between if unknowns[i] <= small * unknowns[0])[:_REVISITED]


def _transposed(A: Rows) -> Rows:
    crow, ccol, perm = transpose_csr(A.crow, A.ccol, A.n_cols)
    return Rows.of(crow, ccol, A.values[perm.long()], A.n_rows)
