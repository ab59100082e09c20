"""Rows that values tie together, of a matrix in parts: a smoother inverts each small group of them as one block.

The rule is that of one process, see `torch_sla.linalg.precond.multigrid.device.tied`; a group is within one part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch_sla.linalg.kernels import sparse as kernels
from torch_sla.linalg.precond.multigrid.device.coarse import SINGULAR
from torch_sla.linalg.precond.multigrid.device.tied import compressed, tied_groups

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.distributed.sharding import Sharding

__all__ = ["Ties"]


@dataclass(frozen=True)
class Ties:
    """Blocks in place of the diagonal, for groups of tied rows; each group is within one part.

    Parameters
    ----------
    rows
        Rows in groups ``[m]``, of those that are held here, group after group.
    crow, ccol
        Which of them are together, compressed rows of ``[m, m]``.
    inverse, turned
        Inverses of the blocks, and their adjoints.
    """

    rows: Tensor
    crow: Tensor
    ccol: Tensor
    inverse: Tensor
    turned: Tensor

    @classmethod
    def of(cls, A: Sharding, values: Tensor, edge: int) -> Ties | None:
        """Find the groups of a matrix, slot values ``[nnz]``; None where no rows held here are tied.

        Parameters
        ----------
        edge
            Unknowns of a node, which stay together.
        """
        pattern, own = A.pattern, A.diagonal(values).abs()
        # Columns of other parts come after those that are owned.
        groups = tied_groups(pattern.crow, pattern.ccol, values, own[: A.rows.n_held], edge)
        found = None if groups is None else groups.inverted(SINGULAR[values.dtype])
        if found is None:
            return None
        crow, ccol, there = compressed(found)
        turned = found.blocks.transpose(1, 2)[there]
        entries = (found.blocks[there].to(values.dtype), turned.to(values.dtype))
        return cls(found.rows, crow, ccol, *entries)

    def put(self, z: Tensor, r: Tensor, *, adjoint: bool) -> None:
        """Replace rows in groups of ``z`` ``[n_held, K]`` by the inverse blocks, or their adjoints, times ``r``."""
        values = self.turned if adjoint else self.inverse
        z.index_copy_(0, self.rows, kernels.spmm(self.crow, self.ccol, values, r[self.rows]))
