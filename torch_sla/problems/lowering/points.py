"""Arbitrary points of the body as sites."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch_sla.errors import SpecError
from torch_sla.problems.expression import Ranked
from torch_sla.problems.lowering.sites import Sites

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.problems.lowering.model import Model
    from torch_sla.problems.lowering.scene import Geometry

__all__ = ["PointSites"]


class PointSites(Sites):
    """Points ``[m, dim]``, each in the cell it was found in.

    Parameters
    ----------
    model
        The lowered problem.
    geometry
        Coordinates of the mesh.
    points
        The points; may require grad.
    u
        The solution ``[*batch, n]``.
    """

    owners: Tensor

    def __init__(self, model: Model, geometry: Geometry, points: Tensor, u: Tensor) -> None:
        self.model, self.geometry, self.points, self.u = model, geometry, points, u
        self.n, self.q = len(points), 1
        self._located = geometry.located(points, model.dofs)
        self.owners = self._located.cells

    @property
    def x(self) -> Tensor:
        """Coordinates ``[m, 1, dim]``."""
        return self.points[:, None]

    def place(self, values: Tensor, on: str, rank: int) -> Tensor:
        """Bring values of cells or nodes here; see `Sites.place`."""
        site = values.ndim - 1 - rank
        if on == "cells":
            return values.index_select(site, self.owners).unsqueeze(site + 1)
        if on == "nodes":
            nodal = self.geometry.located(self.points, self.model.nodal)
            return nodal.value(values.movedim(site, -1)).movedim(-1, site).unsqueeze(site + 1)
        raise SpecError(f"values that live on {on} have no meaning at a point")

    def field(self, name: str) -> Ranked:
        """Return the solution or its gradient ``[*batch, m, 1, *shape]``."""
        rank = 0 if self.model.dofs.components == 1 else 1
        if name == "u":
            value = self._located.value(self.u)
        else:
            value, rank = self._located.gradient(self.u), rank + 1
        return Ranked(value.unsqueeze(value.ndim - rank), rank)
