"""Arbitrary points of the body as sites."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from torch_sla.assembly import Field
from torch_sla.errors import SpecError
from torch_sla.linalg.kernels.ordered import taken
from torch_sla.problems.lowering.sites import Fields, Sites

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.problems.lowering.geometry import Geometry
    from torch_sla.problems.lowering.model import Model

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
        The solution ``[*batch, n]``, where it may be seen.
    """

    owners: Tensor

    def __init__(
        self, model: Model, geometry: Geometry, points: Tensor, u: Tensor | None = None
    ) -> None:
        self.model, self.geometry, self.points = model, geometry, points
        self.n, self.q = len(points), 1
        self._located = geometry.located(points, model.dofs)
        self.owners = self._located.cells
        if u is not None:
            self.fields = Fields(partial(_field, model, geometry, points, u), model.ranks, u)

    @property
    def x(self) -> Tensor:
        """Coordinates ``[m, 1, dim]``."""
        return self.points[:, None]

    def place(self, values: Tensor, on: str, rank: int) -> Tensor:
        """Bring values of cells or nodes here; see `Sites.place`."""
        site = values.ndim - 1 - rank
        if on == "cells":
            return taken(values, self.owners, site).unsqueeze(site + 1)
        if on == "nodes":
            nodal = self.geometry.located(self.points, self.model.nodal)
            return nodal.value(values.movedim(site, -1)).movedim(-1, site).unsqueeze(site + 1)
        raise SpecError(
            f"values that live on {on} have no meaning at a point, where they are needed, too; "
            "those on constant, cells or nodes have one"
        )


def _field(model: Model, geometry: Geometry, points: Tensor, u: Tensor, name: str) -> Field:
    """Return an unknown at points; of no sites, which would hold themselves by it."""
    located = geometry.located(points, model.numbering.fields[name])
    part = model.numbering.part(u, name)
    rank = model.ranks[name]
    value, gradient = located.value(part), located.gradient(part)
    return Field(value.unsqueeze(value.ndim - rank), gradient.unsqueeze(gradient.ndim - rank - 1))
