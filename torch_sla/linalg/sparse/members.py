"""The members of a batch: how many there are, and what each has, put together again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from torch_sla.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch_sla.linalg.sparse.tensor import SparseTensor

__all__ = ["common_batch", "require_members", "stacked"]


def common_batch(of: str, *batches: Sequence[int]) -> tuple[int, ...]:
    """Return the batch dimensions that those of several arguments broadcast to.

    Parameters
    ----------
    of
        Names of the arguments, for the message.
    batches
        Batch dimensions of each.

    Raises
    ------
    ArgumentError
        When they do not broadcast.

    Examples
    --------
    >>> common_batch("`A` and `b`", (3, 1), (2,))
    (3, 2)
    """
    try:
        return np.broadcast_shapes(*(tuple(batch) for batch in batches))
    except ValueError:
        raise ArgumentError(
            f"batch dimensions of {of} do not broadcast: {', '.join(str(tuple(b)) for b in batches)}; each must be "
            "the same in all, or 1"
        ) from None


def require_members(A: SparseTensor) -> None:
    """Refuse a batch of no matrices, which has nothing that could be kept.

    Raises
    ------
    ArgumentError
        When a batch dimension is zero.
    """
    if not A.batch_size:
        raise ArgumentError(
            f"the batch is empty: shape {tuple(A.shape)}; a factorisation is that of at least one matrix (`solve`, "
            "determinants and spectra take empty batches)"
        )


def stacked(
    A: SparseTensor, parts: Sequence[Tensor], *shape: int, dtype: torch.dtype | None = None
) -> Tensor:
    """Put together what each member of a batch has ``[*shape]``: ``[*batch, *shape]``, recorded even if none has any.

    Parameters
    ----------
    A
        The batch.
    parts
        One for each member.
    dtype
        That of an empty result; the values' by default.
    """
    if parts:
        return torch.stack(list(parts)).reshape(*A.batch_shape, *shape)
    nothing = A.values.sum()
    if dtype is not None and nothing.is_complex() and not dtype.is_complex:
        nothing = nothing.real
    return nothing.to(dtype or A.dtype).expand(*A.batch_shape, *shape)
