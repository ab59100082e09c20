"""What the values of a matrix ask of a hierarchy: precision, kept points, a lattice."""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING

import torch

from torch_sla.errors import ArgumentError
from torch_sla.linalg.kernels.multigrid import CompiledLattice
from torch_sla.linalg.kernels.structure import size_range
from torch_sla.linalg.precond.multigrid.device.choice import CONTRARY

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.precond.multigrid.hierarchy import Skeleton
    from torch_sla.linalg.precond.multigrid.options import AMG
    from torch_sla.linalg.sparse.pattern import Pattern

__all__ = [
    "JUMP",
    "POSITIVE",
    "SHORT",
    "SPREAD",
    "jumps",
    "lattice_of",
    "positive_share",
    "spread",
]

SPREAD = 1e4  # of the diagonal, above which float32 rounds small couplings away
# Share of positive couplings above which one step of a diagonal smoother is too weak; flat tetrahedra bring more.
POSITIVE = 0.1
# Where diagonal entries of neighbours differ by more than this, and rows are short enough for it to be
# cheap, points are kept rather than aggregated: no aggregate is on one side of a jump in every cell.
JUMP, SHORT = 100.0, 9.5


def spread(pattern: Pattern, values: Tensor) -> float:
    """Largest over smallest diagonal entry that is not zero: row sums beside a jump lose as much."""
    low, high = size_range(values.detach(), pattern.diagonal_slots)
    return high / low if low > 0 else 1.0


def positive_share(pattern: Pattern, values: Tensor) -> float:
    """Positive couplings over all couplings, each by its size; 0 for an M-matrix.

    Examples
    --------
    >>> import torch
    >>> from torch_sla.linalg.sparse.pattern import Pattern
    >>> pattern = Pattern.from_csr(torch.tensor([0, 2, 4]), torch.tensor([0, 1, 0, 1]), (2, 2))
    >>> positive_share(pattern, torch.tensor([2.0, -1.0, 0.5, 2.0]))
    0.3333333333333333
    """
    values, slots = values.detach(), pattern.diagonal_slots
    own = values.index_select(0, slots[slots >= 0])
    total = float(values.sum()) - float(own.sum())
    size = float(torch.linalg.vector_norm(values, 1) - torch.linalg.vector_norm(own, 1))
    return max(0.0, 0.5 * (size + total)) / size if size > 0 else 0.0


def jumps(pattern: Pattern, values: Tensor) -> bool:
    """Whether the diagonal jumps between neighbours, in a matrix with short rows."""
    if pattern.nnz_csr > SHORT * pattern.shape[0] or bool((pattern.diagonal_slots < 0).any()):
        return False
    size = values.detach()[pattern.diagonal_slots.long()].abs().log()
    steps = size[pattern.csr_row.long()] - size[pattern.ccol.long()]
    return float(steps[values.detach() != 0].amax()) > log(JUMP)


def lattice_of(
    pattern: Pattern,
    values: Tensor,
    options: AMG,
    dtype: torch.dtype,
    like: Skeleton | None = None,
) -> CompiledLattice | None:
    """Structured multigrid where the pattern is a lattice on which it works, else None.

    `like` is a skeleton of this precision, of whatever method.
    """
    asked = options.method == "lattice"
    if like is not None and isinstance(like.compiled, CompiledLattice):
        renewed = like.compiled.renewed(values, check=like.check)
        if renewed is not None:
            return renewed if asked or renewed.contrary <= CONTRARY else None
    lattice = pattern.lattice
    if lattice is None or lattice.dimension < 2:
        if asked:
            raise ArgumentError(
                "method='lattice' needs entries that join neighbours of a lattice, and this pattern "
                "has others; method='smoothed_aggregation' takes any"
            )
        return None
    n0, n1, n2 = lattice.shape
    made = CompiledLattice(
        pattern.crow,
        pattern.ccol,
        values,
        shape=(n0, 1, n1)
        if n2 == 1
        else (n0, n1, n2),  # the slow axis, which threads share, is the last
        dtype=dtype,
        lines=options.smoother == "line",
        most_contrary=1.0 if asked else CONTRARY,
        sweeps=options.sweeps,
        cycle=options.cycle or "V",
        coarse_size=options.coarse_size,
        max_levels=options.max_levels,
        threads=options.threads,
    )
    return made if asked or made.contrary <= CONTRARY else None
