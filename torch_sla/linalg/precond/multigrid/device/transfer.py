"""Tentative prolongation: piecewise in the span of the near-nullspace on aggregates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from torch_sla.linalg.kernels.pointers import pointers
from torch_sla.linalg.kernels.sparse import gather, segment_order, segment_sum
from torch_sla.linalg.precond.multigrid.device.blocks import BlockRows

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["tentative"]

_DEPENDENT = 1e-10  # squared length left of a vector that is a combination of earlier ones


def tentative(
    vectors: Tensor | None, group: Tensor, count: int, edge: int, like: Tensor
) -> tuple[BlockRows, Tensor | None]:
    """Orthonormalise the near-nullspace on each aggregate.

    Parameters
    ----------
    vectors
        ``[n, b, k]``; None stands for constants, one for each of the ``b`` components.
    group, count
        Aggregate of each row, -1 for none, in the index dtype of the pattern; and their number.
    edge
        ``b``.
    like
        Tensor whose dtype and device the values get.

    Returns
    -------
    BlockRows
        ``[n, count]`` with blocks ``[b, k]``, one block in each row that is in an aggregate.
    Tensor or None
        The near-nullspace of the coarse level ``[count, k, k]``; None for constants, which need no
        scaling and stay constants.
    """
    inside = group >= 0
    member = inside.nonzero().squeeze(1)
    crow = pointers(inside)
    index, target = group.dtype, group[member]
    if vectors is None:
        eye = torch.eye(edge, dtype=like.dtype, device=like.device)
        blocks = eye.expand(member.numel(), edge, edge).contiguous()
        return BlockRows(crow.to(index), target, blocks, count, 1), None
    offsets, order = segment_order(target, count)
    Q, R = _orthonormal(vectors[member].to(like.dtype), target, offsets, order)
    return BlockRows(crow.to(index), target, Q, count, 1), R


def _orthonormal(
    V: Tensor, target: Tensor, offsets: Tensor, order: Tensor
) -> tuple[Tensor, Tensor]:
    """Factorise ``V [m, b, k]`` on each aggregate: classical Gram-Schmidt, twice.

    A column that depends on earlier ones on its aggregate becomes zero.
    """
    k, count = V.shape[2], offsets.numel() - 1
    Q = torch.empty_like(V)
    R = V.new_zeros(count, k, k)

    def summed(x: Tensor) -> Tensor:
        return segment_sum(x[None].contiguous(), offsets, order)[0]

    for c in range(k):
        v = V[:, :, c]
        before = summed(v.square().sum(1, keepdim=True))
        for _ in range(2 if c else 0):
            dots = summed((Q[:, :, :c] * v.unsqueeze(2)).sum(1))
            v = v - (Q[:, :, :c] * gather(dots[None], target)[0].unsqueeze(1)).sum(2)
            R[:, :c, c] += dots
        after = summed(v.square().sum(1, keepdim=True))
        dependent = ~(after > _DEPENDENT * before)
        norm = torch.where(dependent, torch.ones_like(after), after.sqrt())
        inverse = torch.where(dependent, 0.0, 1.0 / norm)
        Q[:, :, c] = v * gather(inverse[None], target)[0]
        R[:, c, c] = torch.where(dependent, 0.0, norm)[:, 0]
    return Q, R
