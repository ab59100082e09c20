r"""From the coefficients of a form to element matrices and vectors.

A form is linear in the *jet* of each argument, the numbers ``(u, du/dx_1, ...)`` of each component, so at a
quadrature point it is a small matrix ``C[test jet, trial jet]``. With the jets of the reference basis
functions ``psi``, the weights ``w`` and ``dX/dx = G``, an element matrix is

.. math:: A_{ij} = \sum_q w_q \sum_{mn} \psi_{im}(X_q)\, \hat C_{mn}(q)\, \psi_{jn}(X_q),
   \qquad \hat C = \det J \; P\, C\, P^T, \quad P = \mathrm{diag}(1, G).

The pull-back :math:`\hat C` is small work per point; the rest is one matrix product with a table that all cells
share (the tensor representation of Kirby and Logg, ACM TOMS 32 (2006), 417-444). Where neither the coefficient
nor the Jacobian varies inside a cell, the table is summed over the points beforehand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.assembly.field import Field
from torch_sla.assembly.kernels.contract import contract
from torch_sla.assembly.kernels.pullback import Jets, moves, pull_back, pull_back_vector
from torch_sla.assembly.kernels.summed import SummedForm, sums

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch_sla.assembly.basis.basis import Basis
    from torch_sla.assembly.dofs import Dofs

__all__ = ["Parts", "element_matrices", "element_vectors", "matrix_values", "of_jet"]


@dataclass(frozen=True)
class Parts:
    """Which parts of an argument a form uses: its value, its gradient, or both."""

    value: bool = False
    gradient: bool = False

    def including(self, part: str) -> Parts:
        """Return the parts with one more."""
        return Parts(self.value or part == "value", self.gradient or part == "gradient")

    def size(self, dim: int) -> int:
        """Length of the jet of one component."""
        return int(self.value) + dim * int(self.gradient)


def of_jet(name: str, jet: Tensor, basis: Basis, parts: Parts) -> Field:
    """Return the field that has a jet ``[..., components, size]`` at the quadrature points."""
    if basis.components == 1:
        jet = jet[..., 0, :]
    value = jet[..., 0] if parts.value else None
    gradient = jet[..., -basis.x.shape[-1] :] if parts.gradient else None
    return Field(value, gradient, name=name)


def _jets(basis: Basis, parts: Parts) -> Tensor:
    """Gather the reference jets of the basis functions ``[sides, nq, nb, size]``."""
    pieces = []
    if parts.value:
        pieces.append(basis.values[..., None])
    if parts.gradient:
        pieces.append(basis.slopes)
    return torch.cat(pieces, -1) if len(pieces) > 1 else pieces[0]


def element_matrices(C: Tensor, trial: Basis, test: Basis, u: Parts, v: Parts) -> Tensor:
    """Contract the coefficients of a bilinear form with the basis functions.

    Parameters
    ----------
    C
        ``[test components * jet, trial components * jet, *batch, n|1, nq|1]``.
    trial, test
        Bases with the same quadrature points.
    u, v
        Parts in the jets of the trial and the test function.

    Returns
    -------
    Tensor ``[*batch, n, nb * c of test, nb * c of trial]``.
    """
    return _apply(
        contract, _pulled(C, trial, test, u, v).flatten(-2), _table(trial, test, u, v), test
    )


def _pulled(C: Tensor, trial: Basis, test: Basis, u: Parts, v: Parts) -> Tensor:
    """Pull coefficients back: ``[cv, cu, *batch, n, q, jet, jet]``."""
    geometry = test.geometry
    dim = geometry.x.shape[-1]
    C = C.unflatten(1, (trial.components, u.size(dim))).unflatten(0, (test.components, v.size(dim)))
    jets = Jets(v.value, v.gradient, u.value, u.gradient)
    return pull_back(C, geometry.inverse, geometry.measure, jets)


def _table(trial: Basis, test: Basis, u: Parts, v: Parts) -> Tensor:
    """Products of the jets of the basis functions ``[sides, nq, jet * jet, nb of test, nb of trial]``."""
    table = torch.einsum("q,sqim,sqjn->sqmnij", test.weights, _jets(test, v), _jets(trial, u))
    return table.flatten(2, 3)


def matrix_values(
    source: Tensor, weights: Tensor | None, basis: Basis, dofs: Dofs, u: Parts, v: Parts
) -> Tensor:
    """Sum the element matrices of all cells into the values of ``dofs.pattern``.

    Parameters
    ----------
    source
        ``[K, *batch, n|1, nq|1]``.
    weights
        ``[slots, K]``: how the coefficients, slots ``[component, jet, component, jet]`` of the test and the trial
        function in order, are made of the source; None where they are the source.
    basis
        Of both functions, on all cells.
    dofs
        Numbering of the same element.
    u, v
        Parts in the jets of the trial and the test function.

    Returns
    -------
    Tensor ``[*batch, nnz]``.
    """
    geometry, c = basis.geometry, basis.components
    table = _table(basis, basis, u, v)[0]
    constant = source.shape[-1] == 1 == geometry.measure.shape[1]
    if constant:
        table = table.sum(0, keepdim=True)
    table = table.flatten(0, 1)
    fused = sums(table, source.dtype, geometry.inverse)
    if fused and not moves(geometry.inverse, geometry.measure):
        jets = Jets(v.value, v.gradient, u.value, u.gradient)
        factors = (geometry.inverse.detach(), geometry.measure.detach())
        slopes = not (u.value or v.value) and basis.element.is_affine
        points = _points(basis, constant and slopes)
        form = SummedForm(dofs.places, table, jets, *factors, weights, points, dofs.pattern)
        return form(source)
    if weights is not None:
        source = torch.tensordot(weights.to(source.dtype), source, 1)
    dim = geometry.x.shape[-1]
    C = source.unflatten(0, (c * v.size(dim), c * u.size(dim)))
    if fused:
        pulled = _pulled(C, basis, basis, u, v)
        return SummedForm(dofs.places, table)(pulled.flatten(0, 1).flatten(-3))
    return dofs.assemble_matrix(element_matrices(C, basis, basis, u, v))


def _points(basis: Basis, once: bool) -> tuple[Tensor, Tensor]:
    """Basis functions and derivatives ``[q, 1 + dim, nb]``, and weights; all at one point where that will do."""
    jets = _jets(basis, Parts(True, True))[0].mT
    return (jets[:1], basis.weights.sum(0, keepdim=True)) if once else (jets, basis.weights)


def element_vectors(L: Tensor, test: Basis, v: Parts) -> Tensor:
    """Contract the coefficients of a linear form with the basis functions.

    Parameters
    ----------
    L
        ``[components * jet, *batch, n|1, nq|1]``.
    test
        The basis.
    v
        Parts in the jet.

    Returns
    -------
    Tensor ``[*batch, n, nb * components]``.
    """
    geometry = test.geometry
    dim = geometry.x.shape[-1]
    L = L.unflatten(0, (test.components, v.size(dim))).movedim(1, -1)
    pulled = pull_back_vector(L, geometry.inverse, geometry.measure, v.gradient)
    table = torch.einsum("q,sqim->sqmi", test.weights, _jets(test, v)).to(L.dtype)
    local = _apply(torch.matmul, pulled, table, test)
    return local.movedim(0, -1).flatten(-2)


def _apply(
    product: Callable[[Tensor, Tensor], Tensor], pulled: Tensor, table: Tensor, basis: Basis
) -> Tensor:
    """Multiply ``[..., n, q, K]`` by the table ``[sides, nq, K, *nodes]``, site by site."""
    if pulled.shape[-2] == 1:
        table = table.sum(1, keepdim=True)
    rows, table = pulled.flatten(-2), table.flatten(1, 2)
    if basis.side is None:
        return product(rows, table[0])
    # Facets see one table per local facet number: group them, multiply, put them back.
    order, back, counts = basis.by_side
    groups = rows.index_select(-2, order).split(counts, -2)
    local = [product(group, table[s]) for s, group in enumerate(groups)]
    site = 1 - table.ndim
    return torch.cat(local, site).index_select(site, back)
