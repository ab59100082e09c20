"""Rows of a coarse matrix that hold nothing but rounding.

A part of the matrix that is singular by itself, and coupled to nothing else, comes down to one such row long before the
largest part is small. Its inverse would be as large as rounding is small. The compiled hierarchies have the same rule
(``csrc/include/torch_sla/multigrid/lost.hpp``).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from torch_sla.linalg.checks import read
from torch_sla.linalg.kernels.rows import row_sums
from torch_sla.linalg.kernels.sparse import expand_rows
from torch_sla.linalg.precond.multigrid.device.blocks import (
    BlockRows,
    diagonal_blocks,
    multiply,
    transpose,
)

__all__ = ["LIFT", "least_share", "lost_share", "without_lost"]

# By what share of its terms the diagonal of such a row is lifted, by the precision in which levels are applied.
LIFT = {torch.float32: 1e-4, torch.float64: 1e-8}


def lost_share(dtype: torch.dtype, level: int) -> float:
    """Return the share of its terms below which an energy is rounding.

    What a level rounds is the larger beside the numbers of the next, which cancel more.

    Parameters
    ----------
    dtype
        In which the matrix was multiplied.
    level
        Of the finer matrix, from 0.
    """
    return 16.0 * torch.finfo(dtype).eps * 4.0**level


def without_lost(
    C: BlockRows, R: BlockRows, A: BlockRows, T: BlockRows, level: int, dtype: torch.dtype
) -> tuple[BlockRows, float]:
    """Lift rows of ``C = R A Rᵀ`` that are lost, and put ones where a vector was dependent on an aggregate.

    Of one value, the diagonal itself says what is lost. Smoothed transfers bring rigid bodies down to a few digits
    only: of vectors, the near-nullspace on the aggregate says it, ``Tᵀ A T``, which has a null space where the part
    moves freely, or turns about a hinge.

    Parameters
    ----------
    C, R, A
        Coarse matrix, restriction, and finer matrix.
    T
        Tentative prolongation.
    level
        Of ``A``, from 0.
    dtype
        In which levels are applied.

    Returns
    -------
    BlockRows
        The coarse matrix.
    float
        Least share of its terms that is left of the diagonal of a row that is not lost: about the stiffness of the
        springs that hold a body, beside its own. Measured for levels in single precision only, else 1.
    """
    D, size = diagonal_blocks(C), C.values.flatten(1).abs().sum(1)
    alone = row_sums(C.crow, size, C.longest) == D.flatten(1).abs().sum(1)
    d = D.diagonal(dim1=1, dim2=2)
    vectors = d.shape[1] > 1
    zero = d == 0 if vectors else torch.zeros_like(d, dtype=torch.bool)
    share, least, terms = lost_share(d.dtype, level), d.new_ones(()), None
    if dtype is torch.float32 and d.numel():
        terms = _terms(R, A)
        part = torch.where(terms == 0, 1.0, d.abs() / torch.where(terms == 0, 1.0, terms.abs()))
        least = torch.where(part > share, part, 1.0).amin()
    some, left = read((alone | zero.any(1)).any(), least)
    if not some:
        return C, float(left)
    terms = _terms(R, A) if terms is None else terms
    lost = (_singular(A, T, share) if vectors else d.abs() <= share * terms.abs()) & alone[:, None]
    lift = torch.where(zero, 1.0, torch.where(lost, LIFT[dtype] * terms, 0.0))
    row, values = expand_rows(C.crow, C.ccol.numel()), C.values.clone()
    on = (row == C.ccol).unsqueeze(1)
    values.diagonal(dim1=1, dim2=2).add_(torch.where(on, lift.index_select(0, row), 0.0))
    return replace(C, values=values), float(left)


def _singular(A: BlockRows, T: BlockRows, share: float) -> Tensor:
    """Whether the near-nullspace has combinations of no energy on an aggregate ``[n, 1]``."""
    turned = transpose(T)
    energy = diagonal_blocks(multiply(turned, multiply(A, T)))
    return least_share(energy, _terms(turned, A)).unsqueeze(1) <= share


def least_share(energy: Tensor, terms: Tensor) -> Tensor:
    """Return the smallest energy of a combination of vectors over what it is summed from ``[n]``.

    Parameters
    ----------
    energy
        Of the vectors on each aggregate ``[n, k, k]``.
    terms
        What its diagonal is summed from ``[n, k]``; zero of vectors that are dependent there.
    """
    size = terms.abs().sqrt()
    size = size.unsqueeze(1) * size.unsqueeze(2)
    eye = torch.eye(size.shape[1], dtype=size.dtype, device=size.device)
    scaled = torch.where(size > 0, energy / torch.where(size > 0, size, 1.0), eye)
    return torch.linalg.eigvalsh((scaled + scaled.mT) / 2).abs().amin(1)


def _terms(R: BlockRows, A: BlockRows) -> Tensor:
    """Return what the diagonal of ``R A Rᵀ`` is summed from of that of ``A``, ``[n, k]``."""
    terms = R.values.square()
    terms *= diagonal_blocks(A).diagonal(dim1=1, dim2=2).index_select(0, R.ccol).unsqueeze(1)
    return row_sums(R.crow, terms.sum(2), R.longest)
