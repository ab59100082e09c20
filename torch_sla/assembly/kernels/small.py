"""Products of the small matrices of geometry, one per quadrature point.

On the CPU they are a batched product's. On a GPU that product is made for large matrices: 350 000 products of 2 by 2
took 2 ms on an H200, a hundred times what moving them costs. There the contraction, over space dimensions, is unrolled
into passes over all points at once; on one CPU core that would be four times slower.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["small_product"]


def small_product(A: Tensor, B: Tensor) -> Tensor:
    """Multiply ``A [..., m, d]`` with ``B [..., d, n]``, d the dimension of space; batches broadcast.

    Examples
    --------
    >>> import torch
    >>> small_product(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0], [4.0]]))
    tensor([[11.]])
    """
    return A @ B if A.is_cpu else unrolled_product(A, B)


def unrolled_product(A: Tensor, B: Tensor) -> Tensor:
    """Do what `small_product` does, as a sum of outer products."""
    total = A[..., :, 0, None] * B[..., 0, None, :]
    for k in range(1, A.shape[-1]):
        total = total.addcmul(A[..., :, k, None], B[..., k, None, :])
    return total
