"""Starting vectors and signs of vectors in parts that do not depend on how they are cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.linalg.precond.multigrid.device.smoothers import scattered

if TYPE_CHECKING:
    from torch_sla.linalg.distributed.layout import Layout

__all__ = ["fix_phase", "start"]

_NONE = torch.iinfo(torch.int64).max


def start(layout: Layout, columns: int, dtype: torch.dtype, *, seed: int = 0) -> Tensor:
    """Return starting vectors ``[n_held, columns]``: numbers that depend on names and `seed` alone."""
    c = torch.arange(columns, device=layout.device)
    i = layout.names.unsqueeze(1) * 2 * columns + 2 * c + 1 + 15013 * seed
    if dtype.is_complex:
        real = torch.float32 if dtype is torch.complex64 else torch.float64
        return torch.complex(scattered(i, real), scattered(i + 7919, real)).to(dtype)
    return scattered(i, dtype)


def fix_phase(V: Tensor, layout: Layout) -> Tensor:
    """Return the factor per column ``[k]`` that makes its largest entry real and positive.

    As `torch_sla.linalg.eigen.convention.fix_phase`: of entries equally large up to 0.1 % the one with the
    smallest name decides.
    """
    comm, size = layout.comm, V.abs()
    none = size.new_zeros(V.shape[1])
    largest = comm.reduce(size.amax(0) if len(V) else none, "max")
    names = layout.names.unsqueeze(1).expand(V.shape)
    # Names may be numbers in something larger than this layout.
    large = torch.where(size >= 0.999 * largest, names, _NONE)
    absent = torch.full((V.shape[1],), _NONE, dtype=torch.int64, device=V.device)
    first = comm.reduce(large.amin(0) if len(V) else absent, "min")
    entry = comm.reduce(torch.where(names == first, V, 0).sum(0))
    return torch.where(entry.abs() > 0, entry.conj() / entry.abs().clamp(min=1e-300), 1.0)
