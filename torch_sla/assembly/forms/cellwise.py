"""Energies that see a whole cell at once, such as those with a mean dilatation.

Where quadrature points of a cell talk to each other, derivatives at points are not enough: these are taken with respect
to the coefficients of the cell, by `torch.func`, for all cells together. A tangent then costs one derivative per local
dof instead of one per entry of the jet, so use `Energy` where it will do.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from torch_sla.assembly.forms.context import Coefficient, Context, Integrand, check_sites
from torch_sla.assembly.forms.determinants import closed_forms
from torch_sla.assembly.forms.transforms import transformed
from torch_sla.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch_sla.assembly.basis.basis import Basis
    from torch_sla.assembly.field import Field

__all__ = ["CellContext", "CellEnergy"]


class CellContext(Context):
    """A context in which means over cells may be taken."""

    def mean(self, value: Tensor) -> Tensor:
        """Average ``[*batch, n, nq]`` over each cell: ``[*batch, n, 1]``."""
        dx = self.basis.dx
        return (value * dx).sum(-1, keepdim=True) / dx.sum(-1, keepdim=True)


class CellEnergy(Integrand):
    """An energy ``∫ W(u, ...)`` whose density at a point may depend on the field anywhere in its cell.

    Parameters
    ----------
    integrand
        Function ``(u, w) -> Tensor [*batch, n, nq]`` of a field and a context, where ``w.mean(q)`` is the mean of a
        scalar over each cell.

    Examples
    --------
    A quarter of the square of the mean slope, on one cell:

    >>> from torch_sla.assembly import CellBasis, Dofs, grad, interval_mesh, lagrange
    >>> dofs = Dofs(interval_mesh(1), lagrange("line", 2))
    >>> basis = CellBasis(dofs.mesh, dofs.element)
    >>> form = CellEnergy(lambda u, w: 0.25 * w.mean(grad(u)[..., 0]) ** 2 + 0 * u)
    >>> u = basis.interpolate(dofs, torch.tensor([0.0, 2.0, 0.0], dtype=torch.float64))
    >>> form(basis, u).round(decimals=6), form.residual(basis, u).round(decimals=6).abs()
    (tensor([1.], dtype=torch.float64), tensor([[1., 1., 0.]], dtype=torch.float64))
    """

    def __call__(self, basis: Basis, field: Field, /, **coefficients: Coefficient) -> Tensor:
        """Integrate over every cell: ``[*batch, n]``."""
        return self._energy(basis, CellContext(basis, coefficients), _local(field))

    def _energy(self, basis: Basis, w: CellContext, local: Tensor) -> Tensor:
        with closed_forms():
            density = self.integrand(basis.evaluate(local), w)
        check_sites(self, density.shape, basis)
        return basis.integrate(density)

    def _setup(
        self, basis: Basis, field: Field, coefficients: dict[str, Coefficient]
    ) -> tuple[CellContext, Tensor]:
        """Give the coefficients of the field every batch dimension of the energy."""
        w, local = CellContext(basis, coefficients), _local(field)
        with torch.no_grad():
            batch = self._energy(basis, w, local).shape[:-1]
        full = local.expand(*np.broadcast_shapes(batch, local.shape[:-3]), *local.shape[-3:])
        return w, full if full.shape == local.shape else full.clone()

    def residual(self, basis: Basis, field: Field, /, **coefficients: Coefficient) -> Tensor:
        """Element residuals ``[*batch, n, n_local]``.

        Parameters
        ----------
        basis
            Basis of the unknown.
        field
            The unknown, from ``basis.interpolate(dofs, u)`` with the same element.
        **coefficients
            Numbers, fields, or tensors ``[*batch, n|1, nq|1, *shape]``.
        """
        w, local = self._setup(basis, field, coefficients)
        return self._derivative(basis, w)(local).flatten(-2)

    def tangent(self, basis: Basis, field: Field, /, **coefficients: Coefficient) -> Tensor:
        """Element tangents ``[*batch, n, n_local, n_local]``; parameters as in `residual`."""
        w, local = self._setup(basis, field, coefficients)
        derivative = self._derivative(basis, w)

        def along(direction: Tensor) -> Tensor:
            moved = direction + torch.zeros_like(local)
            return transformed(torch.func.jvp, derivative, (local,), (moved,))[1]

        shape = local.shape[-2:]
        unit = torch.eye(shape.numel(), dtype=local.dtype, device=local.device)
        columns: Tensor = transformed(torch.func.vmap(along), unit.unflatten(1, shape))
        return columns.flatten(-2).movedim(0, -1)

    def _derivative(self, basis: Basis, w: CellContext) -> Callable[[Tensor], Tensor]:
        # Cells do not see each other, so the gradient of the sum is the gradient of each.
        gradient = torch.func.grad(lambda local: self._energy(basis, w, local).sum())
        return partial(transformed, gradient)


def _local(field: Field) -> Tensor:
    if field.local is None:
        raise ArgumentError("field: has no coefficients; take it from basis.interpolate(dofs, u)")
    return field.local
