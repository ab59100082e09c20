"""Smoothing by a differential equation, solved by the library itself."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from torch_sla.assembly import CellBasis, Dofs, assemble, weak
from torch_sla.errors import ArgumentError
from torch_sla.linalg.sparse.tensor import SparseTensor
from torch_sla.problems.design.transforms.base import Stage, Transform, by_columns, positive

if TYPE_CHECKING:
    from torch_sla.problems.design.transforms.place import Place

__all__ = ["HelmholtzFilter"]


@dataclass(frozen=True)
class HelmholtzFilter(Transform):
    """Density filter: the solution of ``-r² Δv + v = x`` with no flux through the boundary.

    Constants and the volume ``∫x`` stay as they are; on meshes without obtuse angles values stay between
    the least and the greatest. The matrix is factorised once and serves all values and gradients. Unlike
    that of a cone, its cost does not grow with the radius (Lazarov and Sigmund, Int. J. Numer. Meth. Engng 86
    (2011), 765-781).

    Parameters
    ----------
    radius
        Radius of the cone that smooths as much, in the unit of the mesh: ``r = radius/(2√3)``.

    Examples
    --------
    >>> from torch_sla import HelmholtzFilter
    >>> HelmholtzFilter(1.5)
    HelmholtzFilter(radius=1.5, type='helmholtz_filter')
    """

    radius: float
    type: Literal["helmholtz_filter"] = field(default="helmholtz_filter", kw_only=True)

    def __post_init__(self) -> None:
        """Check."""
        positive("radius", self.radius)

    def prepare(self, place: Place) -> Stage:
        """Assemble the matrix; its factor is made by the first solve and kept."""
        if place.on not in ("cells", "nodes"):
            raise ArgumentError(
                f"a Helmholtz filter acts on cells and nodes, and the field lives on {place.on}"
            )
        return _Solve(place, self.radius)


class _Solve(Stage):
    """From the sites to the nodes of the mesh, where the equation is solved, and back.

    From cells to nodes go the integrals of each node's function, and back come the means over cells, so
    that the volume is kept and the whole is symmetric in the inner product of the cells. The mass of
    first-order elements is lumped, which keeps values within their range.
    """

    def __init__(self, place: Place, radius: float) -> None:
        mesh = place.on_mesh
        dofs = Dofs(mesh, mesh.geometry)
        r = radius / (2 * math.sqrt(3))
        stiffness = assemble(weak.diffusion, dofs, kappa=r * r)
        lumped = SparseTensor.diag(assemble(weak.source, dofs, f=1.0))
        whole = SparseTensor.from_pattern(dofs.pattern, assemble(weak.mass, dofs, c=1.0))
        mass = lumped if mesh.geometry.order == 1 else whole
        matrix = SparseTensor.from_pattern(dofs.pattern, stiffness) + mass
        self.place = place
        self.matrix = matrix.declare(symmetric=True, positive_definite=True)
        self.spread = mass if place.on == "nodes" else _integrals(place, dofs)

    def __call__(self, values: Tensor) -> Tensor:
        place = self.place
        smooth = by_columns(self._smoothed, place.last(place.departures(values)))
        return place.arrived(place.back(smooth))

    def _smoothed(self, columns: Tensor) -> Tensor:
        nodal: Tensor = self.matrix.solve(self.spread @ columns)
        if self.place.on == "nodes":
            return nodal
        totals: Tensor = self.spread.T() @ nodal
        return totals / self.place.volumes[:, None]


def _integrals(place: Place, dofs: Dofs) -> SparseTensor:
    """Return the integral of each node's function over each cell ``[n_points, n_cells]``."""
    mesh = place.on_mesh
    basis = CellBasis(mesh, mesh.geometry, 2 * mesh.geometry.order)
    local = (basis.dx.expand(mesh.n_cells, -1) @ basis.phi.to(basis.dx)).detach()
    cells = torch.arange(mesh.n_cells, device=mesh.cells.device)
    col = cells.repeat_interleave(local.shape[1])
    return SparseTensor(
        local.flatten(), dofs.cell_nodes.flatten(), col, (mesh.n_points, mesh.n_cells)
    )
