"""Numbers taken from a solution: error norms and consistent fluxes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.assembly.basis import Basis, CellBasis, FacetBasis
from torch_sla.errors import ArgumentError
from torch_sla.linalg.kernels.ordered import summed
from torch_sla.linalg.sparse.tensor import SparseTensor

if TYPE_CHECKING:
    from torch_sla.assembly.dofs import Dofs
    from torch_sla.linalg.sparse.pattern import Pattern

__all__ = ["consistent_flux", "h1_seminorm_error", "l2_error", "residual", "root"]

Exact = Callable[[Tensor], Tensor]


def l2_error(
    dofs: Dofs, u: Tensor, exact: Exact, degree: int | None = None, points: Tensor | None = None
) -> Tensor:
    """``||u - exact||`` in L2.

    Parameters
    ----------
    dofs
        Numbering of `u`.
    u
        ``[*batch, n]``.
    exact
        Function of positions ``[n, nq, dim]`` giving ``[n, nq]``, or ``[n, nq, components]`` for a vector field.
    degree
        Quadrature degree; None means twice the order of the element plus 3, enough to see its rate.
    points
        Moved points, if any.

    Returns
    -------
    Tensor ``[*batch]``.

    Examples
    --------
    >>> from torch_sla.assembly import Dofs, lagrange, rectangle_mesh
    >>> mesh = rectangle_mesh((2, 2))
    >>> error = l2_error(Dofs(mesh, lagrange("triangle")), mesh.points[:, 0], lambda x: x[..., 0])
    >>> bool(error < 1e-15)
    True
    """
    basis = _fine_basis(dofs, degree, points)
    difference = _difference(basis.interpolate(dofs, u).value, exact(basis.x), "exact")
    return _norm(basis, difference, 0 if dofs.components == 1 else 1)


def h1_seminorm_error(
    dofs: Dofs,
    u: Tensor,
    exact_gradient: Exact,
    degree: int | None = None,
    points: Tensor | None = None,
) -> Tensor:
    """``||grad u - exact_gradient||`` in L2; parameters as in `l2_error`.

    `exact_gradient` gives ``[n, nq, dim]``, or ``[n, nq, components, dim]`` for a vector field.
    """
    basis = _fine_basis(dofs, degree, points)
    found = basis.interpolate(dofs, u).gradient
    difference = _difference(found, exact_gradient(basis.x), "exact_gradient")
    return _norm(basis, difference, 1 if dofs.components == 1 else 2)


def _difference(found: Tensor, exact: Tensor, name: str) -> Tensor:
    """Subtract what a function gives at all points, which has no other dimensions than a field."""
    wanted, given = found.shape, exact.shape
    short = wanted[len(wanted) - len(given) :]
    if len(given) > len(wanted) or any(n not in (1, m) for n, m in zip(given, short, strict=True)):
        raise ArgumentError(
            f"{name} gives the shape {tuple(given)} at the quadrature points; the field has {tuple(wanted)} there"
        )
    return found - exact


def _fine_basis(dofs: Dofs, degree: int | None, points: Tensor | None) -> CellBasis:
    if degree is None:
        degree = 2 * dofs.element.order + 3
    return CellBasis(dofs.mesh, dofs.element, degree, points, dofs.components)


def _norm(basis: Basis, difference: Tensor, trailing: int) -> Tensor:
    square = difference.abs().square()
    if trailing:
        square = square.flatten(-trailing).sum(-1)
    return root(basis.integrate(square).sum(-1))


def root(square: Tensor) -> Tensor:
    """Return the root of integrals of squares; at zero its derivative is zero, as that of a norm."""
    zero = square == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, square).sqrt())


def residual(pattern: Pattern, values: Tensor, load: Tensor, u: Tensor) -> Tensor:
    """``K u - f`` of the unconstrained system: the reactions at prescribed dofs, zero elsewhere.

    Parameters
    ----------
    pattern, values
        Matrix before constraints, values ``[*batch, nnz]``.
    load
        ``[*batch, n]``, before constraints.
    u
        Solution ``[*batch, n]``.
    """
    product: Tensor = SparseTensor.from_pattern(pattern, values) @ u
    return product - load


def consistent_flux(
    residual: Tensor, dofs: Dofs, facets: Tensor, among: Tensor | None = None
) -> Tensor:
    """Flux into the body through facets with prescribed values, from the residual.

    Tested with the sum of the basis functions on the facets, the weak form gives the flux of the discrete solution
    without differentiating it, one order more accurate and in exact balance with sources and other fluxes
    (Wheeler, Numer. Math. 22 (1974), 99-109). Where facets of several prescribed parts meet, a node's share is the
    integral of its basis function over the part, so that the parts add up to the whole.

    Parameters
    ----------
    residual
        ``K u - f`` before constraints ``[*batch, n]``.
    dofs
        Numbering.
    facets
        Facets to sum over, indices into ``mesh.facets``.
    among
        All facets with prescribed values, `facets` included; None means `facets` alone.

    Returns
    -------
    Tensor ``[*batch]``, or ``[*batch, components]`` for a vector field.

    Raises
    ------
    ArgumentError
        If `among` does not include `facets`.
    """
    nodes = dofs.facet_nodes(facets)
    shares = torch.ones(len(nodes), dtype=residual.dtype, device=residual.device)
    if among is not None:
        if not bool(torch.isin(facets, among).all()):
            raise ArgumentError("among: must include all of `facets`")
        part, whole = _node_measures(dofs, facets)[nodes], _node_measures(dofs, among)[nodes]
        alone = whole <= 1e-12 * whole.max()
        shares = torch.where(alone, shares.real, part / whole.masked_fill(alone, 1.0))
    per_node = residual.unflatten(-1, (dofs.n_nodes, dofs.components)).index_select(-2, nodes)
    total: Tensor = (per_node * shares[:, None]).sum(-2)
    return total[..., 0] if dofs.components == 1 else total


def _node_measures(dofs: Dofs, facets: Tensor) -> Tensor:
    """Integral of the magnitude of every scalar basis function over facets ``[n_nodes]``."""
    basis = FacetBasis(dofs.mesh, dofs.element, facets)
    local = torch.einsum("sqk,sq->sk", basis.phi.abs(), basis.dx).detach()
    return summed(local, dofs.cell_nodes[dofs.mesh.facet_cells[facets]], dofs.n_nodes)
