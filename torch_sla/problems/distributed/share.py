"""What one part of a mesh is to a problem: two lowered pieces, and where their unknowns belong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from torch_sla.errors import ArgumentError
from torch_sla.lazy import cached_property

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from torch_sla.problems.lowering.model import Model

__all__ = ["Share"]


@dataclass(frozen=True, eq=False)
class Share:
    """What one part of the mesh is to the problem.

    Parameters
    ----------
    part
        Its number.
    rows, sums
        The problem on its cells and those around its unknowns, and on its cells alone.
    owned
        Unknowns of `rows` that belong to it; several may be one, where they repeat each other.
    first
        One of them for each entry of the part in a vector, in the order of the numbers in the whole.
    order
        Where each unknown of `rows` is among the entries of the part and its ghosts, in the order of the halo.
    into_sums
        Which unknown of `rows` each of `sums` is.
    free
        Which entries no Dirichlet condition gives.
    given
        Where the others are among the constrained unknowns of `rows`.
    again
        Two of those that must have the same value ``[2, m]``.
    held
        Where entries of this part are in a vector of the process.
    points, nodes
        Which mesh point, and which node of each field, of the window each of `rows` is; on the host.
    points_of
        Part that each mesh point of `rows` belongs to.
    """

    part: int
    rows: Model
    sums: Model
    owned: Tensor
    first: Tensor
    order: Tensor
    into_sums: Tensor
    free: Tensor
    given: Tensor
    again: Tensor
    held: slice
    points: Tensor
    nodes: Mapping[str, Tensor]
    points_of: Tensor

    @cached_property
    def own_rows(self) -> Tensor:
        """Slots of the pattern of `rows` in rows that belong to the part."""
        pattern = self.rows.numbering.pattern
        mine = torch.zeros(pattern.shape[0], dtype=torch.bool, device=pattern.ccol.device)
        mine[self.owned] = True
        return torch.nonzero(mine[pattern.csr_row.long()])[:, 0]

    @cached_property
    def own_points(self) -> tuple[Tensor, Tensor]:
        """Mesh points of `rows` that belong to the part, and their numbers in the whole."""
        part = self.rows.part
        if part is None:
            raise ArgumentError("a share is a part of a problem")
        chosen = torch.nonzero(self.points_of == self.part)[:, 0]
        return chosen, part.numbers["nodes"][chosen]

    @cached_property
    def own_cells(self) -> Tensor:
        """Numbers in the whole of the cells of the part."""
        part = self.sums.part
        if part is None:
            raise ArgumentError("a share is a part of a problem")
        return part.numbers["cells"]

    @cached_property
    def own_nodes(self) -> Tensor:
        """Mask of the nodes of the first field that belong to the part ``[n_nodes]``."""
        numbering = self.rows.numbering
        name, dofs = next(iter(numbering.fields.items()))
        mine = torch.zeros(numbering.n, dtype=torch.bool, device=self.owned.device)
        mine[self.owned] = True
        return numbering.part(mine, name)[:: dofs.components]
