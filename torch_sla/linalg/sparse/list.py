"""Several sparse tensors with patterns of their own."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.linalg.sparse.members import common_batch
from torch_sla.linalg.sparse.pattern import Pattern
from torch_sla.linalg.sparse.tensor import SparseTensor
from torch_sla.linalg.sparse.transforms import outside_transforms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = ["SparseTensorList"]


class SparseTensorList:
    """A list of sparse tensors on which operations act member by member.

    Parameters
    ----------
    members
        Sparse tensors of any shapes.

    Raises
    ------
    ArgumentError
        When a member is no `SparseTensor`.

    Examples
    --------
    >>> import torch
    >>> A = SparseTensorList([SparseTensor.eye(2), 2 * SparseTensor.eye(3)])
    >>> A @ [torch.ones(2), torch.ones(3)]
    [tensor([1., 1.]), tensor([2., 2., 2.])]
    >>> A.to_block_diagonal().sparse_shape, A.total_nnz
    ((5, 5), 5)
    """

    __array_ufunc__ = None  # scalars of NumPy would take it for a list of entries

    def __init__(self, members: Iterable[SparseTensor]) -> None:
        self._members = list(members)  # first: an iterator can be read once
        for i, A in enumerate(self._members):
            if not isinstance(A, SparseTensor):
                raise ArgumentError(
                    f"`members` must be SparseTensors, number {i} is {type(A).__name__}"
                )

    @classmethod
    def from_coo_list(
        cls, items: Sequence[tuple[Tensor, Tensor, Tensor, tuple[int, ...]]]
    ) -> SparseTensorList:
        """Build from ``(values, row, col, shape)`` of each member."""
        return cls([SparseTensor(*item) for item in items])

    @classmethod
    def from_torch_sparse_list(cls, matrices: Sequence[Tensor]) -> SparseTensorList:
        """Build from torch sparse tensors."""
        return cls([SparseTensor.from_torch_sparse(m) for m in matrices])

    @classmethod
    def from_block_diagonal(
        cls, A: SparseTensor, block_sizes: Sequence[int | tuple[int, int]]
    ) -> SparseTensorList:
        """Cut the diagonal blocks out of a matrix; differentiable.

        Parameters
        ----------
        A
            A matrix without block entries.
        block_sizes
            Rows, or ``(rows, columns)``, of each block; they must add up to the shape.

        Raises
        ------
        ArgumentError
            When a size is no number of rows or pair, the sizes do not add up, or an entry lies outside the blocks.
        """
        sizes = _checked_sizes(block_sizes)
        ends = (sum(r for r, _ in sizes), sum(c for _, c in sizes))
        if A.is_block or ends != A.sparse_shape:
            raise ArgumentError(
                f"`block_sizes` add up to {ends}, the matrix has shape {tuple(A.shape)}"
            )
        values, parts, top, left, found = A.csr_values, [], 0, 0, 0
        for r, c in sizes:
            pattern, slots = _window(A.pattern.slots, top, left, r, c)
            found += pattern.nnz
            parts.append(SparseTensor.from_pattern(pattern, values.index_select(-1, slots)))
            top, left = top + r, left + c
        if found != A.pattern.nnz_csr:
            raise ArgumentError(
                f"{A.pattern.nnz_csr - found} entries lie outside the diagonal blocks"
            )
        return cls(parts)

    def to_block_diagonal(self) -> SparseTensor:
        """Put the members along the diagonal of one matrix, blocks written out; differentiable."""
        if not self._members:
            raise ArgumentError("an empty list has no block diagonal matrix")
        batch = common_batch("members", *(A.batch_shape for A in self))
        flat = [A.flat_slots() for A in self]
        dtype = flat[0][1].dtype
        for _, v in flat[1:]:
            dtype = torch.promote_types(dtype, v.dtype)
        values = torch.cat([v.to(dtype).expand(*batch, v.shape[-1]) for _, v in flat], -1)
        return SparseTensor.from_pattern(_diagonal([p for p, _ in flat]), values)

    # --- as a list -----------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[SparseTensor]:
        return iter(self._members)

    def __getitem__(self, index: int | slice) -> SparseTensor | SparseTensorList:
        if isinstance(index, slice):
            return SparseTensorList(self._members[index])
        return self._members[index]

    def __repr__(self) -> str:
        return f"SparseTensorList({len(self)} members, shapes={self.shapes}, nnz={self.total_nnz})"

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shape of each member."""
        return [tuple(A.shape) for A in self]

    @property
    def block_sizes(self) -> list[tuple[int, int]]:
        """Rows and columns of each member, in scalars."""
        return [A.flat_shape for A in self]

    @property
    def total_nnz(self) -> int:
        """Entries of all members."""
        return sum(A.nnz for A in self)

    @property
    def total_shape(self) -> tuple[int, int]:
        """Shape of the block diagonal matrix."""
        return sum(r for r, _ in self.block_sizes), sum(c for _, c in self.block_sizes)

    @property
    def device(self) -> torch.device:
        """Device of the first member."""
        return self._first("device").device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the first member."""
        return self._first("dtype").dtype

    def _first(self, asked: str) -> SparseTensor:
        if not self._members:
            raise ArgumentError(f"an empty list has no {asked}: it is that of the first member")
        return self._members[0]

    # --- member by member ----------------------------------------------------------------------

    def map(self, function: Callable[[SparseTensor], SparseTensor]) -> SparseTensorList:
        """Apply a function to each member."""
        return SparseTensorList([function(A) for A in self])

    def to(self, *args: Any, **kwargs: Any) -> SparseTensorList:
        """Move or cast every member."""
        return self.map(lambda A: A.to(*args, **kwargs))

    def solve(self, b: Sequence[Tensor], **options: Any) -> Any:
        """Solve with each member; options as for `SparseTensor.solve`, results in a list."""
        return [A.solve(rhs, **options) for A, rhs in self._paired(b)]

    def __matmul__(self, x: Sequence[Tensor]) -> list[Tensor]:
        return [A @ v for A, v in self._paired(x)]

    def _paired(self, others: Any) -> list[tuple[SparseTensor, Any]]:
        if len(others) != len(self):
            raise ArgumentError(f"{len(self)} members need as many operands, got {len(others)}")
        return list(zip(self, others, strict=True))

    def _binary(self, other: Any, function: Callable[[Any, Any], SparseTensor]) -> SparseTensorList:
        if isinstance(other, SparseTensorList | list | tuple):
            return SparseTensorList([function(A, B) for A, B in self._paired(other)])
        return self.map(lambda A: function(A, other))

    def __add__(self, other: Any) -> SparseTensorList:
        return self._binary(other, lambda a, b: a + b)

    def __sub__(self, other: Any) -> SparseTensorList:
        return self._binary(other, lambda a, b: a - b)

    def __mul__(self, other: Any) -> SparseTensorList:
        return self._binary(other, lambda a, b: a * b)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> SparseTensorList:
        return self._binary(other, lambda a, b: a / b)

    def __neg__(self) -> SparseTensorList:
        return self.map(lambda A: -A)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self._members,)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Reach the methods of the members: ``abs``, ``sum``, ``norm``, ``det``, ``eigsh`` ...

        Results that are sparse tensors come back as a `SparseTensorList`, others as a list.
        """
        method = getattr(SparseTensor, name, None)
        if name.startswith("_") or not callable(method):
            raise AttributeError(f"'SparseTensorList' has no attribute {name!r}")

        def each(*args: Any, **kwargs: Any) -> Any:
            results = [getattr(A, name)(*args, **kwargs) for A in self]
            if results and all(isinstance(r, SparseTensor) for r in results):
                return SparseTensorList(results)
            return results

        return each


