"""Entries into and out of torch's sparse COO matrices, differentiable to any order.

Putting entries at positions of a matrix, and reading them there, are linear and adjoint to each other, so that the
two Functions are each other's backward. torch's own constructor has a gradient that is cut off the graph: second
derivatives through it would lack a part, in silence.
"""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor

from torch_sla.errors import GradientError
from torch_sla.linalg.adjoint.unmapped import Unmapped

__all__ = ["entries_of", "matrix_of"]

_CUT = "SparseCooTensorWithDimsAndTensorsBackward0"


class _Linear(Unmapped):
    """Of sparse results and arguments, for which torch has neither tangents nor batches."""

    mapped = "torch's sparse matrices"

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> NoReturn:
        del ctx, tangents
        raise GradientError(
            "torch's sparse matrices have no forward mode; make the matrix by SparseTensor(values, row, col, shape)"
        )


class _OfMatrix(_Linear):
    """Entries ``[nnz]`` at sorted positions ``[2, nnz]`` of a sparse or dense matrix, zero where it has none."""

    @staticmethod
    def forward(matrix: Tensor, index: Tensor) -> Tensor:
        if matrix.layout == torch.strided:
            return matrix[index[0], index[1]]
        matrix = matrix.coalesce()
        have, values = matrix.indices(), matrix.values()
        if torch.equal(have, index):
            return values.clone()
        have, wanted = (i[0] * matrix.shape[1] + i[1] for i in (have, index))
        at = torch.searchsorted(have, wanted)
        found = torch.cat([have, have.new_full((1,), -1)])[at] == wanted
        return torch.where(found, torch.cat([values, values.new_zeros(1)])[at], 0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        del output
        matrix, ctx.index = inputs
        ctx.shape = matrix.shape

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        if torch.is_grad_enabled() and grad.requires_grad and _is_cut(ctx.next_functions[0][0]):
            raise GradientError(
                "the gradient of `torch.sparse_coo_tensor` has no derivative, torch cuts it off the graph; make the "
                "matrix by SparseTensor(values, row, col, shape), or call `spsolve`"
            )
        return matrix_of(grad, ctx.index, ctx.shape), None


class _OfEntries(_Linear):
    """The coalesced COO matrix with entries ``[nnz]`` at sorted positions ``[2, nnz]``."""

    @staticmethod
    def forward(values: Tensor, index: Tensor, shape: tuple[int, int]) -> Tensor:
        return torch.sparse_coo_tensor(
            index, values, shape, is_coalesced=True, check_invariants=False
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        del output
        _, ctx.index, ctx.shape = inputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return entries_of(grad, ctx.index), None, None


def entries_of(matrix: Tensor, index: Tensor) -> Tensor:
    """Return the entries ``[nnz]`` of `matrix` at sorted positions ``[2, nnz]``, zero where it has none."""
    return _OfMatrix.apply(matrix, index)


def matrix_of(values: Tensor, index: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return the coalesced COO matrix with entries ``[nnz]`` at sorted positions ``[2, nnz]``; nothing is copied."""
    return _OfEntries.apply(values, index, shape)


def _is_cut(node: Any) -> bool:
    """Whether what `node` made comes from torch's constructor, at any distance."""
    seen, ahead = set(), [node]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        if node.name() == _CUT:
            return True
        seen.add(node)
        ahead += [before for before, _ in node.next_functions]
    return False
