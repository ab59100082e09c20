"""Where the entries of a matrix in parts are, and products with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.lazy import cached_property
from torch_sla.linalg.adjoint.exchange import exchange
from torch_sla.linalg.adjoint.matvec import matmul
from torch_sla.linalg.distributed.halo import Halo
from torch_sla.linalg.kernels import sparse as kernels
from torch_sla.linalg.kernels.pointers import pointers
from torch_sla.linalg.kernels.sparse import expand_rows
from torch_sla.linalg.sparse.pattern import Pattern
from torch_sla.linalg.sparse.transforms import outside_transforms

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch_sla.linalg.distributed.lattice.finding import LatticeOfParts
    from torch_sla.linalg.distributed.layout import Layout

__all__ = ["Product", "Sharding", "taken"]

_RUN = 1 << 16  # entries that are worked on at a time, at least


@dataclass(frozen=True)
class Outer:
    """What of a pattern needs other parts.

    Parameters
    ----------
    pattern
        Halo columns of the rows that have any.
    rows
        Which rows those are.
    slots
        Which slots of the whole pattern.
    """

    pattern: Pattern
    rows: Tensor
    slots: Tensor


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

    def __init__(self, rows: Layout, columns: Layout, row: Tensor, col: Tensor) -> None:
        self._make(rows, columns, [row, col])

    @classmethod
    def taking(cls, rows: Layout, columns: Layout, entries: list[Tensor]) -> Sharding:
        """Make one of ``[row, col]``, and leave that list empty: where nobody else has them they are gone early."""
        out = cls.__new__(cls)
        out._make(rows, columns, entries)
        return out

    @outside_transforms
    def _make(self, rows: Layout, columns: Layout, entries: list[Tensor]) -> None:
        row, col = entries
        entries.clear()
        foreign = _foreign(rows, columns, row, col)
        part, size = rows.owner(row[foreign]).long(), max(columns.n, 1)
        wanted, slot = torch.unique(part * size + col[foreign], sorted=True, return_inverse=True)
        self.rows, self.columns = rows, columns
        self.halo = Halo(columns, wanted % size, torch.div(wanted, size, rounding_mode="floor"))
        shape = (rows.n_held, columns.n_held + self.halo.size)
        index = torch.int32 if max(shape) <= torch.iinfo(torch.int32).max else torch.int64
        local = (col - columns.start).to(index)
        local[foreign] = (columns.n_held + slot).to(index)
        del foreign, slot, col
        row = (row - rows.start).to(index)
        self.pattern = Pattern.from_coo(row, local, shape)

    @classmethod
    def of(cls, rows: Layout, columns: Layout, halo: Halo, pattern: Pattern) -> Sharding:
        """Put together what exists already."""
        out = cls.__new__(cls)
        out.rows, out.columns, out.halo, out.pattern = rows, columns, halo, pattern
        return out

    @classmethod
    def of_rows(
        cls, rows: Layout, columns: Layout, csr: tuple[Tensor, Tensor], others: Tensor
    ) -> tuple[Sharding, Pattern | None]:
        """Make one of compressed rows.

        Parameters
        ----------
        csr
            ``crow`` and ``ccol`` of the rows held here; columns count what is owned here first, then `others`.
        others
            Places of columns ``[m]``, ascending.

        Returns
        -------
        Sharding, Pattern or None
            And the pattern that brings values ``[nnz]`` of the rows into its slots; None where these are in order.
        """
        crow, ccol = csr
        held = rows.comm.held
        if len(held) == 1:
            # One part: these are the owned columns and its halo as they stand.
            halo = Halo(columns, others, torch.full_like(others, held.start))
            pattern = Pattern.from_csr(crow, ccol, (rows.n_held, columns.n_held + len(others)))
            return cls.of(rows, columns, halo, pattern), None
        own = torch.arange(columns.start, columns.start + columns.n_held, device=others.device)
        places = torch.cat([own, others])
        made = cls(rows, columns, rows.start + expand_rows(crow).long(), places[ccol.long()])
        return made.slots, made.pattern

    @property
    def shape(self) -> tuple[int, int]:
        """Of the whole matrix."""
        return self.rows.n, self.columns.n

    @property
    def slots(self) -> Sharding:
        """The same without the map from given entries to slots."""
        return self if self.pattern.slots is self.pattern else self._slots

    # Never itself: what is made of a matrix goes when the last reference does.
    @cached_property
    def _slots(self) -> Sharding:
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

    def product(self, values: Tensor, x: Tensor) -> Tensor:
        """Return ``A x`` as `apply` does, once and not recorded."""
        return _multiply(self.pattern, values, torch.cat([x, self.halo.fetch(x)]))

    @property
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
    def outer(self) -> Outer | None:
        """What needs other parts; None where nothing does. Made once."""
        pattern, own = self.pattern, self.columns.n_held
        if pattern.shape[1] == own:
            return None
        runs = range(0, max(len(pattern.ccol), 1), _RUN)
        slots = torch.cat([(pattern.ccol[i : i + _RUN] >= own).nonzero()[:, 0] + i for i in runs])
        row = torch.searchsorted(pattern.crow, slots.to(pattern.crow.dtype), right=True) - 1
        rows, short = torch.unique_consecutive(row, return_inverse=True)
        col = pattern.ccol[slots].long() - own
        return Outer(_csr(short, col, rows.numel(), pattern.shape[1] - own), rows, slots)

    @property
    def lattice(self) -> LatticeOfParts | None:
        """The lattice behind the pattern; all processes ask together."""
        # Kept by the slots: where entries are in order on one process only, they all remember it or none does.
        return self.slots._lattice

    @cached_property
    @outside_transforms
    def _lattice(self) -> LatticeOfParts | None:
        from torch_sla.linalg.distributed.lattice.finding import find_lattice_of_parts

        return find_lattice_of_parts(self)

    def row_sums(self, values: Tensor) -> Tensor:
        """Sum slot values along rows ``[n_held]``; not recorded."""
        ones = values.new_ones(self.pattern.shape[1], 1)
        return _multiply(self.pattern, values, ones).squeeze(1)

    @property
    @outside_transforms
    def diagonal_slots(self) -> Tensor:
        """Slot of the diagonal entry of each row, -1 where there is none."""
        if not self.square:
            raise ArgumentError(f"a matrix of shape {self.shape} has no diagonal here")
        return self.pattern.diagonal_slots.long()  # kept in 32 bits

    def diagonal(self, values: Tensor) -> Tensor:
        """Return diagonal entries ``[n_held]``, zero where there is none."""
        slots = self.diagonal_slots
        if not values.numel():
            # Recorded as where there are entries: all processes go back through the same graph.
            return values.new_zeros(slots.shape) + values.sum()
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

    The whole pattern is multiplied with zeros in place of the halo, and what the halo adds comes after: nothing of the
    matrix is there twice but the entries of the few rows that have a halo.

    Parameters
    ----------
    sharding, values
        The matrix, slot values ``[nnz_csr]``.
    """

    def __init__(self, sharding: Sharding, values: Tensor) -> None:
        self.sharding, self._values = sharding, values.detach().resolve_conj()
        outer = sharding.outer
        self._outer = None if outer is None else (outer, self._values[outer.slots])

    def __call__(self, x: Tensor) -> Tensor:
        """Return ``A x`` for ``[n_held, K]``."""
        pattern, outer = self.sharding.pattern, self._outer
        finish = self.sharding.halo.start(x)
        if outer is None:
            finish()
            return _multiply(pattern, self._values, x)
        extended = x.new_zeros(pattern.shape[1], *x.shape[1:])
        extended[: len(x)] = x
        y = _multiply(pattern, self._values, extended)
        del extended
        h = finish()
        its, values = outer
        return y.index_add_(0, its.rows, _multiply(its.pattern, values, h))

    @cached_property
    def _turned(self) -> tuple[Tensor, Tensor | None]:
        outer = self._outer
        return (
            self.sharding.pattern.transpose_values(self._values).conj().resolve_conj(),
            outer and outer[0].pattern.transpose_values(outer[1]).conj().resolve_conj(),
        )

    def adjoint(self, y: Tensor) -> Tensor:
        """Return ``Aᴴ y`` for ``[n_held, K]``."""
        whole, few = self._turned
        halo, own = self.sharding.halo, self.sharding.columns.n_held
        h = y.new_zeros((halo.size, *y.shape[1:]))
        if self._outer is not None and few is not None:
            its = self._outer[0]
            h = _multiply(its.pattern.transposed, few, y.index_select(0, its.rows))
        finish = halo.start_back(h)
        turned = self.sharding.pattern.transposed
        crow = turned.crow[: own + 1]
        end = int(crow[-1])
        return finish(kernels.spmm(crow, turned.ccol[:end], whole[:end], y))

    def turned(self, *, adjoint: bool) -> Callable[[Tensor], Tensor]:
        """Return the product with ``A``, or with ``Aᴴ``."""
        return self.adjoint if adjoint else self


def _multiply(pattern: Pattern, values: Tensor, x: Tensor) -> Tensor:
    return kernels.spmm(pattern.crow, pattern.ccol, values, x, longest=pattern.longest_row)


def taken(x: Tensor, mask: Tensor) -> Tensor:
    """Return ``x[mask]``, in runs: what finds the places of a mask is twice as long as the values."""
    if len(x) <= _RUN:
        return x[mask]
    run = max(_RUN, len(x) // 64)
    runs = range(0, len(x), run)
    return torch.cat([x[i : i + run][mask[i : i + run]] for i in runs])


def _foreign(rows: Layout, columns: Layout, row: Tensor, col: Tensor) -> Tensor:
    """Mark entries whose column belongs to another part than their row."""
    if len(rows.comm.held) == 1:
        return (col < columns.start) | (col >= columns.start + columns.n_held)
    return columns.owner(col) != rows.owner(row)


def _csr(row: Tensor, col: Tensor, n: int, m: int) -> Pattern:
    """Pattern of sorted coordinates."""
    return Pattern.from_csr(pointers(torch.bincount(row, minlength=n)), col, (n, m))