def _rebuilt(members: list[SparseTensor]) -> SparseTensorList:
    """Return what was pickled, checked."""
    return SparseTensorList(members)


torch.serialization.add_safe_globals([_rebuilt])


def _checked_sizes(block_sizes: Sequence[Any]) -> list[tuple[int, int]]:
    """Return rows and columns of each block."""
    found = []
    try:
        for size in block_sizes:
            pair = (size, size) if np.ndim(size) == 0 else tuple(size)
            rows, columns = (operator.index(s) for s in pair)
            if min(rows, columns) < 0:
                raise ValueError
            found.append((rows, columns))
    except (TypeError, ValueError):
        raise ArgumentError(
            "`block_sizes` must be a sequence of numbers of rows, or of pairs (rows, columns), "
            f"got {block_sizes!r}"
        ) from None
    return found


@outside_transforms
def _window(
    pattern: Pattern, top: int, left: int, rows: int, columns: int
) -> tuple[Pattern, Tensor]:
    """Slot pattern of a submatrix, and the slots it takes."""
    row, col = pattern.csr_row.long() - top, pattern.ccol.long() - left
    inside = (row >= 0) & (row < rows) & (col >= 0) & (col < columns)
    slots = inside.nonzero().squeeze(1)
    return Pattern.from_coo(row[slots], col[slots], (rows, columns)), slots


@outside_transforms
def _diagonal(patterns: list[Pattern]) -> Pattern:
    rows, cols, M, N = [], [], 0, 0
    for p in patterns:
        rows.append(p.csr_row.long() + M)
        cols.append(p.ccol.long() + N)
        M, N = M + p.shape[0], N + p.shape[1]
    return Pattern.from_coo(torch.cat(rows), torch.cat(cols), (M, N))
