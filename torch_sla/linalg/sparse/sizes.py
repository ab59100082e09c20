"""What a matrix is, read off its values and its pattern: dtype, device, gradients, shapes and sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.sparse.pattern import Pattern

__all__ = ["HoldsValues", "OnPattern"]


class HoldsValues:
    """A matrix that holds the tensor of its entries."""

    _values: Tensor

    __array_ufunc__ = (
        None  # arrays of NumPy would take it for an entry, and multiply it by each of theirs
    )

    @property
    def values(self) -> Tensor:
        """Entries as given (of a matrix in parts, to this process), ``[*batch, nnz, *block]``."""
        return self._values

    @property
    def dtype(self) -> torch.dtype:
        """Of the values."""
        return self._values.dtype

    @property
    def device(self) -> torch.device:
        """Of the values and indices."""
        return self._values.device

    @property
    def is_cuda(self) -> bool:
        """Whether on a CUDA device."""
        return self._values.is_cuda

    @property
    def requires_grad(self) -> bool:
        """Whether the values do."""
        return self._values.requires_grad

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Ask for gradients of the values, in place."""
        self._values.requires_grad_(requires_grad)
        return self

    @property
    def grad(self) -> Tensor | None:
        """Gradient that reached the values, when they are a leaf."""
        return self._values.grad


class OnPattern(HoldsValues):
    """A matrix, or a batch of them, whose entries ``[*batch, nnz, *block]`` lie on a pattern."""

    pattern: Pattern

    @property
    def csr_values(self) -> Tensor:
        """Entries summed onto the slots of the pattern, ``[*batch, nnz_csr, *block]``."""
        return self.pattern.coalesce(self._values)

    @property
    def row_indices(self) -> Tensor:
        """Row of each entry ``[nnz]``; not to be written to."""
        return self.pattern.row

    @property
    def col_indices(self) -> Tensor:
        """Column of each entry ``[nnz]``; not to be written to."""
        return self.pattern.col

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Leading dimensions of the values."""
        return tuple(self._values.shape[: self._values.ndim - 1 - len(self.pattern.block)])

    @property
    def block_shape(self) -> tuple[int, ...]:
        """Shape of each entry, ``()`` for scalars."""
        return self.pattern.block

    @property
    def sparse_shape(self) -> tuple[int, int]:
        """``(M, N)``, in blocks."""
        return self.pattern.shape

    @property
    def flat_shape(self) -> tuple[int, int]:
        """``(M, N)`` in scalars."""
        br, bc = self.pattern.block or (1, 1)
        return self.pattern.shape[0] * br, self.pattern.shape[1] * bc

    @property
    def shape(self) -> torch.Size:
        """``(*batch, M, N, *block)``."""
        return torch.Size((*self.batch_shape, *self.pattern.shape, *self.pattern.block))

    @property
    def sparse_dim(self) -> tuple[int, int]:
        """Where ``M, N`` are among the dimensions before the blocks."""
        return (-2, -1)

    @property
    def batch_size(self) -> int:
        """Number of matrices, 1 without batch dimensions."""
        return torch.Size(self.batch_shape).numel()

    @property
    def ndim(self) -> int:
        """Number of dimensions of `shape`."""
        return len(self.shape)

    @property
    def nnz(self) -> int:
        """Entries as given."""
        return self.pattern.nnz

    @property
    def is_batched(self) -> bool:
        """Whether there are batch dimensions."""
        return bool(self.batch_shape)

    @property
    def is_block(self) -> bool:
        """Whether entries are blocks."""
        return bool(self.pattern.block)

    @property
    def is_square(self) -> bool:
        """Whether there are as many rows as columns."""
        return self.flat_shape[0] == self.flat_shape[1]
