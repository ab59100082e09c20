"""The immutable sparsity pattern: where entries are, never what they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.lazy import cached_property
from torch_sla.linalg.kernels import sparse as kernels
from torch_sla.linalg.kernels.detection import sound_rows
from torch_sla.linalg.kernels.lattice_detect import find_lattice
from torch_sla.linalg.kernels.structure import is_csr, mirror_slots
from torch_sla.linalg.sparse.growth import growth_dimension, mean_spread
from torch_sla.linalg.sparse.indices import (
    check_compressed,
    check_index,
    checked_shape,
    held_index,
    index_dtype,
)
from torch_sla.linalg.sparse.segments import SegmentMap
from torch_sla.linalg.sparse.transforms import outside_transforms, physical

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch_sla.linalg.kernels.stencils import Lattice

__all__ = ["Pattern"]


class Pattern:
    """Positions of the entries of a sparse matrix, in compressed rows.

    Entries as the user gave them (any order, duplicates allowed) map to unique, sorted CSR *slots*.
    Where the given entries already are the slots, no map is kept. Indices are int32 where they fit.
    Everything beyond the CSR arrays is made on first use and kept.

    Make one with `from_coo` or `from_csr`.

    Attributes
    ----------
    shape
        ``(M, N)``, counted in blocks.
    block
        ``()`` for scalar entries, else ``(rows, columns)`` of each block.
    crow, ccol
        CSR row pointers ``[M + 1]`` and columns ``[nnz_csr]``, sorted and unique in each row.
    entries
        `SegmentMap` from given entries to slots, or None when they are the same.

    Examples
    --------
    >>> import torch
    >>> p = Pattern.from_coo(torch.tensor([1, 0, 1]), torch.tensor([0, 1, 0]), (2, 2))
    >>> p.nnz, p.nnz_csr
    (3, 2)
    >>> p.coalesce(torch.tensor([1.0, 2.0, 3.0]))
    tensor([2., 4.])
    """

    shape: tuple[int, int]
    block: tuple[int, ...]
    crow: Tensor
    ccol: Tensor
    entries: SegmentMap | None

    def __init__(
        self,
        crow: Tensor,
        ccol: Tensor,
        shape: tuple[int, int],
        block: tuple[int, ...],
        entries: SegmentMap | None,
    ) -> None:
        self.crow, self.ccol, self.shape, self.block, self.entries = (
            crow,
            ccol,
            shape,
            block,
            entries,
        )

    @classmethod
    @outside_transforms
    def from_coo(
        cls, row: Tensor, col: Tensor, shape: tuple[int, int], block: tuple[int, ...] = ()
    ) -> Pattern:
        """Build from coordinates in any order; equal coordinates will add up.

        Parameters
        ----------
        row, col
            int32 or int64 ``[nnz]``.
        shape
            ``(M, N)``.
        block
            ``()`` or the shape of each entry.

        Raises
        ------
        ArgumentError
            When the indices are not integer vectors of one length, or lie outside the shape.
        """
        M, N = checked_shape(shape, block)
        row, col = physical(row), physical(col)
        for name, given, size in (("row", row, M), ("col", col, N)):
            check_index(name, given, size)
        if row.shape != col.shape:
            raise ArgumentError(
                f"`row` and `col` must have one length, got {row.numel()} and {col.numel()}"
            )
        if row.device != col.device:
            raise ArgumentError(
                f"`row` and `col` must be on one device, got {row.device} and {col.device}"
            )
        index = index_dtype(M, N, row.numel())
        crow, ccol, slot = kernels.coo_to_csr(row.to(index), col.to(index), M, N)
        entries = None if slot is None else SegmentMap(slot, ccol.numel())
        return cls(crow, ccol, (M, N), tuple(block), entries)

    @classmethod
    @outside_transforms
    def from_csr(
        cls,
        crow: Tensor,
        ccol: Tensor,
        shape: tuple[int, int],
        block: tuple[int, ...] = (),
        *,
        copy: bool = True,
    ) -> Pattern:
        """Build from sorted, unique compressed rows.

        Parameters
        ----------
        crow, ccol
            int32 or int64 ``[M + 1]`` and ``[nnz]``. On a device, where memory is short, arrays that already are int32
            (int64 where that is needed to count) are held as they are: do not write to them afterwards.
        copy
            Whether such arrays are copied on the CPU; False for who gives them away.

        Raises
        ------
        ArgumentError
            When the arrays are no valid CSR pattern, or columns are unsorted or repeated within a
            row.
        """
        M, N = checked_shape(shape, block)
        crow, ccol = physical(crow), physical(ccol)
        index = index_dtype(M, N, ccol.numel())
        if (crow.ndim, ccol.ndim, crow.numel()) == (1, 1, M + 1) and (
            is_csr(crow, ccol, N) or (ccol.dtype is index and sound_rows(crow, ccol, N))
        ):
            crow, ccol = held_index(crow, index, copy), held_index(ccol, index, copy)
            return cls(crow, ccol, (M, N), tuple(block), None)
        check_compressed("crow", crow, "ccol", ccol, (M, N))
        crow, ccol = held_index(crow, index, copy), held_index(ccol, index, copy)
        if ccol.numel() > 1:
            rising = ccol.diff() > 0
            starts = crow[1:-1].long()
            starts = starts[(starts > 0) & (starts < ccol.numel())] - 1
            rising[starts] = True
            if not bool(rising.all()):
                raise ArgumentError(
                    "`ccol` must be sorted and unique within each row; use `from_coo` for other input"
                )
        return cls(crow, ccol, (M, N), tuple(block), None)

    # --- sizes ---------------------------------------------------------------------------------

    @property
    def nnz(self) -> int:
        """Entries as given, duplicates counted."""
        return self.ccol.numel() if self.entries is None else self.entries.n_sources

    @property
    def nnz_csr(self) -> int:
        """Distinct positions."""
        return self.ccol.numel()

    @property
    def device(self) -> torch.device:
        """Where the index arrays live."""
        return self.ccol.device

    @property
    def nbytes(self) -> int:
        """Bytes of index data held at this moment."""
        held = [v for v in self.__dict__.values() if isinstance(v, Tensor)]
        maps = [v for v in self.__dict__.values() if isinstance(v, SegmentMap)]
        return sum(t.numel() * t.element_size() for t in held) + sum(m.nbytes for m in maps)

    # --- views made on first use ---------------------------------------------------------------

    @cached_property
    @outside_transforms
    def csr_row(self) -> Tensor:
        """Row of each slot ``[nnz_csr]``."""
        return kernels.expand_rows(self.crow, self.nnz_csr)

    @property
    def row(self) -> Tensor:
        """Row of each given entry ``[nnz]``."""
        return self.csr_row if self.entries is None else self.csr_row[self.entries.target]

    @property
    def col(self) -> Tensor:
        """Column of each given entry ``[nnz]``."""
        return self.ccol if self.entries is None else self.ccol[self.entries.target]

    @property
    def slots(self) -> Pattern:
        """The pattern of the slots themselves: this one without its entry map."""
        return self if self.entries is None else self._slots

    @cached_property
    @outside_transforms
    def _slots(self) -> Pattern:
        return Pattern(self.crow, self.ccol, self.shape, self.block, None)

    # None stands for "this one", so that a pattern never holds itself.
    @cached_property
    @outside_transforms
    def _transpose(self) -> tuple[Pattern | None, SegmentMap]:
        square = self.shape[0] == self.shape[1] and self.block == self.block[::-1]
        mirror = mirror_slots(self.crow, self.ccol) if square else None
        if mirror is not None:
            return None, SegmentMap.permutation(mirror)
        crow, ccol, perm = kernels.transpose_csr(self.crow, self.ccol, self.shape[1])
        same = self.shape[0] == self.shape[1] and all(
            found is own or torch.equal(found, own)  # which a device is waited for
            for found, own in ((crow, self.crow), (ccol, self.ccol))
        )
        block = self.block[::-1]
        other = Pattern(crow, ccol, (self.shape[1], self.shape[0]), block, None)
        return None if same and block == self.block else other, SegmentMap.permutation(perm)

    @property
    def transposed(self) -> Pattern:
        """The slot pattern of ``Aᵀ``; the slot pattern itself when structurally symmetric."""
        other = self._transpose[0]
        return self.slots if other is None else other

    @property
    def transpose_permutation(self) -> Tensor:
        """``values of Aᵀ = values[perm]``, on slots ``[nnz_csr]``."""
        return self._transpose[1].target

    def rows(self, *, turned: bool) -> tuple[Tensor, Tensor, Tensor | None, int | None]:
        """Return what products with ``A``, or ``Aᵀ`` where it is `turned`, take: no values are turned for them.

        Returns
        -------
        crow, ccol, slots, longest
            Compressed rows, the slot of each entry, None for those of the pattern itself, and `longest_row`
            where it is known already.
        """
        p = self.transposed if turned else self
        longest = vars(p).get("longest_row")
        return p.crow, p.ccol, self.transpose_permutation if turned else None, longest

    @property
    def symmetric(self) -> bool:
        """Whether the positions, not the values, are symmetric."""
        return self._transpose[0] is None

    @cached_property
    @outside_transforms
    def diagonal_slots(self) -> Tensor:
        """Slot of each diagonal position ``[min(M, N)]``, -1 where there is none."""
        return kernels.diagonal_slots(self.crow, self.ccol, self.shape[1])

    @cached_property
    @outside_transforms
    def whole_diagonal(self) -> bool:
        """Whether every diagonal position is stored."""
        return bool((self.diagonal_slots >= 0).all())

    @cached_property
    @outside_transforms
    def lattice(self) -> Lattice | None:
        """Lattice of which every entry joins a point to a neighbour; None where there is none."""
        sample = vars(self).pop("sample", None)  # where that has been read with something else
        square = self.shape[0] == self.shape[1] and not self.block
        return find_lattice(self.crow, self.ccol, sample) if square else None

    @cached_property
    @outside_transforms
    def longest_row(self) -> int | None:
        """Entries of the longest row, which products on a device want; None on the CPU."""
        return None if self.crow.is_cpu or self.crow.numel() < 2 else int(self.crow.diff().amax())

    @cached_property
    @outside_transforms
    def dimension(self) -> float:
        """Growth dimension of the graph, see `growth_dimension`."""
        return growth_dimension(self)

    @cached_property
    @outside_transforms
    def spread(self) -> float:
        """Mean distance of the entries from the diagonal, see `mean_spread`."""
        return mean_spread(self)

    @cached_property
    @outside_transforms
    def key(self) -> tuple[Any, ...]:
        """Content hash of the slot pattern; equal patterns have equal keys."""
        return self.key_of(kernels.fingerprints_of(self.crow, self.ccol))

    def key_of(self, marks: Sequence[int]) -> tuple[Any, ...]:
        """Return the key for the fingerprints of both index arrays."""
        return (self.shape, self.block, str(self.device), *marks)

    @cached_property
    @outside_transforms
    def _rows(self) -> SegmentMap:
        return SegmentMap.rows(self.crow, self.csr_row)

    # --- values on this pattern ----------------------------------------------------------------

    def coalesce(self, values: Tensor) -> Tensor:
        """Add up duplicates: ``[*batch, nnz, *block] -> [*batch, nnz_csr, *block]``."""
        if self.entries is None:
            return values
        return self.entries.sum(values, dim=-1 - len(self.block))

    def transpose_values(self, values: Tensor) -> Tensor:
        """Slot values of ``Aᵀ`` from those of ``A`` (blocks transposed too)."""
        out = self._transpose[1].gather(values, dim=-1 - len(self.block))
        return out.transpose(-1, -2) if self.block else out

    def sum_rows(self, values: Tensor) -> Tensor:
        """Sum slot values along each row: ``[*batch, nnz_csr] -> [*batch, M]``."""
        return self._rows.sum(values)

    @cached_property
    @outside_transforms
    def flat(self) -> tuple[Pattern, SegmentMap]:
        """The scalar slot pattern of a block pattern, and the map that reorders values to it.

        ``flat_values = map.gather(values.flatten(-3))``.
        """
        if not self.block:
            raise ArgumentError("`flat` is for block patterns; this one has scalar entries")
        br, bc = self.block
        M, N = self.shape
        row, col = self.csr_row.long(), self.ccol.long()
        i = torch.arange(br, device=self.device).reshape(1, br, 1)
        j = torch.arange(bc, device=self.device).reshape(1, 1, bc)
        rows = (row.reshape(-1, 1, 1) * br + i).expand(-1, br, bc).flatten()
        cols = (col.reshape(-1, 1, 1) * bc + j).expand(-1, br, bc).flatten()
        pattern = Pattern.from_coo(rows, cols, (M * br, N * bc))
        n = pattern.nnz_csr
        source = torch.arange(n, device=self.device)
        if pattern.entries is not None:
            order = torch.empty_like(source)
            order[pattern.entries.target.long()] = source
            source = order
        return pattern.slots, SegmentMap.permutation(source)

    def repeated(self, times: int) -> Pattern:
        """Return the slot pattern of the block diagonal matrix of so many matrices on this one.

        Examples
        --------
        >>> import torch
        >>> i = torch.tensor([0, 1])
        >>> Pattern.from_coo(i, i.flip(0), (2, 2)).repeated(2).ccol.tolist()
        [1, 0, 3, 2]
        """
        M, N, nnz = *self.shape, self.nnz_csr
        index = index_dtype(M * times, N * times, nnz * times)
        copy = torch.arange(times, dtype=index, device=self.device).unsqueeze(1)
        ends = (self.crow[1:].to(index) + copy * nnz).flatten()
        crow = torch.cat([ends.new_zeros(1), ends])
        ccol = (self.ccol.to(index) + copy * N).flatten()
        made = Pattern(crow, ccol, (M * times, N * times), self.block, None)
        made.lattice = None if self.lattice is None else self.lattice.repeated(times)
        made.longest_row = self.longest_row
        return made

    def to(self, device: torch.device | str) -> Pattern:
        """Return the pattern with its index arrays on `device`."""
        target = torch.device(device)
        if target == self.device:
            return self
        entries = self.entries
        if entries is not None:
            entries = SegmentMap(entries.target.to(target), entries.n_targets)
        return Pattern(self.crow.to(target), self.ccol.to(target), self.shape, self.block, entries)

    def __reduce__(self) -> tuple[Any, ...]:
        target = None if self.entries is None else self.entries.target
        return _rebuilt, (self.crow, self.ccol, self.shape, self.block, target)

    def __repr__(self) -> str:
        block = f", block={self.block}" if self.block else ""
        return f"Pattern(shape={self.shape}, nnz={self.nnz_csr}{block}, index={self.ccol.dtype})"


def _rebuilt(
    crow: Tensor,
    ccol: Tensor,
    shape: tuple[int, int],
    block: tuple[int, ...],
    target: Tensor | None,
) -> Pattern:
    """Return what was pickled, checked: ``torch.load(weights_only=True)`` reads files of anybody."""
    found = Pattern.from_csr(crow, ccol, shape, block, copy=False)
    if target is not None:
        found.entries = SegmentMap(target, found.nnz_csr)
    return found


torch.serialization.add_safe_globals([_rebuilt])
