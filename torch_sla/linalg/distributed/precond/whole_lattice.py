"""The last level in parts of a lattice: every process has it whole, and goes on alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from torch_sla.linalg.distributed.lattice.boxes import Box, neighbours
from torch_sla.linalg.distributed.lattice.grid import Grid, move
from torch_sla.linalg.precond.multigrid.options import AMG
from torch_sla.linalg.sparse.pattern import Pattern

if TYPE_CHECKING:
    from torch_sla.linalg.kernels.stencils import Lattice
    from torch_sla.linalg.precond.multigrid.device.base import DeviceHierarchy
    from torch_sla.linalg.precond.multigrid.hierarchy import Hierarchy

__all__ = ["WholeLattice"]


class WholeLattice:
    """A small level that every process has whole, and everything below it.

    Parameters
    ----------
    grid
        Padded.
    lattice, planes
        Of it, coefficients ``[codes, size]``.
    dtype
        Of the levels; None chooses.
    """

    def __init__(
        self, grid: Grid, lattice: Lattice, planes: Tensor, dtype: torch.dtype | None
    ) -> None:
        padded, grid = grid, grid.bare
        self._comm = grid.comm
        owned = planes.new_empty(len(lattice.codes), grid.size)
        move(padded, planes, grid, owned)
        whole = Box((0, 0, 0), grid.shape)
        self._order = torch.cat([box.places(whole, grid.device) for box in grid.boxes])
        self._mine = torch.cat([box.places(whole, grid.device) for box in grid.own])
        entries = torch.cat(self._comm.gather(owned.T.contiguous()))
        rows, columns, values = [], [], []
        for slot, code in enumerate(lattice.codes):
            inside, _ = neighbours(whole, grid.shape, whole, code)
            number = torch.arange(grid.n, device=grid.device)
            row = whole.view(number)[inside].reshape(-1)
            every = torch.empty_like(entries[:, slot]).index_copy_(0, self._order, entries[:, slot])
            rows.append(row)
            columns.append(row + lattice.offset(code))
            values.append(every[row])
        pattern = Pattern.from_coo(torch.cat(rows), torch.cat(columns), (grid.n, grid.n))
        named = None if dtype is None else str(dtype)[6:]
        slots = pattern.coalesce(torch.cat(values).double())
        made = AMG(dtype=named).build(pattern, slots)  # type: ignore[arg-type]
        self._inner = cast("Hierarchy | DeviceHierarchy", made)  # values are real
        self.dtype = self._inner.dtype

    def apply(self, r: Tensor, *, adjoint: bool) -> Tensor:
        """Return an approximate solution for what is owned here ``[size]``."""
        pieces = torch.cat(self._comm.gather(r))
        whole = torch.empty_like(pieces).index_copy_(0, self._order, pieces).unsqueeze(1)
        done = self._inner.apply_adjoint(whole) if adjoint else self._inner.apply(whole)
        return done.squeeze(1).index_select(0, self._mine).to(r.dtype)
