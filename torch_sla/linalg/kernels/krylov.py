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

__all__ = [
    "BREAKDOWN",
    "CONVERGED",
    "GLANCE",
    "NONFINITE",
    "RUNNING",
    "Scalars",
    "direction",
    "residual",
    "store_dots",
    "update",
]

RUNNING, CONVERGED, BREAKDOWN, NONFINITE = range(4)


def _kernels(*tensors: Tensor) -> Any:
    return device.chosen("krylov", fallback, *tensors)


# Doubles before the history: the flag, the steps and the numbers each begin at a multiple of 16 bytes.
_STEPS, _NUMBERS, GLANCE = 2, 4, 10


@dataclass(frozen=True, eq=False)
class Scalars:
    """What conjugate gradients remember, on the device.

    Parameters
    ----------
    memory
        float64, all of it, so that one copy brings it to the host.
    flag
        int32 ``[1]``: `RUNNING`, or how it ended.
    steps
        int32 ``[1]``: iterations done.
    numbers
        float64 ``[6]``: ``r · z`` now and one step before, the step length, ``‖r‖²``, the ``‖r‖²`` to
        reach, and ``‖b‖``.
    history
        float64 ``[limit + 1]``: ``‖r‖`` after each iteration, the first before any.
    """

    memory: Tensor
    flag: Tensor
    steps: Tensor
    numbers: Tensor
    history: Tensor

    @classmethod
    def over(cls, memory: Tensor) -> Scalars:
        """Name the parts of `memory`, a copy of that of another on any device."""
        whole = memory.view(torch.int32)
        steps = whole[2 * _STEPS : 2 * _STEPS + 1]
        return cls(memory, whole[:1], steps, memory[_NUMBERS:GLANCE], memory[GLANCE:])

    @classmethod
    def empty(cls, limit: int, where: torch.device) -> Scalars:
        """Make room for `limit` iterations."""
        return cls.over(torch.zeros(GLANCE + limit + 1, dtype=torch.float64, device=where))

    @property
    def glance(self) -> Tensor:
        """All but the history."""
        return self.memory[:GLANCE]

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return 8 * self.memory.numel()

    def begin(self, dots: Tensor, b_dots: Tensor, rtol: float, atol: float) -> None:
        """Take ``‖r‖²`` and ``‖b‖²`` from their partial sums; ``max(rtol ‖b‖, atol)`` is to be reached."""
        _kernels(dots).begin(self, dots, b_dots, rtol, atol)

    def start(self, dots: Tensor) -> None:
        """Take ``r · z`` from its partial sums."""
        _kernels(dots).start(self, dots)

    def curvature(self, dots: Tensor) -> None:
        """Make the step length from the partial sums of ``p · A p``; no positive one is a breakdown."""
        _kernels(dots).curvature(self, dots)

    def test(self, dots: Tensor) -> None:
        """Count the iteration and test ``‖r‖²`` from its partial sums."""
        _kernels(dots).test(self, dots)


def residual(
    b: Tensor, q: Tensor | None, r: Tensor, p: Tensor, dots: Tensor, b_dots: Tensor
) -> None:
    """``r = b - q`` or `b`, ``p = 0``, and partial sums of ``r · r`` and ``b · b``. `b` may be `r`."""
    _kernels(b).residual(b, q, r, p, dots, b_dots)


def store_dots(dots: Tensor, x: Tensor, y: Tensor) -> None:
    """Store partial sums of ``x · y`` in float64."""
    _kernels(x).store_dots(dots, x, y)


def direction(s: Scalars, z: Tensor, p: Tensor) -> None:
    """``p = z + β p`` with ``β = (r · z) / (r · z before)``, zero at first."""
    _kernels(p).direction(s, z, p)


def update(s: Scalars, p: Tensor, q: Tensor, x: Tensor, r: Tensor, dots: Tensor) -> None:
    """``x += α p``, ``r -= α q``, and partial sums of ``r · r``."""
    _kernels(p).update(s, p, q, x, r, dots)
