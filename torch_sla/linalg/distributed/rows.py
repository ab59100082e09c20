"""Rows that other parts own: fetched once for their positions, again for their values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.linalg.distributed.halo import Halo
from torch_sla.linalg.distributed.layout import Layout

if TYPE_CHECKING:
    from torch_sla.linalg.distributed.sharding import Sharding

__all__ = ["BorrowedRows"]


class BorrowedRows:
    """The rows of a matrix that belong to the entries of a halo.

    Parameters
    ----------
    matrix
        A matrix in parts.
    halo
        Of its rows.

    Attributes
    ----------
    row, col
        Which halo entry each fetched matrix entry belongs to ``[nnz]``, and the place of its column.
    """

    def __init__(self, matrix: Sharding, halo: Halo) -> None:
        comm, pattern = matrix.rows.comm, matrix.pattern
        crow = pattern.crow.long()
        counts = torch.zeros(comm.parts, dtype=torch.int64, device=crow.device)
        for part, here in zip(comm.held, matrix.rows.slices, strict=True):
            counts[part] = crow[here.stop] - crow[here.start]
        entries = Layout(comm, comm.reduce(counts), device=crow.device)
        begin = halo.fetch(entries.start + crow[:-1])
        lengths = halo.fetch(crow.diff())
        self.row = torch.repeat_interleave(torch.arange(halo.size, device=crow.device), lengths)
        first = torch.cumsum(lengths, 0) - lengths
        offset = torch.arange(len(self.row), device=crow.device) - first[self.row]
        self._halo = Halo(entries, begin[self.row] + offset, halo.parts[self.row])
        places = matrix.column_places.to(matrix.columns.index)
        self.col = self.fetch(places.index_select(0, pattern.ccol)).long()

    def fetch(self, values: Tensor) -> Tensor:
        """Return what belongs to the fetched entries of slot values ``[nnz_csr]``."""
        return self._halo.fetch(values)
