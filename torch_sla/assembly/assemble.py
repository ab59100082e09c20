"""A form, a numbering, its coefficients: values. Quadrature is chosen from the form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch_sla.assembly.basis import CellBasis, FacetBasis
from torch_sla.assembly.forms.form import BilinearForm, LinearForm
from torch_sla.errors import ArgumentError

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.assembly.basis import Basis
    from torch_sla.assembly.dofs import Dofs
    from torch_sla.assembly.forms.context import Coefficient

__all__ = ["assemble"]


def assemble(
    form: BilinearForm | LinearForm,
    dofs: Dofs,
    *,
    facets: Tensor | None = None,
    points: Tensor | None = None,
    degree: int | None = None,
    **coefficients: Coefficient,
) -> Tensor:
    """Integrate a form over all cells, or some facets, and sum.

    The quadrature integrates the product of the parts the form uses exactly on straight cells: derivatives of
    simplices count one degree less, so the Laplacian of quadratics needs degree 2 and their mass 4. A form that looks
    at positions or normals gets two degrees more for the law behind them; for laws of higher degree say `degree`.

    Parameters
    ----------
    form
        A bilinear or a linear form.
    dofs
        Numbering of its arguments.
    facets
        Indices into ``mesh.facets``; None means all cells.
    points
        Moved points ``[n_points, dim]``, differentiable; the mesh's own when None.
    degree
        Quadrature degree; None means what the form needs.
    **coefficients
        Numbers, or tensors ``[*batch, n|1, 1, *shape]``; those given at quadrature points need the `degree` they were
        made for.

    Returns
    -------
    Tensor
        Values of ``dofs.pattern`` ``[*batch, nnz]``, or a vector ``[*batch, n]``.

    Raises
    ------
    ArgumentError
        If the form is neither, or a coefficient does not fit.

    Examples
    --------
    >>> from torch_sla.assembly import Dofs, lagrange, rectangle_mesh, weak
    >>> dofs = Dofs(rectangle_mesh((2, 2)), lagrange("triangle", 2))
    >>> assemble(weak.diffusion, dofs, kappa=2.0).shape == (dofs.pattern.nnz,)
    True
    >>> round(assemble(weak.source, dofs, f=3.0).sum().item(), 12)
    3.0
    """
    if not isinstance(form, (BilinearForm, LinearForm)):
        raise ArgumentError(
            f"form: got {type(form).__name__}; assemble a BilinearForm or a LinearForm"
        )

    def basis(degree: int) -> Basis:
        if facets is None:
            return CellBasis(dofs.mesh, dofs.element, degree, points, dofs.components)
        return FacetBasis(dofs.mesh, dofs.element, facets, degree, points, dofs.components)

    if degree is None:
        degree = form.needed_degree(basis(0), **coefficients)
    local = form(basis(degree), **coefficients)
    if isinstance(form, BilinearForm):
        return dofs.assemble_matrix(local, facets)
    return dofs.assemble_vector(local, facets)
