"""Basis functions on both sides of interior facets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from torch_sla.assembly.basis.basis import Basis, checked_degree, tabulate
from torch_sla.assembly.checks import check_space
from torch_sla.assembly.mapping import facet_points, side_geometry
from torch_sla.assembly.reference.quadrature import quadrature
from torch_sla.assembly.sided import Sided

if TYPE_CHECKING:
    from torch_sla.assembly.dofs import Dofs
    from torch_sla.assembly.elements import Element
    from torch_sla.assembly.mesh.mesh import Mesh
    from torch_sla.assembly.reference.quadrature import QuadratureRule

__all__ = ["InteriorBasis"]


class _Side(Basis):
    """One side of interior facets: a basis whose tables are one per local facet and relative position."""

    def __init__(
        self,
        mesh: Mesh,
        element: Element,
        components: int,
        rule: QuadratureRule,
        cells: Tensor,
        side: Tensor,
        X: Tensor,
        outward: Tensor | None,
        points: Tensor | None,
    ) -> None:
        self.mesh, self.element, self.components, self.rule = mesh, element, components, rule
        self.cells, self.side, self.facets = cells, side, None
        self._X = X
        self.geometry = side_geometry(mesh, cells, side, X, outward, points)
        self.values, self.slopes = tabulate(element, X, self.geometry.x)

    @property
    def reference_points(self) -> Tensor:
        """Reference coordinates of the quadrature points ``[sides, nq, dim]``."""
        return self._X


class InteriorBasis:
    """Basis functions of the two cells at the quadrature points of the facets between them.

    Element matrices and vectors of forms over it hold the dofs of the plus side, then those of the minus side;
    assemble them with ``interior=True``, on a numbering made with ``interior=True``. The normal leaves the plus side,
    the cell of lower number.

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

    Attributes
    ----------
    plus, minus
        The basis of each side.

    Examples
    --------
    >>> from torch_sla.assembly import Dofs, Functional, grad, jump, lagrange, rectangle_mesh
    >>> mesh = rectangle_mesh((2, 1), cell="quad")
    >>> dofs = Dofs(mesh, lagrange("quad"))
    >>> facets = InteriorBasis(mesh, dofs.element)
    >>> kink = facets.interpolate(dofs, (mesh.points[:, 0] - 0.5).abs())
    >>> Functional(lambda w: jump(grad(w.u))[..., 0])(facets, u=kink)
    tensor([-2.], dtype=torch.float64)
    """

    def __init__(
        self,
        mesh: Mesh,
        element: Element,
        degree: int | None = None,
        points: Tensor | None = None,
        components: int = 1,
    ) -> None:
        check_space(mesh, element, components)
        self.mesh, self.element, self.components = mesh, element, components
        self.rule = quadrature(mesh.reference.facet_name, checked_degree(degree, element))
        facets, device = mesh.interior, mesh.cells.device
        placed = facet_points(mesh.reference, self.rule.points)
        owner_side = torch.from_numpy(facets.owner_side).to(device)
        owner = torch.from_numpy(facets.owner).to(device)
        sides = (mesh, element, components, self.rule)
        outward = torch.arange(len(placed), device="cpu")
        self.plus: Basis = _Side(*sides, owner, owner_side, placed, outward, points)
        # On the other side the same points lie elsewhere, one table for each way the cells meet.
        kinds, kind = np.unique(facets.matching, axis=0, return_inverse=True)
        corners = mesh.reference.vertices[torch.from_numpy(kinds)]
        edges = corners[:, [1, -1][: mesh.dim - 1]] - corners[:, :1]
        X = self.rule.points
        across = (
            corners[:, :1] + X @ edges if mesh.dim > 1 else corners[:, :1].expand(-1, len(X), -1)
        )
        neighbour = torch.from_numpy(facets.neighbour).to(device)
        number = torch.from_numpy(kind.reshape(-1)).to(device)
        self.minus: Basis = _Side(*sides, neighbour, number, across, None, points)

    @property
    def n_sites(self) -> int:
        """Number of facets."""
        return self.plus.n_sites

    @property
    def x(self) -> Tensor:
        """Quadrature points in space ``[n, nq, dim]``."""
        return self.plus.x

    @property
    def normal(self) -> Tensor:
        """Unit normals from the plus to the minus side ``[n, nq|1, dim]``."""
        return self.plus.normal

    @property
    def dx(self) -> Tensor:
        """Integration weights in space ``[n, nq]``."""
        return self.plus.dx

    @property
    def size(self) -> Tensor:
        """Measure of each facet ``[n]``."""
        return self.dx.sum(-1)

    def integrate(self, integrand: Tensor) -> Tensor:
        """Integrate ``[*batch, n|1, nq|1]`` over each facet: ``[*batch, n]``."""
        return self.plus.integrate(integrand)

    def interpolate(self, dofs: Dofs, u: Tensor) -> Sided:
        """Evaluate a field and its gradient on both sides; parameters as in `Basis.interpolate`."""
        return Sided(self.plus.interpolate(dofs, u), self.minus.interpolate(dofs, u))
