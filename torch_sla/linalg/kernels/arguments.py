"""Preparing tensors for the compiled kernels, and knowing when they can take them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torch_sla._core import extension
from torch_sla.errors import ArgumentError

__all__ = ["VALUES", "compiled", "expect_shape", "indices", "plain", "runs_compiled"]

compiled: Any = None if extension is None else extension.sparse

VALUES = (torch.float32, torch.float64, torch.complex64, torch.complex128)

_INDICES = (torch.int32, torch.int64, torch.uint8)
_INT32_MAX = 2**31 - 1


def plain(x: Tensor) -> Tensor:
    """Detach, and write pending conjugations, negations and strides out."""
    return x.detach().resolve_conj().resolve_neg().contiguous()


def indices(*tensors: Tensor) -> list[Tensor]:
    """One index dtype for all, wide enough for their lengths."""
    wide = any(t.dtype == torch.int64 or t.numel() > _INT32_MAX for t in tensors)
    return [plain(t).to(torch.int64 if wide else torch.int32) for t in tensors]


def runs_compiled(*tensors: Tensor) -> bool:
    """Whether the extension is here and takes tensors of these devices and dtypes."""
    return compiled is not None and all(
        t.device.type == "cpu" and (t.dtype in VALUES or t.dtype in _INDICES) for t in tensors
    )


def expect_shape(x: Tensor, name: str, shape: tuple[int, ...]) -> None:
    """Raise `ArgumentError` unless `x` has this shape."""
    if tuple(x.shape) != shape:
        raise ArgumentError(f"`{name}` must have shape {list(shape)}, got {list(x.shape)}")
