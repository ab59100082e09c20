"""Gathering and summing by index with the same bits from run to run.

torch sums in one order by ``index_add`` on the CPU and by ``index_put`` on CUDA. The other two are left to chance:
``index_add`` on CUDA, and ``index_put`` of float32 by several threads. The gradients of ``index_select`` and of
indexing are sums of the first and of the second kind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["summed", "taken"]


def taken(x: Tensor, index: Tensor, dim: int = 0) -> Tensor:
    """Take entries, of which some may be taken several times.

    Parameters
    ----------
    x
        Tensor ``[*before, n, *after]``, differentiable.
    index
        Entries of the dimension `dim`, of any shape.
    dim
        The dimension of size n.

    Returns
    -------
    Tensor
        ``[*before, *index.shape, *after]``.
    """
    dim %= x.ndim
    if x.is_cuda:
        return x[(slice(None),) * dim + (index,)]
    return x.index_select(dim, index.flatten()).unflatten(dim, tuple(index.shape))


def summed(values: Tensor, index: Tensor, n: int) -> Tensor:
    """Add values ``[*index.shape, *after]`` up by their index: ``[n, *after]``; differentiable."""
    after = values.shape[index.ndim :]
    zero = values.new_zeros(n, *after)
    if values.is_cuda:
        return zero.index_put((index,), values, accumulate=True)
    return zero.index_add(0, index.flatten(), values.flatten(0, index.ndim - 1))
