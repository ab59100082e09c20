"""What cell and facet bases share: tables on the reference cell and geometric factors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.assembly.field import Field, LazyField
from torch_sla.assembly.kernels.small import small_product
from torch_sla.errors import ArgumentError, DTypeError
from torch_sla.lazy import cached_property

if TYPE_CHECKING:
    from torch_sla.assembly.dofs import Dofs
    from torch_sla.assembly.elements import Element
    from torch_sla.assembly.mapping import Geometry
    from torch_sla.assembly.mesh.mesh import Mesh
    from torch_sla.assembly.reference.quadrature import QuadratureRule

__all__ = ["Basis"]


class Basis(ABC):
    """Basis functions at the quadrature points of ``n`` sites (cells or facets). Use a subclass.

    Attributes
    ----------
    mesh, element, components
        Where the functions live and how many components the field has.
    rule
        Quadrature rule on the reference cell or facet.
    geometry
        Geometric factors, differentiable in the points.
    facets
        Indices into ``mesh.facets``, or None for cells.
    side
        Local facet number of each site, or None for cells.
    cells
        The cells that are the sites, or own them, where neither all cells nor `facets` say so.
    values, slopes
        Reference tables ``[sides, nq, nb]`` and ``[sides, nq, nb, dim]`` (one side for cells).
    """

    mesh: Mesh
    element: Element
    components: int
    rule: QuadratureRule
    geometry: Geometry
    facets: Tensor | None
    side: Tensor | None
    cells: Tensor | None = None
    values: Tensor
    slopes: Tensor

    @property
    def n_sites(self) -> int:
        """Number of cells or facets."""
        return self.geometry.x.shape[0]

    @property
    def x(self) -> Tensor:
        """Quadrature points in space ``[n, nq, dim]``."""
        return self.geometry.x

    @property
    def normal(self) -> Tensor:
        """Outward unit normals ``[n, nq|1, dim]`` on facets.

        Raises
        ------
        ArgumentError
            In cells, which have none.
        """
        if self.geometry.normal is None:
            raise ArgumentError("normal: cells have no normal; integrate over a FacetBasis")
        return self.geometry.normal

    @cached_property
    def weights(self) -> Tensor:
        """Reference weights ``[nq]``."""
        return self.rule.weights.to(self.geometry.x)

    @property
    def dx(self) -> Tensor:
        """Integration weights in space ``[n, nq]``."""
        return self.geometry.measure * self.weights

    @cached_property
    def by_side(self) -> tuple[Tensor, Tensor, list[int]]:
        """Sites ordered by the table they use, the way back, and how many use each; read from the device once."""
        side = (
            torch.zeros(self.n_sites, dtype=torch.int64, device="cpu")
            if self.side is None
            else self.side
        )
        order = side.argsort(stable=True)
        return order, order.argsort(), side.bincount(minlength=len(self.values)).tolist()

    def _tables(self, table: Tensor) -> Tensor:
        return table[0] if self.side is None else table[self.side]

    @property
    def phi(self) -> Tensor:
        """Scalar basis functions ``[nq, nb]`` in cells, ``[n, nq, nb]`` on facets."""
        return self._tables(self.values)

    @property
    def dphi(self) -> Tensor:
        """Their gradients in space ``[n, nq|1, nb, dim]``."""
        slopes = self._tables(self.slopes)
        constant = self.element.is_affine and self.geometry.inverse.shape[1] == 1
        if constant:
            slopes = slopes[..., :1, :, :]
        return small_product(slopes, self.geometry.inverse)

    def integrate(self, integrand: Tensor) -> Tensor:
        """Integrate ``[*batch, n|1, nq|1]`` over each site: ``[*batch, n]``."""
        return (integrand * self.dx).sum(-1)

    def interpolate(self, dofs: Dofs, u: Tensor) -> Field:
        """Evaluate a field and its gradient at the quadrature points.

        Parameters
        ----------
        dofs
            Numbering of `u` (its element may differ from this basis's).
        u
            ``[*batch, dofs.n]``.

        Returns
        -------
        Field
            ``value [*batch, n, nq]`` (``[..., c]`` for c > 1 components) and ``gradient`` with one more dimension.
        """
        if u.shape[-1] != dofs.n:
            raise ArgumentError(
                f"u: got shape {tuple(u.shape)}; the last dimension must be the {dofs.n} dofs"
            )
        if not u.is_floating_point() and not u.is_complex():
            raise DTypeError(f"u has dtype {u.dtype}; a floating point tensor is needed")
        local = dofs.restrict(u, self.facets, cells=self.cells).unflatten(
            -1, (dofs.element.n_nodes, dofs.components)
        )
        return self.evaluate(local, dofs.element)

    def evaluate(self, local: Tensor, element: Element | None = None) -> Field:
        """Evaluate a field given by its coefficients in each cell or facet's owner.

        Parameters
        ----------
        local
            ``[*batch, n, nb, components]``.
        element
            Their element; this basis's when None.
        """
        if element is None or element == self.element:
            phi, slopes = self.phi, self._tables(self.slopes)
        else:
            values, tables = tabulate(element, self.reference_points, self.geometry.x)
            phi, slopes = self._tables(values), self._tables(tables)
        dtype = local.dtype
        inverse = self.geometry.inverse.to(dtype)
        site = "" if self.side is None else "s"
        scalar = local.shape[-1] == 1

        def value() -> Tensor:
            found = torch.einsum(f"{site}qk,...skc->...sqc", phi.to(dtype), local)
            return found[..., 0] if scalar else found

        def gradient() -> Tensor:
            reference = torch.einsum(f"{site}qkm,...skc->...sqcm", slopes.to(dtype), local)
            found = small_product(reference, inverse)
            return found[..., 0, :] if scalar else found

        return LazyField(value, gradient, local)

    @property
    @abstractmethod
    def reference_points(self) -> Tensor:
        """Reference coordinates of the quadrature points ``[sides, nq, dim]``."""


def tabulate(element: Element, X: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Tabulate an element at ``X [sides, nq, dim]``: values and reference gradients."""
    X = X.to(like)
    return element.values(X), element.gradients(X).contiguous()


def checked_degree(degree: int | None, element: Element) -> int:
    """Choose the degree that integrates a mass matrix exactly, unless one is given."""
    if degree is None:
        return max(1, 2 * element.degree)
    if degree < 0 or degree != int(degree):
        raise ArgumentError(
            f"degree: got {degree}; a quadrature degree is a whole number, at least 0"
        )
    return degree
