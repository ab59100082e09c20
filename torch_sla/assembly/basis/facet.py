"""Basis functions on facets, with outward normals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch_sla.assembly.basis.basis import Basis, checked_degree, tabulate
from torch_sla.assembly.checks import check_space, numbered
from torch_sla.assembly.mapping import facet_geometry, facet_points
from torch_sla.assembly.reference.quadrature import quadrature

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.assembly.elements import Element
    from torch_sla.assembly.mesh.mesh import Mesh

__all__ = ["FacetBasis"]


class FacetBasis(Basis):
    """Basis functions of the owners at the quadrature points of facets.

    Parameters
    ----------
    mesh
        The mesh.
    element
        A scalar element on the mesh's reference cell.
    facets
        Indices into ``mesh.facets``, or a boolean mask of them; None means the whole boundary.
    degree
        Quadrature degree; None means twice the order of the element.
    points
        Moved points ``[n_points, dim]``, differentiable; the mesh's own when None.
    components
        Components of the field.

    Raises
    ------
    MeshError
        If there is no such facet, or the element is one of other cells.

    Examples
    --------
    >>> from torch_sla.assembly import lagrange, rectangle_mesh
    >>> mesh = rectangle_mesh((2, 2))
    >>> basis = FacetBasis(mesh, lagrange("triangle", 1), mesh.facet_tags["left"])
    >>> basis.normal[0, 0].tolist(), round(float(basis.dx.sum()), 12)
    ([-1.0, 0.0], 1.0)
    """

    def __init__(
        self,
        mesh: Mesh,
        element: Element,
        facets: Tensor | None = None,
        degree: int | None = None,
        points: Tensor | None = None,
        components: int = 1,
    ) -> None:
        check_space(mesh, element, components)
        self.mesh, self.element, self.components = mesh, element, components
        self.facets = mesh.boundary if facets is None else numbered(facets, mesh.n_facets, "facets")
        self.side = mesh.facet_sides[self.facets]
        self.rule = quadrature(mesh.reference.facet_name, checked_degree(degree, element))
        self.geometry = facet_geometry(mesh, self.facets, self.rule.points, points)
        self.values, self.slopes = tabulate(element, self.reference_points, self.geometry.x)

    @property
    def reference_points(self) -> Tensor:
        """Reference coordinates of the quadrature points ``[sides, nq, dim]``."""
        return facet_points(self.mesh.reference, self.rule.points)
