"""Steps of conjugate gradients with their scalars kept on the device: faces of Triton and of torch.

Nothing here waits for the device. What an iteration needs to know of the one before it is in a
`Scalars`; a test for convergence sets its flag, and every later kernel returns without touching
memory. So iterations can be queued ahead of the host, or replayed as a CUDA graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torch_sla.linalg.kernels import krylov_fallback as fallback, triton as device

__all__ = ["BREAKDOWN", "CONVERGED", "NONFINITE", "RUNNING", "Scalars", "direction", "update"]

RUNNING, CONVERGED, BREAKDOWN, NONFINITE = range(4)


def _kernels(*tensors: Tensor) -> Any:
    if device.runs(*tensors):
        from torch_sla.linalg.kernels.triton import krylov

        return krylov
    return fallback


@dataclass(frozen=True, eq=False)
class Scalars:
    """What conjugate gradients remember, on the device.

    Parameters
    ----------
    flag
        int32 ``[1]``: `RUNNING`, or how it ended.
    steps
        int32 ``[1]``: iterations done.
    numbers
        float64 ``[5]``: ``r · z`` now and one step before, the step length, ``‖r‖²``, and the ``‖r‖²`` to
        reach.
    history
        float64 ``[limit + 1]``: ``‖r‖`` after each iteration, the first before any.
    """

    flag: Tensor
    steps: Tensor
    numbers: Tensor
    history: Tensor

    @classmethod
    def empty(cls, limit: int, where: torch.device) -> Scalars:
        """Make room for `limit` iterations."""

        def zeros(n: int, dtype: torch.dtype) -> Tensor:
            return torch.zeros(n, dtype=dtype, device=where)

        double = torch.float64
        return cls(
            zeros(1, torch.int32), zeros(1, torch.int32), zeros(5, double), zeros(limit + 1, double)
        )

    def begin(self, r_norm: Tensor, target: Tensor) -> None:
        """Start from a residual norm and the one to reach, both scalars on the device."""
        self.steps.zero_()
        self.numbers.zero_()
        self.numbers[3], self.numbers[4] = r_norm.double().square(), target.double().square()
        self.history[0] = r_norm
        self.flag.copy_(r_norm <= target)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return 8 * (1 + self.numbers.numel() + self.history.numel())

    def start(self, dots: Tensor) -> None:
        """Take ``r · z`` from its partial sums."""
        _kernels(dots).start(self, dots)

    def curvature(self, dots: Tensor) -> None:
        """Make the step length from the partial sums of ``p · A p``; no positive one is a breakdown."""
        _kernels(dots).curvature(self, dots)

    def test(self, dots: Tensor) -> None:
        """Count the iteration and test ``‖r‖²`` from its partial sums."""
        _kernels(dots).test(self, dots)


def direction(s: Scalars, z: Tensor, p: Tensor) -> None:
    """``p = z + β p`` with ``β = (r · z) / (r · z before)``, zero at first."""
    _kernels(p).direction(s, z, p)


def update(s: Scalars, p: Tensor, q: Tensor, x: Tensor, r: Tensor, dots: Tensor) -> None:
    """``x += α p``, ``r -= α q``, and partial sums of ``r · r``."""
    _kernels(p).update(s, p, q, x, r, dots)
