"""Values and gradients of a field at arbitrary points."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.assembly.dofs import Dofs
from torch_sla.assembly.interpolation.locate import local_coordinates, locate
from torch_sla.assembly.kernels.small import small_product
from torch_sla.assembly.mapping import inverse_and_det
from torch_sla.errors import ArgumentError
from torch_sla.lazy import cached_property
from torch_sla.linalg.kernels.ordered import taken

if TYPE_CHECKING:
    from torch_sla.assembly.elements import Element
    from torch_sla.assembly.mesh.mesh import Mesh
    from torch_sla.linalg.sparse.segments import SegmentMap

__all__ = ["Interpolation"]


class Interpolation:
    """Evaluate fields at fixed places of a mesh.

    The cells are found once and do not change; the reference coordinates follow `points` and `at`, so that values
    and gradients are differentiable in both as well as in the field.

    Parameters
    ----------
    mesh
        The mesh.
    element
        Element of the field.
    at
        Places ``[m, dim]``, differentiable.
    points
        Moved mesh points ``[n_points, dim]``, differentiable; the mesh's own when None.
    dofs
        Numbering of the field; made from `element` (one component) when None.

    Attributes
    ----------
    cells
        Cell of each place ``[m]``.

    Raises
    ------
    MeshError
        If a place is outside the mesh, naming the first.

    Examples
    --------
    >>> from torch_sla.assembly import lagrange, rectangle_mesh
    >>> mesh = rectangle_mesh((4, 4))
    >>> probe = Interpolation(
    ...     mesh, lagrange("triangle"), torch.tensor([[0.3, 0.35]], dtype=torch.float64)
    ... )
    >>> u = 2.0 * mesh.points[:, 0] + mesh.points[:, 1]
    >>> probe.value(u), probe.gradient(u)
    (tensor([0.9500], dtype=torch.float64), tensor([[2., 1.]], dtype=torch.float64))
    """

    def __init__(
        self,
        mesh: Mesh,
        element: Element,
        at: Tensor,
        points: Tensor | None = None,
        dofs: Dofs | None = None,
    ) -> None:
        self.mesh = mesh
        self.dofs = Dofs(mesh, element) if dofs is None else dofs
        if self.dofs.element != element or self.dofs.mesh.n_cells != mesh.n_cells:
            raise ArgumentError(
                "dofs: number another element or another mesh; give those of the field"
            )
        self.cells, located = locate(mesh, at, points)
        every = mesh.points if points is None else points
        self._nodes = taken(every, mesh.cells[self.cells])
        self.X = local_coordinates(mesh, self._nodes, at.to(self._nodes), located.to(self._nodes))

    @cached_property
    def phi(self) -> Tensor:
        """Basis functions at the places ``[m, nb]``."""
        return self.dofs.element.values(self.X)

    @cached_property
    def dphi(self) -> Tensor:
        """Gradients of the basis functions ``[m, nb, dim]``."""
        slopes = self.mesh.geometry.gradients(self.X)
        inverse, _ = inverse_and_det(torch.einsum("mka,mkd->mad", self._nodes, slopes))
        return small_product(self.dofs.element.gradients(self.X), inverse)

    @cached_property
    def _vector_map(self) -> SegmentMap:
        return self.dofs.cells_map(self.cells, 1)

    @cached_property
    def _matrix_map(self) -> SegmentMap:
        return self.dofs.cells_map(self.cells, 2)

    def _local(self, u: Tensor) -> Tensor:
        """Coefficients of the located cells ``[*batch, m, nb, components]``."""
        if u.ndim < 1 or u.shape[-1] != self.dofs.n:
            raise ArgumentError(
                f"u: got shape {tuple(u.shape)}; the last dimension must be the {self.dofs.n} dofs"
            )
        index = self.dofs.cell_dofs[self.cells]
        nb, c = self.dofs.element.n_nodes, self.dofs.components
        return taken(u, index, -1).unflatten(-1, (nb, c))

    def value(self, u: Tensor) -> Tensor:
        """Evaluate a field.

        Parameters
        ----------
        u
            ``[*batch, n]``.

        Returns
        -------
        Tensor ``[*batch, m]``, or ``[*batch, m, components]`` for a vector field.
        """
        value = torch.einsum("mk,...mkc->...mc", self.phi.to(u.dtype), self._local(u))
        return value[..., 0] if self.dofs.components == 1 else value

    def gradient(self, u: Tensor) -> Tensor:
        """Evaluate the gradient of a field, in the cell each place was assigned to.

        Returns
        -------
        Tensor ``[*batch, m, dim]``, or ``[*batch, m, components, dim]`` for a vector field.
        """
        gradient = torch.einsum("mkd,...mkc->...mcd", self.dphi.to(u.dtype), self._local(u))
        return gradient[..., 0, :] if self.dofs.components == 1 else gradient

    def load(self, force: Tensor) -> Tensor:
        """Assemble point loads, the adjoint of `value`: ``sum_p force_p . v(x_p)``.

        Parameters
        ----------
        force
            ``[*batch, m]``, or ``[*batch, m, components]`` for a vector field.

        Returns
        -------
        Tensor ``[*batch, n]``.

        Examples
        --------
        >>> from torch_sla.assembly import interval_mesh, lagrange
        >>> at = torch.tensor([[0.25]], dtype=torch.float64)
        >>> Interpolation(interval_mesh(1), lagrange("line"), at).load(torch.tensor([4.0]))
        tensor([3., 1.])
        """
        shape = (
            (len(self.cells),)
            if self.dofs.components == 1
            else (len(self.cells), self.dofs.components)
        )
        if force.shape[-len(shape) :] != shape:
            raise ArgumentError(
                f"force: got shape {tuple(force.shape)}; expected [*batch, {', '.join(map(str, shape))}]"
            )
        columns = force[..., None] if self.dofs.components == 1 else force
        local = self.phi.to(force.dtype)[..., None] * columns[..., None, :]
        return self._vector_map.sum(local.flatten(-3))

    def springs(self, stiffness: Tensor) -> Tensor:
        """Assemble springs between places and the ground: ``sum_p v(x_p) . k_p u(x_p)``.

        Parameters
        ----------
        stiffness
            ``[*batch, m]``, equal in all directions, or ``[*batch, m, components, components]``.

        Returns
        -------
        Tensor
            Matrix values ``[*batch, nnz]`` on the pattern of the dofs.
        """
        c, m = self.dofs.components, len(self.cells)
        if c > 1 and stiffness.shape[-3:] == (m, c, c):
            k = stiffness
        elif stiffness.shape[-1:] == (m,):
            eye = torch.eye(c, dtype=stiffness.dtype, device=stiffness.device)
            k = stiffness[..., None, None] * eye
        else:
            raise ArgumentError(
                f"stiffness: got shape {tuple(stiffness.shape)}; expected [*batch, {m}] or [*batch, {m}, {c}, {c}]"
            )
        phi = self.phi.to(k.dtype)
        local = torch.einsum("pi,...pab,pj->...piajb", phi, k, phi)
        return self._matrix_map.sum(local.flatten(-5))

    def __repr__(self) -> str:
        return f"Interpolation({len(self.cells)} places in {self.mesh!r})"
