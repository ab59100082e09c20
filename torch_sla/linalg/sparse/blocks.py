"""Between block matrices and scalar ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from torch_sla.errors import ArgumentError
from torch_sla.linalg.sparse.pattern import Pattern
from torch_sla.linalg.sparse.segments import SegmentMap
from torch_sla.linalg.sparse.transforms import outside_transforms

if TYPE_CHECKING:
    from torch_sla.linalg.sparse.tensor import SparseTensor

__all__ = ["flatten_blocks", "unflatten_blocks"]


def flatten_blocks(A: SparseTensor) -> SparseTensor:
    """Write blocks out: ``(*batch, M, N, br, bc) -> (*batch, M br, N bc)``, differentiable."""
    pattern, values = A.flat_slots()
    return A.from_pattern(pattern, values)


@outside_transforms
def _blocked(pattern: Pattern, block: tuple[int, int]) -> tuple[Pattern, SegmentMap]:
    """Pattern of the blocks that hold an entry, and where each entry stands among their scalars."""
    (M, N), (br, bc) = pattern.shape, block
    row, col = pattern.csr_row.long(), pattern.ccol.long()
    blocks = Pattern.from_coo(row // br, col // bc, (M // br, N // bc), block)
    slot = torch.arange(row.numel(), device=row.device)
    if blocks.entries is not None:
        slot = blocks.entries.target.long()
    place = slot * (br * bc) + (row % br) * bc + col % bc
    return blocks.slots, SegmentMap(place, blocks.nnz_csr * br * bc)


def unflatten_blocks(A: SparseTensor, block: tuple[int, int] | int) -> SparseTensor:
    """Gather scalars into dense blocks, filling what is missing with zeros; differentiable.

    Parameters
    ----------
    block
        ``(br, bc)``, or one number for square blocks; must divide the shape.

    Raises
    ------
    ArgumentError
        When the shape is no multiple of the blocks, or the matrix has blocks already.
    """
    br, bc = (block, block) if isinstance(block, int) else block
    if A.is_block:
        raise ArgumentError("the matrix has blocks already; `flatten_blocks` first")
    M, N = A.sparse_shape
    if br < 1 or bc < 1 or M % br or N % bc:
        raise ArgumentError(f"`block` must divide the shape {(M, N)}, got {(br, bc)}")
    pattern, place = _blocked(A.pattern.slots, (br, bc))
    values = place.sum(A.csr_values)
    return A.from_pattern(pattern, values.reshape(*A.batch_shape, pattern.nnz, br, bc))
