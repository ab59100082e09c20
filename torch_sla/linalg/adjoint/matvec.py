"""Differentiable sparse matrix times dense vectors.

``Y = A X``, with the values ``a`` of ``A`` on the slots of a pattern. For a cotangent ``G`` of
``Y``,

    grad_x = Aᴴ G,        grad_a[e] = Σ_k G[row_e, k] conj(X[col_e, k]),

the second being the sampled product of ``G`` and ``conj(X)``. Both are built from this Function and
`SampledProduct`, so every order of derivative exists. An unbatched factor of a batched product
receives the sum over the batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.linalg.adjoint.nested import nested
from torch_sla.linalg.adjoint.sampled_product import sampled_product
from torch_sla.linalg.adjoint.saving import applied, keep
from torch_sla.linalg.adjoint.unmapped import refuse_old_vmap
from torch_sla.linalg.kernels import sparse as kernels

if TYPE_CHECKING:
    from torch_sla.linalg.sparse.pattern import Pattern

__all__ = ["MatMul", "matmul"]


class MatMul(torch.autograd.Function):
    """Values ``[*B, nnz_csr]``, ``X`` ``[*B, N, K]`` -> ``[*B, M, K]``; ``B``: one dimension or none."""

    @staticmethod
    def forward(values: Tensor, X: Tensor, pattern: Pattern) -> Tensor:
        refuse_old_vmap(values, X)
        return kernels.spmm(pattern.crow, pattern.ccol, values, X, longest=pattern.longest_row)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        del output
        values, X, ctx.pattern = inputs
        keep(ctx, values, X)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, Tensor | None, None]:
        if grad is None:
            return None, None, None
        values, X = ctx.saved_tensors
        pattern: Pattern = ctx.pattern
        grad_values = grad_x = None
        if ctx.needs_input_grad[0]:
            if values.ndim == 1 and grad.ndim == 3:
                # One matrix, many right-hand sides: the batch is more columns.
                G = grad.movedim(0, 1).flatten(1)
                columns = X.movedim(0, 1).flatten(1)
                grad_values = sampled_product(G, columns.conj(), pattern)
            else:
                batch = X if X.ndim == grad.ndim else X.expand(grad.shape[0], *X.shape)
                grad_values = sampled_product(grad, batch.conj(), pattern)
        if ctx.needs_input_grad[1]:
            grad_x = matmul(pattern.transpose_values(values).conj(), grad, pattern.transposed)
            if X.ndim < grad.ndim:
                grad_x = grad_x.sum(0)
        return grad_values, grad_x, None

    @staticmethod
    @nested
    def jvp(ctx: Any, values_t: Tensor | None, x_t: Tensor | None, _: None) -> Tensor:
        values, X = ctx.saved_tensors
        parts = []
        if values_t is not None:
            parts.append(matmul(values_t, X, ctx.pattern))
        if x_t is not None:
            parts.append(matmul(values, x_t, ctx.pattern))
        return sum(parts[1:], parts[0])

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], values: Tensor, X: Tensor, pattern: Pattern
    ) -> Any:
        return fold_vmap(lambda v, x: matmul(v, x, pattern), info.batch_size, in_dims, values, X), 0


def fold_vmap(
    function: Any, size: int, in_dims: tuple[int | None, ...], values: Tensor, X: Tensor
) -> Tensor:
    """Run ``function(values [*B, nnz], X [*B, n, K])`` with one more batch dimension, returned in front.

    The new dimension joins the batch where the matrix varies with it, and the columns where it does
    not, so that one matrix stays one matrix.
    """
    v_dim, x_dim = in_dims[0], in_dims[1]
    if x_dim is not None:
        X = X.movedim(x_dim, 0)
    if v_dim is None:
        # The matrix is shared: [V, *B, n, K] -> [*B, n, V K].
        K = X.shape[-1]
        out = function(values, X.movedim(0, -2).flatten(-2))
        return out.unflatten(-1, (size, K)).movedim(-2, 0)
    values = values.movedim(v_dim, 0)
    if x_dim is None:
        X = X.expand(size, *X.shape)
    if values.ndim == 2 and X.ndim == 3:
        return function(values, X)
    # A batch exists already on one side at least: give it to both and merge.
    B = values.shape[1] if values.ndim == 3 else X.shape[1]
    if values.ndim == 2:
        values = values.unsqueeze(1).expand(-1, B, -1)
    if X.ndim == 3:
        X = X.unsqueeze(1).expand(-1, B, -1, -1)
    return function(values.flatten(0, 1), X.flatten(0, 1)).unflatten(0, (size, B))


def matmul(values: Tensor, X: Tensor, pattern: Pattern) -> Tensor:
    """Return ``A X`` for slot values, differentiable to any order."""
    return applied(MatMul, values, X, pattern)
