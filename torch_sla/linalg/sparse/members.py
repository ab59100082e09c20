"""The members of a batch: none of them, or what each has, put together again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch_sla.linalg.sparse.tensor import SparseTensor

__all__ = ["require_members", "stacked"]


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
