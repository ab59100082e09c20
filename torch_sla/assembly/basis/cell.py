"""Basis functions in cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch_sla.assembly.basis.basis import Basis, checked_degree, tabulate
from torch_sla.assembly.checks import check_space, numbered
from torch_sla.assembly.mapping import cell_geometry
from torch_sla.assembly.reference.quadrature import quadrature

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.assembly.elements import Element
    from torch_sla.assembly.mesh.mesh import Mesh

__all__ = ["CellBasis"]


class CellBasis(Basis):
    """Basis functions, gradients and weights at the quadrature points of every cell.

    Parameters
    ----------
    mesh
        The mesh.
    element
        A scalar element on the mesh's reference cell.
    degree
        Quadrature degree; None means twice the order of the element.
    points
        Moved points ``[n_points, dim]``, differentiable; the mesh's own when None.
    components
        Components of the field.
    cells
        Indices or a boolean mask of some cells; None means all.

    Raises
    ------
    MeshError
        If a cell is inverted by `points`, there is no such cell, or the element is one of other cells.

    Examples
    --------
    >>> from torch_sla.assembly import lagrange, rectangle_mesh
    >>> basis = CellBasis(rectangle_mesh((2, 2)), lagrange("triangle", 1))
    >>> basis.phi.shape, basis.dphi.shape, round(float(basis.dx.sum()), 12)
    (torch.Size([3, 3]), torch.Size([8, 1, 3, 2]), 1.0)
    """

    def __init__(
        self,
        mesh: Mesh,
        element: Element,
        degree: int | None = None,
        points: Tensor | None = None,
        components: int = 1,
        cells: Tensor | None = None,
    ) -> None:
        check_space(mesh, element, components)
        if cells is not None:
            cells = numbered(cells, mesh.n_cells, "cells")
        self.mesh, self.element, self.components = mesh, element, components
        self.rule = quadrature(mesh.reference.name, checked_degree(degree, element))
        self.geometry = cell_geometry(mesh, self.rule.points, points, cells)
        self.facets = self.side = None
        self.cells = cells
        self.values, self.slopes = tabulate(element, self.reference_points, self.geometry.x)

    @property
    def reference_points(self) -> Tensor:
        """Reference coordinates of the quadrature points ``[1, nq, dim]``."""
        return self.rule.points[None]
