"""Questions about a matrix, answered from its present values and remembered by their content."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.linalg.sparse.transforms import outside_transforms, physical

if TYPE_CHECKING:
    from torch_sla.linalg.sparse.tensor import SparseTensor

__all__ = ["is_hermitian", "is_symmetric"]


def is_symmetric(A: SparseTensor, rtol: float | None = None) -> bool:
    """Whether ``A = Aᵀ``, for every member of a batch.

    Parameters
    ----------
    rtol
        Allowed difference of two entries, relative to the largest entry; by default rounding of the
        two and of their diagonal entries, as far as it is none of the smaller of the two rows.
    """
    if rtol is None:
        return bool(A.detected_structure().symmetric)
    return _equal(A, A.T(), rtol)


def is_hermitian(A: SparseTensor, rtol: float | None = None) -> bool:
    """Whether ``A = Aᴴ``, for every member of a batch; `rtol` as in `is_symmetric`."""
    if rtol is None:
        return bool(A.detected_structure().hermitian)
    return _equal(A, A.H(), rtol)


@outside_transforms
def _equal(A: SparseTensor, B: SparseTensor, rtol: float) -> bool:
    if A.flat_shape != B.flat_shape:
        return False
    difference = physical((A - B).values).abs()
    if not difference.numel():
        return True
    scale: Tensor = physical(A.csr_values).abs().reshape(A.batch_size, -1).amax(-1)
    worst = difference.reshape(A.batch_size, -1).amax(-1)
    return bool(torch.all(worst <= rtol * scale))
