"""What is known about a matrix in parts, found without any process seeing more than its own rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.linalg.sparse.transforms import outside_transforms

if TYPE_CHECKING:
    from torch_sla.linalg.distributed.sharding import Sharding

__all__ = ["Knowledge", "find_out"]

_ROWS = 1 << 13  # that are worked on at a time, at least


@dataclass(frozen=True)
class Knowledge:
    """Properties of a square matrix.

    Parameters
    ----------
    hermitian
        Whether ``A = Aᴴ`` up to rounding.
    definite
        True where positive definiteness is proved or declared, False where disproved, None where open.
    norm
        Largest row sum of absolute values, a bound on every eigenvalue.
    """

    hermitian: bool
    definite: bool | None
    norm: float


@outside_transforms
def find_out(sharding: Sharding, values: Tensor) -> Knowledge:
    """Look at slot values ``[nnz_csr]``.

    Symmetry is tested by products with a vector of arbitrary entries: ``|A x - Aᴴ x|`` must be rounding in every
    row, which for an unsymmetric matrix it is with probability zero. Definiteness is proved by strict diagonal
    dominance, and disproved by a diagonal entry that is not positive.
    """
    comm, values = sharding.rows.comm, values.detach()
    eps = torch.finfo(values.dtype).eps
    sizes = values.abs()
    rows, d = sharding.row_sums(sizes), sharding.diagonal(values)
    top = rows.amax() if rows.numel() else rows.new_zeros(())
    rows -= d.abs()  # of what is beside the diagonal
    d = d.real if values.is_complex() else d
    not_positive = ~(d > 0).all()
    not_dominant = ~(d > rows.mul_(1 + 8 * eps)).all()
    del rows, d
    n = sharding.rows.start + torch.arange(sharding.rows.n_held, device=values.device)
    x = (1.5 + torch.cos(1.7 * n.double() + 0.3)).to(values.dtype).unsqueeze(1)
    # No second pattern for the adjoint products: they are taken once.
    del n
    away = sharding.product(values, x).sub_(_adjoint(sharding, values, x)).abs()
    x = x.abs().to(sizes.dtype)
    limit = sharding.product(sizes, x).add_(_adjoint(sharding, sizes, x)).mul_(32 * eps)
    asymmetric = (away > limit).any()
    flags = torch.stack([asymmetric, not_positive, not_dominant]).to(top.dtype)
    found = comm.reduce(torch.cat([flags, top.unsqueeze(0)]), "max").tolist()
    hermitian, positive_diagonal, dominant = (not bool(v) for v in found[:3])
    definite: bool | None = None
    if not (hermitian and positive_diagonal):
        definite = False
    elif dominant:
        definite = True
    return Knowledge(hermitian, definite, float(found[3]))


def _adjoint(sharding: Sharding, values: Tensor, x: Tensor) -> Tensor:
    """Return ``Aᴴ x`` for ``[n_held, 1]``, some rows at a time."""
    pattern, own = sharding.pattern, sharding.columns.n_held
    n = pattern.shape[0]
    y = x.new_zeros(pattern.shape[1])
    step = max(-(-n // 64), _ROWS)
    for begin in range(0, n, step):
        crow = pattern.crow[begin : begin + step + 1]
        first, last = int(crow[0]), int(crow[-1])
        factor = torch.repeat_interleave(
            x[begin : begin + step, 0], crow.diff(), output_size=last - first
        )
        y.index_add_(0, pattern.ccol[first:last], factor * values[first:last].conj())
    return y[:own].unsqueeze(1) + sharding.halo.give_back(y[own:].unsqueeze(1))
