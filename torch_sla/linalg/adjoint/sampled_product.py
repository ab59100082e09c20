"""Differentiable sampled outer product: the gradient of everything with respect to matrix values.

``s_e = Σ_k u[row_e, k] v[col_e, k]`` on the slots ``e`` of a pattern (no conjugation). It is
bilinear. With the matrix ``S`` that carries the cotangent ``g`` on the pattern, and torch's
convention that a gradient is conjugated,

    grad_u = S conj(v),        grad_v = Sᵀ conj(u),

both matrix products on the same pattern, whose own backward is this Function again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.linalg.adjoint.nested import nested
from torch_sla.linalg.adjoint.saving import applied, keep
from torch_sla.linalg.adjoint.unmapped import refuse_old_vmap
from torch_sla.linalg.kernels import sparse as kernels

if TYPE_CHECKING:
    from torch_sla.linalg.sparse.pattern import Pattern

__all__ = ["SampledProduct", "sampled_product"]


class SampledProduct(torch.autograd.Function):
    """``u`` ``[*B, M, K]``, ``v`` ``[*B, N, K]`` -> ``[*B, nnz_csr]``, or less that; ``B``: one dimension or none."""

    @staticmethod
    def forward(u: Tensor, v: Tensor, pattern: Pattern, negative: bool) -> Tensor:
        refuse_old_vmap(u, v)
        return kernels.sampled_product(pattern.crow, pattern.ccol, u, v, negative=negative)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        del output
        u, v, ctx.pattern, ctx.negative = inputs
        keep(ctx, u, v)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, Tensor | None, None, None]:
        from torch_sla.linalg.adjoint.matvec import matmul

        if grad is None:
            return None, None, None, None
        grad = -grad if ctx.negative else grad
        u, v = ctx.saved_tensors
        pattern: Pattern = ctx.pattern
        grad_u = grad_v = None
        if ctx.needs_input_grad[0]:
            grad_u = matmul(grad, v.conj(), pattern)
        if ctx.needs_input_grad[1]:
            grad_v = matmul(pattern.transpose_values(grad), u.conj(), pattern.transposed)
        return grad_u, grad_v, None, None

    @staticmethod
    @nested
    def jvp(ctx: Any, u_t: Tensor | None, v_t: Tensor | None, *_: None) -> Tensor:
        u, v = ctx.saved_tensors
        parts = []
        if u_t is not None:
            parts.append(SampledProduct.apply(u_t, v, ctx.pattern, ctx.negative))
        if v_t is not None:
            parts.append(SampledProduct.apply(u, v_t, ctx.pattern, ctx.negative))
        return sum(parts[1:], parts[0])

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        u: Tensor,
        v: Tensor,
        pattern: Pattern,
        negative: bool,
    ) -> Any:
        def lead(x: Tensor, dim: int | None) -> Tensor:
            x = x.expand(info.batch_size, *x.shape) if dim is None else x.movedim(dim, 0)
            return x.flatten(0, -3)  # of empty ones no size can be inferred

        batched = u.ndim - (in_dims[0] is not None) == 3
        out = SampledProduct.apply(lead(u, in_dims[0]), lead(v, in_dims[1]), pattern, negative)
        return (out.unflatten(0, (info.batch_size, -1)) if batched else out), 0


def sampled_product(u: Tensor, v: Tensor, pattern: Pattern, *, negative: bool = False) -> Tensor:
    """Return ``Σ_k u[row, k] v[col, k]``, or less that, on every slot of `pattern`; differentiable to any order."""
    return applied(SampledProduct, u, v, pattern, negative)
