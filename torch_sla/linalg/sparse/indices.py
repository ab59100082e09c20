"""Index arrays of sparse matrices as they are given: what is wrong with them, and how patterns hold them."""

from __future__ import annotations

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError

__all__ = ["check_compressed", "check_index", "checked_shape", "held_index", "index_dtype"]

_INT32_MAX = 2**31 - 1
_INDICES = (torch.int32, torch.int64)


def index_dtype(M: int, N: int, nnz: int) -> torch.dtype:
    """Return the index type of a pattern: int32 where it counts far enough."""
    return torch.int32 if max(M, N, nnz) <= _INT32_MAX else torch.int64


def held_index(given: Tensor, index: torch.dtype, copy: bool) -> Tensor:
    """Return an index array as a pattern holds it: on the CPU one that nobody else writes to."""
    made = given.to(index).contiguous()
    return made.clone() if copy and made.is_cpu and made.data_ptr() == given.data_ptr() else made


def checked_shape(shape: tuple[int, ...], block: tuple[int, ...]) -> tuple[int, int]:
    """Refuse what is no shape of a matrix, or of its blocks."""
    if len(shape) != 2 or any(int(s) != s or s < 0 for s in shape):
        raise ArgumentError(f"`shape` must be two non-negative integers (M, N), got {tuple(shape)}")
    if block and (len(block) != 2 or any(b < 1 for b in block)):
        raise ArgumentError(f"`block` must be () or two positive integers, got {tuple(block)}")
    return int(shape[0]), int(shape[1])


def check_compressed(
    at: str, pointers: Tensor, name: str, index: Tensor, shape: tuple[int, int]
) -> None:
    """Refuse compressed lines by which those who trust them would read or write beyond their arrays."""
    lines, places = shape
    check_index(name, index, places)
    if pointers.ndim != 1 or len(pointers) != lines + 1 or pointers.dtype not in _INDICES:
        raise ArgumentError(
            f"`{at}` must be int32 or int64 of length {lines + 1}, got {pointers.dtype} {list(pointers.shape)}"
        )
    ends, entries = (int(pointers[0]), int(pointers[-1])), len(index)
    if ends != (0, entries) or bool((pointers.diff() < 0).any()):
        raise ArgumentError(f"`{at}` must rise from 0 to the number of entries {entries}")


def check_index(name: str, index: Tensor, size: int) -> None:
    """Refuse what is no vector of indices below `size`."""
    if index.ndim != 1 or index.dtype not in _INDICES:
        raise ArgumentError(
            f"`{name}` must be a vector of int32 or int64, got {index.dtype} {list(index.shape)}"
        )
    if index.is_meta:
        raise ArgumentError(
            f"`{name}` has no numbers on the meta device; make matrices where they are used, of parameters and buffers"
        )
    if index.numel():
        low, high = (int(v) for v in index.aminmax())
        if low < 0 or high >= size:
            raise ArgumentError(
                f"`{name}` must lie in [0, {size}) for this shape, got indices from {low} to {high}"
            )
