"""Whether numbers are finite, zero or of extreme size, and scales that bring them back."""

from __future__ import annotations

from math import isfinite

import torch
from torch import Tensor

from torch_sla.linalg.checks import read
from torch_sla.linalg.residual import largest_entries

__all__ = ["look", "powers"]


def look(entry: Tensor, b: Tensor) -> tuple[bool, bool, bool]:
    """Whether all is finite, `b` is zero or empty, and has columns of extreme size; one wait for a device.

    Parameters
    ----------
    entry
        Largest absolute value of the matrix, a scalar.
    b
        ``[n, K]``.
    """
    if not b.numel():
        return isfinite(entry), True, False
    columns = (
        torch.view_as_real(b.resolve_conj()).movedim(1, -1).flatten(0, 1) if b.is_complex() else b
    )
    sizes = largest_entries(columns)  # NaN where there is one
    largest, *found = read(entry, sizes)
    bound = _bound(b)
    finite = isfinite(largest) and all(isfinite(size) for size in found)
    extreme = any(size > bound or 0 < size < 1 / bound for size in found)
    return finite, not any(found), extreme


def _bound(b: Tensor) -> float:
    return float(torch.finfo(b.dtype).max ** 0.25)


def powers(b: Tensor) -> Tensor:
    """Powers of two ``[K]`` that bring extreme columns to about one.

    Squares of such numbers over- or underflow, so that norms would be inf or 0. The absolute tolerance
    has to be divided by the largest of them, which tightens it for the others.
    """
    size, bound = torch.linalg.vector_norm(b, torch.inf, dim=0), _bound(b)
    extreme = (size > bound) | ((size < 1 / bound) & (size > 0))
    scales = torch.exp2(torch.log2(size.clamp(min=torch.finfo(size.dtype).tiny)).round())
    return torch.where(extreme, scales, 1.0)
