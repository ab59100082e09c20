"""L2 projection of quantities at quadrature points onto nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch_sla.assembly.basis import CellBasis
from torch_sla.assembly.dofs import Dofs
from torch_sla.assembly.field import Field
from torch_sla.assembly.weak.mass import mass
from torch_sla.assembly.weak.source import source
from torch_sla.errors import ArgumentError
from torch_sla.lazy import cached_property
from torch_sla.linalg.sparse.structure import Structure
from torch_sla.linalg.sparse.tensor import SparseTensor

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.assembly.elements import Element
    from torch_sla.assembly.mesh.mesh import Mesh

__all__ = ["Projection"]


class Projection:
    """The function of an element's space nearest to a given one in L2.

    Stresses and fluxes, which jump between cells, become continuous and, inside a body, more accurate. Differentiable
    in what is projected and in the points.

    Parameters
    ----------
    mesh
        The mesh.
    element
        Element of the result.
    degree
        Quadrature degree; None means twice the degree of the element.
    lumped
        Replace the mass matrix by its row sums: local averages, without a solve. For P0, P1 and Q1.
    points
        Moved points ``[n_points, dim]``; the mesh's own when None.

    Attributes
    ----------
    basis
        Basis at whose quadrature points quantities are given.
    dofs
        Numbering of the nodes of the result.

    Examples
    --------
    >>> from torch_sla.assembly import lagrange, rectangle_mesh
    >>> mesh = rectangle_mesh((2, 2))
    >>> nodal = Projection(mesh, lagrange("triangle"))
    >>> x = nodal(nodal.basis.x)
    >>> bool((x - mesh.points).abs().max() < 1e-12)
    True
    """

    def __init__(
        self,
        mesh: Mesh,
        element: Element,
        degree: int | None = None,
        *,
        lumped: bool = False,
        points: Tensor | None = None,
    ) -> None:
        if lumped and element.degree > 1:
            raise ArgumentError(
                f"lumped: row sums of {element!r} are not all positive; project with the whole mass matrix"
            )
        self.dofs = Dofs(mesh, element)
        self.basis = CellBasis(mesh, element, degree, points)
        self.lumped = lumped

    @cached_property
    def _mass(self) -> SparseTensor:
        values = self.dofs.assemble_matrix(mass(self.basis, c=1.0))
        structure = Structure(symmetric=True, hermitian=True, positive_definite=True)
        return SparseTensor.from_pattern(self.dofs.pattern, values, structure=structure)

    @cached_property
    def _sums(self) -> Tensor:
        return self.dofs.assemble_vector(source(self.basis, f=1.0))

    def __call__(self, quantity: Tensor, rank: int | None = None) -> Tensor:
        """Project.

        Parameters
        ----------
        quantity
            ``[*batch, n_cells, nq|1, *shape]`` at the quadrature points of `basis`.
        rank
            Length of `shape`; None means that there is no batch.

        Returns
        -------
        Tensor ``[*batch, n_nodes, *shape]``.
        """
        rank = quantity.ndim - 2 if rank is None else rank
        lead = quantity.ndim - 2 - rank
        n, nq = self.basis.n_sites, len(self.basis.rule)
        sites = tuple(quantity.shape[lead : lead + 2])
        if lead < 0 or sites not in ((n, nq), (n, 1)):
            raise ArgumentError(
                f"quantity: got shape {tuple(quantity.shape)}; expected [*batch, {n}, {nq}|1, *shape] with a shape "
                f"of length {rank}"
            )
        batch, shape = quantity.shape[:lead], quantity.shape[lead + 2 :]
        columns = quantity.reshape(batch.numel(), *sites, shape.numel()).movedim(-1, 1)
        load = self.dofs.assemble_vector(source(self.basis, f=columns))
        if self.lumped:
            nodal = load / self._sums
        else:
            flat = load.reshape(-1, load.shape[-1]).T
            nodal = self._mass.solve(flat).T.reshape(load.shape)
        return nodal.movedim(1, -1).reshape(*batch, self.dofs.n, *shape)

    def evaluate(self, nodal: Tensor, rank: int) -> Field:
        """Evaluate nodal values ``[*batch, n_nodes, *shape]`` at the quadrature points, `shape` flattened.

        Parameters
        ----------
        nodal
            As returned by a projection.
        rank
            Length of `shape`.
        """
        flat = nodal.flatten(-rank) if rank else nodal[..., None]
        local = flat.movedim(-1, 0)[..., self.dofs.cell_nodes]
        field = self.basis.evaluate(local.movedim(0, -1))
        if rank and flat.shape[-1] == 1:
            # The one component of a vector, which a basis takes for a number.
            return Field(field.value[..., None], field.gradient[..., None, :])
        return field
