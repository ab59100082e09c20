"""Assembly in chunks of cells, so that element matrices never exist all at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from torch_sla.errors import ArgumentError
from torch_sla.linalg.sparse.segments import SegmentMap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch_sla.assembly.dofs import DofMap

__all__ = ["ChunkedAssembly"]


class ChunkedAssembly:
    """Sum element matrices and vectors chunk by chunk.

    Beyond the result and the maps, memory holds the element matrices of one chunk, in the backward pass too: there they
    are computed again. Results equal those of assembly at once up to rounding, and repeat bit for bit.

    Parameters
    ----------
    dofs
        Numbering.
    chunk
        Cells at a time.

    Examples
    --------
    >>> from torch_sla.assembly import CellBasis, Dofs, lagrange, rectangle_mesh, weak
    >>> mesh = rectangle_mesh((4, 4))
    >>> dofs = Dofs(mesh, lagrange("triangle"))
    >>> work = ChunkedAssembly(dofs, chunk=10)
    >>> values = work.matrix(
    ...     lambda cells: weak.diffusion(CellBasis(mesh, dofs.element, cells=cells), kappa=1.0)
    ... )
    >>> whole = dofs.assemble_matrix(weak.diffusion(CellBasis(mesh, dofs.element), kappa=1.0))
    >>> bool((values - whole).abs().max() < 1e-14)
    True
    """

    def __init__(self, dofs: DofMap, chunk: int = 65536) -> None:
        if chunk < 1:
            raise ArgumentError(f"chunk: got {chunk}; give at least one cell at a time")
        self.dofs, self.chunk = dofs, chunk
        self._maps: dict[tuple[int, int], tuple[Tensor, SegmentMap]] = {}

    def matrix(self, local: Callable[[Tensor], Tensor]) -> Tensor:
        """Assemble values ``[*batch, nnz]`` of the pattern.

        Parameters
        ----------
        local
            Function of the indices of some cells ``[m]`` giving their element matrices
            ``[*batch, m, n_local, n_local]``; differentiable in the tensors it uses.
        """
        return self._sum(local, 2, self.dofs.pattern.nnz_csr)

    def vector(self, local: Callable[[Tensor], Tensor]) -> Tensor:
        """Assemble a vector ``[*batch, n]`` from element vectors ``[*batch, m, n_local]``."""
        return self._sum(local, 1, self.dofs.n)

    def _chunks(self) -> Iterator[tuple[int, Tensor]]:
        n, device = self.dofs.mesh.n_cells, self.dofs.cell_nodes.device
        for start in range(0, n, self.chunk):
            yield start, torch.arange(start, min(start + self.chunk, n), device=device)

    def _map(self, rank: int, start: int, cells: Tensor) -> tuple[Tensor, SegmentMap]:
        """Entries that a chunk adds to, and the map onto them; kept."""
        if (rank, start) not in self._maps:
            entries, number = self.dofs.slots_of(cells, rank).unique(return_inverse=True)
            small = torch.int32 if len(number) < 2**31 else torch.int64
            if self.dofs.n < 2**31 and self.dofs.pattern.nnz_csr < 2**31:
                entries = entries.int()
            self._maps[rank, start] = entries, SegmentMap(number.to(small), len(entries))
        return self._maps[rank, start]

    def _sum(self, local: Callable[[Tensor], Tensor], rank: int, count: int) -> Tensor:
        total: Tensor | None = None
        for start, cells in self._chunks():
            entries, scatter = self._map(rank, start, cells)

            def part(cells: Tensor = cells, scatter: SegmentMap = scatter) -> Tensor:
                return scatter.sum(local(cells).flatten(-1 - rank))

            piece: Tensor = (
                checkpoint(part, use_reentrant=False) if torch.is_grad_enabled() else part()
            )
            if total is None:
                total = piece.new_zeros(*piece.shape[:-1], count)
            total = total.index_add_(-1, entries, piece)
        if total is None:
            raise ArgumentError("dofs: the mesh has no cells")
        return total
