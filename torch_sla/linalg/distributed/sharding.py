"""Where the entries of a matrix in parts are, and products with it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.linalg.adjoint.exchange import exchange
from torch_sla.linalg.adjoint.matvec import matmul
from torch_sla.linalg.distributed.halo import Halo
from torch_sla.linalg.kernels import sparse as kernels
from torch_sla.linalg.sparse.pattern import Pattern
from torch_sla.linalg.sparse.transforms import outside_transforms

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch_sla.linalg.distributed.layout import Layout

__all__ = ["Product", "Sharding"]


@dataclass(frozen=True)
class Split:
    """A pattern in two: what needs no other part, and what does.

    Parameters
    ----------
    inner, inner_slots
        Columns that are owned here, all rows; which slots these are.
    outer, outer_slots
        Halo columns of the rows that have any.
    rows
        Which rows those are.
    """

    inner: Pattern
    inner_slots: Tensor
    outer: Pattern
    outer_slots: Tensor
    rows: Tensor


class Sharding:
    """Positions of the entries of the rows that a process holds.

    Parameters
    ----------
    rows, columns
        Layouts of what the matrix gives and takes.
    row
        Place of the row of each entry ``[nnz]``, held here.
    col
        Place of its column, anywhere.

    Attributes
    ----------
    pattern
        ``[rows.n_held, columns.n_held + halo.size]``: owned columns first, then the halo.
    halo
        Exchange of the columns that other parts own.
    """

    @outside_transforms
    def __init__(self, rows: Layout, columns: Layout, row: Tensor, col: Tensor) -> None:
        row, col = row.long(), col.long()
        part = rows.owner(row)
        foreign = columns.owner(col) != part
        wanted, slot = torch.unique(
            part[foreign] * columns.n + col[foreign], sorted=True, return_inverse=True
        )
        size = max(columns.n, 1)
        self.rows, self.columns = rows, columns
        self.halo = Halo(columns, wanted % size, torch.div(wanted, size, rounding_mode="floor"))
        local = col - columns.start
        local[foreign] = columns.n_held + slot
        shape = (rows.n_held, columns.n_held + self.halo.size)
        self.pattern = Pattern.from_coo(row - rows.start, local, shape)

    @classmethod
    def of(cls, rows: Layout, columns: Layout, halo: Halo, pattern: Pattern) -> Sharding:
        """Put together what exists already."""
        out = cls.__new__(cls)
        out.rows, out.columns, out.halo, out.pattern = rows, columns, halo, pattern
        return out

    @property
    def shape(self) -> tuple[int, int]:
        """Of the whole matrix."""
        return self.rows.n, self.columns.n

    @property
    def slots(self) -> Sharding:
        """The same without the map from given entries to slots."""
        return Sharding.of(self.rows, self.columns, self.halo, self.pattern.slots)

    @property
    def square(self) -> bool:
        """Whether it maps vectors of one layout to the same."""
        return self.rows is self.columns or self.rows.same(self.columns)

    def extend(self, x: Tensor) -> Tensor:
        """Return owned entries and halo one after the other, ``[columns of the pattern, *]``; recorded."""
        return torch.cat([x, exchange(x, self.halo)])

    def fold(self, y: Tensor) -> Tensor:
        """Add halo entries to where they are owned, the adjoint of `extend`; recorded."""
        n = self.columns.n_held
        return y[:n] + exchange(y[n:], self.halo, back=True)

    def apply(self, values: Tensor, x: Tensor) -> Tensor:
        """Return ``A x`` for slot values and ``x`` ``[n_held, K]``, differentiable to any order."""
        return matmul(values, self.extend(x), self.pattern.slots)

    @cached_property
    def column_places(self) -> Tensor:
        """Place of every column of the pattern."""
        own = torch.arange(
            self.columns.start,
            self.columns.start + self.columns.n_held,
            device=self.halo.places.device,
        )
        return torch.cat([own, self.halo.places])

    @cached_property
    @outside_transforms
    def split(self) -> Split:
        """The pattern in two; made once."""
        row, col = self.pattern.csr_row.long(), self.pattern.ccol.long()
        n, m = self.pattern.shape
        inside = col < self.columns.n_held
        inner_slots, outer_slots = inside.nonzero().squeeze(1), (~inside).nonzero().squeeze(1)
        inner = _csr(row[inner_slots], col[inner_slots], n, self.columns.n_held)
        rows, short = torch.unique_consecutive(row[outer_slots], return_inverse=True)
        outer_col = col[outer_slots] - self.columns.n_held
        outer = _csr(short, outer_col, rows.numel(), m - self.columns.n_held)
        return Split(inner, inner_slots, outer, outer_slots, rows)

    @cached_property
    @outside_transforms
    def diagonal_slots(self) -> Tensor:
        """Slot of the diagonal entry of each row, -1 where there is none."""
        if not self.square:
            raise ArgumentError(f"a matrix of shape {self.shape} has no diagonal here")
        return self.pattern.diagonal_slots.long()

    def diagonal(self, values: Tensor) -> Tensor:
        """Return diagonal entries ``[n_held]``, zero where there is none."""
        slots = self.diagonal_slots
        if not values.numel():
            return values.new_zeros(slots.shape)
        return torch.where(slots >= 0, values[slots.clamp(min=0)], 0)

    def part_pattern(self, part: int) -> tuple[Pattern, Tensor, Tensor]:
        """Return the rows of one part as a matrix of their own.

        Returns
        -------
        pattern
            ``[owned, owned + halo]`` of the part.
        slots
            Which slots of `pattern` these are.
        halo
            Which entries of the halo are the part's.
        """
        rows, columns = self.rows.part_slice(part), self.columns.part_slice(part)
        crow = self.pattern.crow[rows.start : rows.stop + 1].long()
        begin, end = int(crow[0]), int(crow[-1])
        col = self.pattern.ccol[begin:end].long()
        mine = (self.halo.parts == part).nonzero().squeeze(1)
        first = self.columns.n_held + (int(mine[0]) if mine.numel() else 0)
        owned = columns.stop - columns.start
        inside = col < self.columns.n_held
        local = torch.where(inside, col - columns.start, col - first + owned)
        pattern = Pattern.from_csr(crow - begin, local, (rows.stop - rows.start, owned + len(mine)))
        return pattern, torch.arange(begin, end, device=col.device), mine


class Product:
    """``x -> A x`` for values that stay: interior work goes on while the halo travels. Not recorded.

    Parameters
    ----------
    sharding, values
        The matrix, slot values ``[nnz_csr]``.
    """

    def __init__(self, sharding: Sharding, values: Tensor) -> None:
        self.sharding, self._split = sharding, sharding.split
        values = values.detach().resolve_conj()
        self._inner = values[self._split.inner_slots]
        self._outer = values[self._split.outer_slots]

    def __call__(self, x: Tensor) -> Tensor:
        """Return ``A x`` for ``[n_held, K]``."""
        s = self._split
        finish = self.sharding.halo.start(x)
        y = _multiply(s.inner, self._inner, x)
        h = finish()
        if s.rows.numel():
            y.index_add_(0, s.rows, _multiply(s.outer, self._outer, h))
        return y

    @cached_property
    def _turned(self) -> tuple[Tensor, Tensor]:
        s = self._split
        return (
            s.inner.transpose_values(self._inner).conj().resolve_conj(),
            s.outer.transpose_values(self._outer).conj().resolve_conj(),
        )

    def adjoint(self, y: Tensor) -> Tensor:
        """Return ``Aᴴ y`` for ``[n_held, K]``."""
        s = self._split
        inner, outer = self._turned
        finish = self.sharding.halo.start_back(
            _multiply(s.outer.transposed, outer, y.index_select(0, s.rows))
        )
        return finish(_multiply(s.inner.transposed, inner, y))

    def turned(self, *, adjoint: bool) -> Callable[[Tensor], Tensor]:
        """Return the product with ``A``, or with ``Aᴴ``."""
        return self.adjoint if adjoint else self


def _multiply(pattern: Pattern, values: Tensor, x: Tensor) -> Tensor:
    return kernels.spmm(pattern.crow, pattern.ccol, values, x, longest=pattern.longest_row)


def _csr(row: Tensor, col: Tensor, n: int, m: int) -> Pattern:
    """Pattern of sorted coordinates."""
    crow = torch.zeros(n + 1, dtype=torch.int64, device=row.device)
    torch.cumsum(torch.bincount(row, minlength=n), 0, out=crow[1:])
    return Pattern.from_csr(crow, col, (n, m))
