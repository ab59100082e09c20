"""Taking prescribed rows and columns out of the values of a matrix, differentiably and in one copy.

Let ``R`` be the entries in prescribed rows or columns and ``L``, a part of them, those that couple free rows with
prescribed columns. The map ``values -> (values without R, values at L)`` is linear; its adjoint takes the entries at
R out of the first cotangent and puts the second at L. Each is the other's backward, so derivatives of any order
follow. Composed of torch's operations, the backward pass would make, zero and add two more arrays of all values.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torch_sla.linalg.adjoint.nested import nested
from torch_sla.linalg.kernels.arguments import VALUES, empty

__all__ = ["condense"]


def _without(values: Tensor, removed: Tensor) -> Tensor:
    if not (values.is_cpu and values.dtype in VALUES):
        return values.index_fill(-1, removed, 0.0)
    return empty(tuple(values.shape), values.dtype).copy_(values).index_fill_(-1, removed, 0.0)


def condense(values: Tensor, removed: Tensor, lifted: Tensor) -> tuple[Tensor, Tensor]:
    """Take prescribed rows and columns out of the values of a matrix.

    Parameters
    ----------
    values
        ``[*batch, nnz]``.
    removed
        Entries in prescribed rows or columns, int64.
    lifted
        Those of them in free rows ``[m]``, int64.

    Returns
    -------
    kept, coupling
        New values ``[*batch, nnz]``, zero at `removed`, and ``[*batch, m]`` at `lifted`.
    """
    found: tuple[Tensor, Tensor] = _Condense.apply(values, removed, lifted)
    return found


class _Condense(torch.autograd.Function):
    """What `condense` does."""

    @staticmethod
    def forward(values: Tensor, removed: Tensor, lifted: Tensor) -> tuple[Tensor, Tensor]:
        return _without(values, removed), values.index_select(-1, lifted)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        del output
        _, ctx.removed, ctx.lifted = inputs

    @staticmethod
    def backward(ctx: Any, kept: Tensor, coupling: Tensor) -> tuple[Tensor, None, None]:
        return _Restore.apply(kept, coupling, ctx.removed, ctx.lifted), None, None

    @staticmethod
    @nested
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = _Condense.apply(tangent, ctx.removed, ctx.lifted)
        return found

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int, None, None], values: Tensor, removed: Tensor, lifted: Tensor
    ) -> Any:
        del info
        return _Condense.apply(values.movedim(in_dims[0], 0), removed, lifted), (0, 0)


class _Restore(torch.autograd.Function):
    """The adjoint of `_Condense`."""

    @staticmethod
    def forward(kept: Tensor, coupling: Tensor, removed: Tensor, lifted: Tensor) -> Tensor:
        values = _without(kept, removed)
        values[..., lifted] = coupling.to(values.dtype)
        return values

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        del output
        _, _, ctx.removed, ctx.lifted = inputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        return *_Condense.apply(grad, ctx.removed, ctx.lifted), None, None

    @staticmethod
    @nested
    def jvp(ctx: Any, kept: Tensor, coupling: Tensor, *_: None) -> Tensor:
        found: Tensor = _Restore.apply(kept, coupling, ctx.removed, ctx.lifted)
        return found

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, int | None, None, None],
        kept: Tensor,
        coupling: Tensor,
        removed: Tensor,
        lifted: Tensor,
    ) -> Any:
        both = [
            t.expand(info.batch_size, *t.shape) if d is None else t.movedim(d, 0)
            for t, d in zip((kept, coupling), in_dims[:2], strict=True)
        ]
        return _Restore.apply(*both, removed, lifted), 0
