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
    basis: Basis | None = None,
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
    basis
        Basis to integrate with, in place of `facets`, `points` and `degree`: for loops, which make it once.
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
        If the form is neither, a coefficient does not fit, or `basis` comes with what it stands for.

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

    if basis is None:
        basis = _basis(form, dofs, facets, points, degree, coefficients)
    elif not (facets is None and points is None and degree is None):
        raise ArgumentError("basis: it has its own facets, points and degree; give either")
    mesh = basis.mesh
    if mesh is not dofs.mesh and mesh.topology_key != dofs.mesh.topology_key:
        raise ArgumentError("basis: it is on another mesh than the dofs")
    if isinstance(form, LinearForm):
        return dofs.assemble_vector(form(basis, **coefficients), basis.facets)
    if isinstance(basis, CellBasis) and basis.cells is None and _same(basis, dofs):
        return form.values(basis, dofs, **coefficients)
    return dofs.assemble_matrix(form(basis, **coefficients), basis.facets, cells=basis.cells)


def _same(basis: CellBasis, dofs: Dofs) -> bool:
    return basis.element == dofs.element and basis.components == dofs.components


def _basis(
    form: BilinearForm | LinearForm,
    dofs: Dofs,
    facets: Tensor | None,
    points: Tensor | None,
    degree: int | None,
    coefficients: dict[str, Coefficient],
) -> CellBasis | FacetBasis:
    def made(degree: int) -> CellBasis | FacetBasis:
        if facets is None:
            return CellBasis(dofs.mesh, dofs.element, degree, points, dofs.components)
        return FacetBasis(dofs.mesh, dofs.element, facets, degree, points, dofs.components)

    return made(form.needed_degree(made(0), **coefficients) if degree is None else degree)
