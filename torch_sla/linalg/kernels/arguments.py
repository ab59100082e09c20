"""Preparing tensors for the compiled kernels, and knowing when they can take them."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from torch_sla._core import extension
from torch_sla.errors import ArgumentError, DTypeError

__all__ = [
    "VALUES",
    "common_dtype",
    "compiled",
    "empty",
    "expect_columns",
    "expect_dense",
    "expect_rhs",
    "expect_shape",
    "expect_start",
    "indices",
    "instead",
    "plain",
    "runs_compiled",
]

compiled: Any = None if extension is None else extension.sparse

_NUMPY = {
    torch.int32: np.int32,
    torch.int64: np.int64,
    torch.float32: np.float32,
    torch.float64: np.float64,
    torch.complex64: np.complex64,
    torch.complex128: np.complex128,
}

VALUES = frozenset((torch.float32, torch.float64, torch.complex64, torch.complex128))

_KNOWN = frozenset((*VALUES, torch.int32, torch.int64, torch.uint8))
_INT32_MAX = 2**31 - 1
# Bytes from which on the memory of results is kept.
_POOLED = 4 << 20


def plain(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Detach, convert, and write pending conjugations, negations and strides out.

    The checks cost a tenth of the conversions they save when there is nothing to do, which small
    matrices inside iterations notice.
    """
    if x._is_zerotensor():  # the derivative of what has none, without memory behind it
        x = torch.zeros(x.shape, dtype=x.dtype, device=x.device)
    if x.requires_grad:
        x = x.detach()
    if x.is_conj():
        x = x.resolve_conj()
    if x.is_neg():
        x = x.resolve_neg()
    if not x.is_contiguous():
        x = x.contiguous()
    return x if dtype is None or x.dtype is dtype else x.to(dtype)


def indices(*tensors: Tensor) -> list[Tensor]:
    """One index dtype for all, wide enough for their lengths."""
    dtype = torch.int32
    for t in tensors:
        if t.dtype is torch.int64 or t.numel() > _INT32_MAX:
            dtype = torch.int64
    return [plain(t, dtype) for t in tensors]


def common_dtype(a: Tensor, b: Tensor) -> torch.dtype:
    """Dtype in which two tensors meet."""
    return a.dtype if a.dtype is b.dtype else torch.promote_types(a.dtype, b.dtype)


def empty(shape: tuple[int, ...], dtype: torch.dtype, *, again: bool = False) -> Tensor:
    """Uninitialised CPU tensor for a result.

    NumPy asks the system for huge pages where torch does not; the first pass over a large new
    array is then four times faster (64 MB: 8 ms against 36 ms).

    Parameters
    ----------
    shape, dtype
        Of the tensor.
    again
        Whether results as large come again and again, as gradients do: where one has gone, the next lies in its
        memory, see `kernels.memory`.
    """
    size = prod(shape) * dtype.itemsize
    if again and extension is not None and size >= _POOLED:
        taken = extension.memory.empty(size).view(_NUMPY[dtype])
        return torch.from_numpy(taken.reshape(shape))
    return torch.from_numpy(np.empty(shape, dtype=_NUMPY[dtype]))


def runs_compiled(*tensors: Tensor) -> bool:
    """Whether the extension is here and takes tensors of these devices and dtypes."""
    if compiled is None:
        return False
    return all(t.is_cpu and t.dtype in _KNOWN for t in tensors)


def expect_dense(x: Any, name: str, device: torch.device | None = None) -> None:
    """Raise `ArgumentError` for what is no tensor or has not all its numbers in one array: sparse, nested, in parts.

    With the device of a matrix, also for what is on another one.
    """
    if not isinstance(x, Tensor):
        raise ArgumentError(
            f"`{name}` must be a tensor, got {type(x).__name__}; `torch.as_tensor` makes one of numbers"
        )
    parts = type(x) is not Tensor and is_traceable_wrapper_subclass(x)
    if x.layout is not torch.strided or x.is_nested or parts:
        what = type(x).__name__ if parts else "nested" if x.is_nested else str(x.layout)
        raise ArgumentError(
            f"`{name}` must be a dense tensor, got one that is {what}; of a sparse matrix make a `SparseTensor` "
            "(`from_torch_sparse`), of others a plain tensor"
        )
    if device is not None and x.device != device:
        raise ArgumentError(
            f"`{name}` must be on the device of the matrix, {device}; it is on {x.device}"
        )


def instead(dtype: torch.dtype) -> str:
    """Return the names of the dtypes that can be computed in, for messages about one that cannot.

    >>> instead(torch.float16), instead(torch.complex32)
    ('float32 or float64', 'complex64 or complex128')
    """
    return "complex64 or complex128" if dtype.is_complex else "float32 or float64"


def expect_rhs(b: Any, dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """Return the dtype of a solve: what torch promotes those of the matrix and of `b` to.

    Raises
    ------
    ArgumentError, DTypeError
        When `b` is no dense tensor on the device of the matrix, holds no real or complex numbers, or no solver works in
        the dtype of both.
    """
    expect_dense(b, "b", device)
    if not (b.is_floating_point() or b.is_complex()):
        raise DTypeError(f"`b` must be floating point or complex, got {b.dtype}; convert it first")
    common = torch.promote_types(dtype, b.dtype)
    if common not in VALUES:
        raise DTypeError(
            f"no solver works in {common}; convert the matrix and `b` to {instead(common)}"
        )
    return common


def expect_columns(x: Tensor, name: str, n: int) -> None:
    """Raise `ArgumentError` unless `x` is a vector ``[n]`` or has columns ``[n, K]``."""
    if x.ndim not in (1, 2) or x.shape[0] != n:
        raise ArgumentError(f"`{name}` must be [{n}] or [{n}, K], got {list(x.shape)}")


def expect_shape(x: Tensor, name: str, shape: tuple[int, ...]) -> None:
    """Raise `ArgumentError` unless `x` has this shape."""
    if tuple(x.shape) != shape:
        raise ArgumentError(f"`{name}` must have shape {list(shape)}, got {list(x.shape)}")


def expect_start(x0: Any, dtype: torch.dtype, device: torch.device | None = None) -> None:
    """Raise `ArgumentError` unless an iteration for unknowns of this dtype, on this device, can start at `x0`."""
    expect_dense(x0, "x0", device)
    if x0.is_complex() and not dtype.is_complex:
        raise ArgumentError(f"`x0` is complex, and the unknowns are of {dtype}; give `x0.real`")
