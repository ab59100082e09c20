"""Differentiable product of two sparse matrices, on given positions.

``c_p = Σ_k A[i, k] B[k, j]`` for the positions ``p = (i, j)`` of a pattern ``P``. It is bilinear.
With the matrix ``G`` that carries the cotangent on ``P``, and torch's convention that a gradient is
conjugated,

    grad_a = (G Bᴴ) on the positions of A,        grad_b = (Aᴴ G) on the positions of B:

masked products again, so one Function closes under differentiation of every order and no list of
elementary products is ever stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.linalg.adjoint.nested import nested
from torch_sla.linalg.adjoint.saving import keep
from torch_sla.linalg.kernels.spgemm import spgemm_masked

if TYPE_CHECKING:
    from torch_sla.linalg.sparse.pattern import Pattern

__all__ = ["MaskedProduct", "masked_product"]


class MaskedProduct(torch.autograd.Function):
    """Values ``a`` ``[B, nnz_a]``, ``b`` ``[B, nnz_b]`` -> ``[B, nnz_p]``; a batch of one is shared."""

    @staticmethod
    def forward(a: Tensor, b: Tensor, A: Pattern, B: Pattern, P: Pattern) -> Tensor:
        return spgemm_masked((A.crow, A.ccol), a, (B.crow, B.ccol), b, (P.crow, P.ccol), P.shape[1])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        del output
        a, b, *ctx.patterns = inputs
        keep(ctx, a, b)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * 5
        a, b = ctx.saved_tensors
        A, B, P = ctx.patterns
        grad_a = grad_b = None
        if ctx.needs_input_grad[0]:
            grad_a = masked_product(grad, B.transpose_values(b).conj(), P, B.transposed, A)
            if a.shape[0] == 1 and grad_a.shape[0] > 1:
                grad_a = grad_a.sum(0, keepdim=True)
        if ctx.needs_input_grad[1]:
            grad_b = masked_product(A.transpose_values(a).conj(), grad, A.transposed, P, B)
            if b.shape[0] == 1 and grad_b.shape[0] > 1:
                grad_b = grad_b.sum(0, keepdim=True)
        return grad_a, grad_b, None, None, None

    @staticmethod
    @nested
    def jvp(ctx: Any, a_t: Tensor | None, b_t: Tensor | None, *_: None) -> Tensor:
        a, b = ctx.saved_tensors
        parts = []
        if a_t is not None:
            parts.append(masked_product(a_t, b, *ctx.patterns))
        if b_t is not None:
            parts.append(masked_product(a, b_t, *ctx.patterns))
        return sum(parts[1:], parts[0])

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], a: Tensor, b: Tensor, *patterns: Any
    ) -> Any:
        n = info.batch_size

        def lead(x: Tensor, dim: int | None) -> Tensor:
            return x.expand(n, *x.shape) if dim is None else x.movedim(dim, 0)

        a, b = lead(a, in_dims[0]), lead(b, in_dims[1])
        batch = max(a.shape[1], b.shape[1])
        a, b = a.expand(n, batch, -1), b.expand(n, batch, -1)
        out = masked_product(a.flatten(0, 1), b.flatten(0, 1), *patterns)
        return out.unflatten(0, (n, batch)), 0


def masked_product(a: Tensor, b: Tensor, A: Pattern, B: Pattern, P: Pattern) -> Tensor:
    """Return the entries of ``A B`` on `P`, differentiable to any order; shapes as in `MaskedProduct`."""
    dtype = torch.promote_types(a.dtype, b.dtype)
    return MaskedProduct.apply(a.to(dtype), b.to(dtype), A, B, P)
