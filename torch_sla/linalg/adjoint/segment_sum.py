"""Differentiable segmented sum and gather.

With the incidence matrix ``E[t, j] = 1`` where source ``j`` belongs to segment ``t``, the sum is
``y = E x`` and the gather is ``x = Eᵀ y``. Both are linear and each is the other's adjoint, so
either one's backward is the other one's forward, to any order; the tangent of each is itself
applied to the tangent.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from torch_sla.linalg.adjoint.nested import nested
from torch_sla.linalg.adjoint.unmapped import refuse_old_vmap

__all__ = ["Gather", "SegmentSum", "Segments"]


class Segments(Protocol):
    """What the two Functions need to know of a map from sources to segments."""

    def sum_values(self, x: Tensor) -> Tensor:
        """Sum ``x`` ``[B, n_sources, k]`` to ``[B, n_targets, k]``."""

    def gather_values(self, y: Tensor) -> Tensor:
        """Copy ``y`` ``[B, n_targets, k]`` to ``[B, n_sources, k]``."""


def _fold(x: Tensor, dim: int) -> Tensor:
    """Move a vmapped dimension into the leading batch dimension of ``[B, n, k]``."""
    return x.movedim(dim, 0).flatten(0, 1)


class SegmentSum(torch.autograd.Function):
    """``y[b, t] = Σ_{j in t} x[b, j]`` for ``x`` ``[B, n_sources, k]``."""

    @staticmethod
    def forward(x: Tensor, segments: Segments) -> Tensor:
        refuse_old_vmap(x)
        return segments.sum_values(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        del output
        ctx.segments = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return Gather.apply(grad, ctx.segments), None

    @staticmethod
    @nested
    def jvp(ctx: Any, x_t: Tensor, _: None) -> Tensor:
        return SegmentSum.apply(x_t, ctx.segments)  # type: ignore[no-any-return]

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int, None], x: Tensor, segments: Segments) -> Any:
        y = SegmentSum.apply(_fold(x, in_dims[0]), segments)
        return y.unflatten(0, (info.batch_size, -1)), 0


class Gather(torch.autograd.Function):
    """``x[b, j] = y[b, target(j)]`` for ``y`` ``[B, n_targets, k]``."""

    @staticmethod
    def forward(y: Tensor, segments: Segments) -> Tensor:
        refuse_old_vmap(y)
        return segments.gather_values(y)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        del output
        ctx.segments = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return SegmentSum.apply(grad, ctx.segments), None

    @staticmethod
    @nested
    def jvp(ctx: Any, y_t: Tensor, _: None) -> Tensor:
        return Gather.apply(y_t, ctx.segments)  # type: ignore[no-any-return]

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int, None], y: Tensor, segments: Segments) -> Any:
        x = Gather.apply(_fold(y, in_dims[0]), segments)
        return x.unflatten(0, (info.batch_size, -1)), 0
