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

__all__ = ["Incidence", "Segments"]


class Segments(Protocol):
    """What the Function needs to know of a map from sources to segments."""

    def sum_values(self, x: Tensor) -> Tensor:
        """Sum ``x`` ``[B, n_sources, k]`` to ``[B, n_targets, k]``."""

    def gather_values(self, y: Tensor) -> Tensor:
        """Copy ``y`` ``[B, n_targets, k]`` to ``[B, n_sources, k]``."""


class Incidence(torch.autograd.Function):
    """``y[b, t] = Σ_{j in t} x[b, j]`` for ``x`` ``[B, n_sources, k]``, or back ``x[b, j] = y[b, target(j)]``."""

    @staticmethod
    def forward(x: Tensor, segments: Segments, back: bool) -> Tensor:
        refuse_old_vmap(x)
        return segments.gather_values(x) if back else segments.sum_values(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        del output
        _, ctx.segments, ctx.back = inputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return Incidence.apply(grad, ctx.segments, not ctx.back), None, None

    @staticmethod
    @nested
    def jvp(ctx: Any, x_t: Tensor, *_: None) -> Tensor:
        return Incidence.apply(x_t, ctx.segments, ctx.back)  # type: ignore[no-any-return]

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int, None, None], x: Tensor, segments: Segments, back: bool
    ) -> Any:
        """Fold the mapped dimension into the leading batch dimension."""
        y = Incidence.apply(x.movedim(in_dims[0], 0).flatten(0, 1), segments, back)
        return y.unflatten(0, (info.batch_size, -1)), 0
