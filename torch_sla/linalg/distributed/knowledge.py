"""What is known about a matrix in parts, found without any process seeing more than its own rows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from torch_sla.linalg.distributed.sharding import Product, Sharding
from torch_sla.linalg.sparse.transforms import outside_transforms

__all__ = ["Knowledge", "find_out"]


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
    rows = sharding.row_sums(values.abs())
    diagonal = sharding.diagonal(values)
    d = diagonal.real if values.is_complex() else diagonal
    off = rows - diagonal.abs()
    eps = torch.finfo(values.dtype).eps
    n = sharding.rows.start + torch.arange(sharding.rows.n_held, device=values.device)
    x = (1.5 + torch.cos(1.7 * n.double() + 0.3)).to(values.dtype).unsqueeze(1)
    # What is made for the adjoint products here goes with them.
    split = sharding.split.bare()
    A = Product(sharding, values, split)
    there, back = A(x), A.adjoint(x)
    del A
    sizes = values.abs()
    A = Product(sharding, sizes, split)
    positive = x.abs().to(sizes.dtype)
    limit = 32 * eps * (A(positive) + A.adjoint(positive))
    del A, split, sizes
    asymmetric = ((there - back).abs() > limit).any()
    not_positive = ~(d > 0).all()
    not_dominant = ~(d > off * (1 + 8 * eps)).all()
    top = rows.amax() if rows.numel() else rows.new_zeros(())
    flags = torch.stack([asymmetric, not_positive, not_dominant]).to(top.dtype)
    found = comm.reduce(torch.cat([flags, top.unsqueeze(0)]), "max").tolist()
    hermitian, positive_diagonal, dominant = (not bool(v) for v in found[:3])
    definite: bool | None = None
    if not (hermitian and positive_diagonal):
        definite = False
    elif dominant:
        definite = True
    return Knowledge(hermitian, definite, float(found[3]))
