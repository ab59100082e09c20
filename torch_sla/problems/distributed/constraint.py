"""Dirichlet conditions of a problem in parts: ``u = T û + g`` on what a process holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.distributed.sharding import Sharding

__all__ = ["SharedConstraint"]


class SharedConstraint:
    """Given values in place, as `DirichletConstraint`, for vectors ``[n_held]`` and slot values.

    Parameters
    ----------
    sharding
        The matrix, of slots.
    free
        Mask of the unknowns here without a given value ``[n_held]``.
    """

    def __init__(self, sharding: Sharding, free: Tensor) -> None:
        self.sharding, self.free = sharding, free
        self._given = torch.nonzero(~free)[:, 0]
        ghosts = sharding.halo.fetch(free.to(torch.float64).unsqueeze(1)).squeeze(1) > 0.5
        of_columns = torch.cat([free, ghosts])
        pattern = sharding.pattern
        self.kept = free[pattern.csr_row.long()] & of_columns[pattern.ccol.long()]
        self._diagonal = sharding.diagonal_slots[self._given].long()

    def apply(self, values: Tensor, load: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        """Constrain a matrix and a load: given unknowns stand alone, with zero on the right."""
        matrix = self.matrix(values)
        alone = self.recover(torch.zeros_like(load), g)
        lift = self.sharding.apply(values, alone.unsqueeze(1)).squeeze(1)
        return matrix, self.reduce(load - lift)

    def matrix(self, values: Tensor) -> Tensor:
        """Constrain slot values."""
        scale = values.detach()[self._diagonal].abs()
        # Of the size of its own row, so that no process needs to know another's.
        scale = torch.where(scale > 0, scale, torch.ones_like(scale)).to(values.dtype)
        zero = torch.zeros((), dtype=values.dtype, device=values.device)
        return torch.where(self.kept, values, zero).index_copy(0, self._diagonal, scale)

    def recover(self, u_hat: Tensor, g: Tensor) -> Tensor:
        """Return ``T û + g``."""
        return self.restrict(u_hat).index_copy(0, self._given, g.to(u_hat))

    def restrict(self, u: Tensor) -> Tensor:
        """Return û of a field."""
        return torch.where(self.free, u, torch.zeros((), dtype=u.dtype, device=u.device))

    def reduce(self, residual: Tensor) -> Tensor:
        """Return ``Tᴴ r``."""
        return self.restrict(residual)
