"""Batches in the lanes of registers: many matrices on one pattern, pivots on the diagonal, proved by a solve.

Lanes cannot pivot apart, so no pivot is searched for: Cholesky needs none, and for other matrices one solve
with a fixed vector tells which members came out well. Those that did not are left to methods that pivot.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from torch_sla.lazy import cached_property
from torch_sla.linalg.backends.analyses import Analyses, analyses_of, with_mirror
from torch_sla.linalg.backends.base import REAL_DTYPES, Mode, Numeric, Symbolic
from torch_sla.linalg.factor_cache import symbolics
from torch_sla.linalg.kernels import cholesky, lanes
from torch_sla.linalg.rcond import mixed_probe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.structure import Structure

__all__ = ["UNSTABLE", "Lane", "PlacedAnalyses", "factorize", "listed", "placed_analyses", "suits"]

# Fewer matrices leave most lanes empty, and larger fronts are for a BLAS.
_FEW, _LARGEST_FRONT = 4, 512
# Backward error, in eps, above which factors are not to be relied on; refinement does the rest.
UNSTABLE = 1e5


class PlacedAnalyses:
    """What the members of a batch share: an analysis for lanes, and where it finds their values.

    Parameters
    ----------
    pattern
        Square, with a full diagonal.
    structure
        May bring an ordering.
    """

    def __init__(self, pattern: Pattern, structure: Structure) -> None:
        whole = with_mirror(pattern)
        self.analyses: Analyses = analyses_of(whole, structure)
        n = pattern.shape[0]
        if whole is pattern:
            slot = torch.arange(pattern.nnz_csr, dtype=torch.int32)
        else:
            own = pattern.csr_row.long() * n + pattern.ccol
            wanted = whole.csr_row.long() * n + whole.ccol
            place = torch.searchsorted(own, wanted).clamp(max=max(len(own) - 1, 0))
            slot = torch.where(own[place] == wanted, place, -1).int()
        self.places = lanes.LanePattern(
            pattern.crow.int(), pattern.ccol.int(), slot, whole.transpose_permutation.int()
        )
        self.nbytes = self.places.nbytes


def placed_analyses(pattern: Pattern, structure: Structure) -> PlacedAnalyses:
    """Return what batches on a pattern share; made once."""
    key = ("together", pattern.key, structure.ordering_mark)
    return symbolics.get(key, lambda: PlacedAnalyses(pattern, structure))


@dataclass(frozen=True, eq=False)
class Lane:
    """One matrix of a batch.

    Parameters
    ----------
    batch
        Factors of all.
    member
        Its number.
    positive
        Whether the factor is Cholesky's.
    """

    batch: lanes.LaneFactor
    member: int
    positive: bool

    @cached_property
    def alone(self) -> cholesky.Factor:
        """The factor of this matrix by itself; of symmetric ones only."""
        return self.batch.extract(self.member, positive=self.positive)

    def solve(self, b: Tensor, mode: Mode) -> Tensor:
        """Solve ``op(A) x = b`` for ``b`` ``[n, K]``."""
        return self.batch.solve(torch.tensor([self.member]), b.unsqueeze(0), mode)[0]


def listed(factors: Sequence[object]) -> Tensor | None:
    """Members ``[listed]`` that factors are of one batch, in its order; None where they are not."""
    first = factors[0]
    if not isinstance(first, Lane):
        return None
    members = [f.member for f in factors if isinstance(f, Lane) and f.batch is first.batch]
    ordered = all(a < b for a, b in pairwise(members))
    return torch.tensor(members) if ordered and len(members) == len(factors) else None


def suits(symbolic: Symbolic, values: Tensor) -> bool:
    """Whether a batch ``[B, nnz_csr]`` is better off in lanes."""
    pattern = symbolic.pattern
    if values.dtype not in REAL_DTYPES or not values.shape[1] or len(values) < _FEW:
        return False
    if not bool((pattern.diagonal_slots >= 0).all()):
        return False
    if symbolic.method == "static_lu":
        shared: PlacedAnalyses = symbolic.payload
        return shared.analyses.lanes().largest_front <= _LARGEST_FRONT
    if symbolic.method == "ldlt":
        # Rows without a pivot of their own in one member are likely to have none in the others.
        _, scaled = cholesky.symmetric_scale(pattern.crow, pattern.ccol, values[0])
        if cholesky.weak_pairs(pattern.crow, pattern.ccol, scaled) is not None:
            return False
    analyses: Analyses = symbolic.payload
    return analyses.lanes().largest_front <= _LARGEST_FRONT


def factorize(symbolic: Symbolic, values: Tensor) -> list[Numeric | None]:
    """Factorise ``[B, nnz_csr]``: None for members that have to be factorised with pivoting."""
    shared = placed_analyses(symbolic.pattern, symbolic.structure)
    positive, symmetric = symbolic.method == "cholesky", symbolic.method != "static_lu"
    probe = mixed_probe(symbolic.pattern.shape[0], values)
    made = lanes.factorize(
        shared.analyses.lanes(), shared.places, values, probe[:, 0], symmetric=symmetric
    )
    growth, limit = made.growth, UNSTABLE * torch.finfo(values.dtype).eps
    sound = torch.isfinite(growth) & (made.error <= limit)
    if positive:
        sound &= made.lowest > 0
    share = made.nbytes // len(values)
    return [
        Numeric(symbolic, Lane(made, k, positive), share, probed=size) if good else None
        for k, (good, size) in enumerate(zip(sound.tolist(), growth.tolist(), strict=True))
    ]
