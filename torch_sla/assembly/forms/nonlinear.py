r"""Energies and residuals that are not linear in the unknown, with tangents from `torch.func`.

At a quadrature point everything depends on the *jets* of the fields, ``j = (u, du/dx)``. With an energy density W the
residual is the linear form with coefficients :math:`\partial W/\partial j` and the tangent the bilinear form with
:math:`\partial^2 W/\partial j\,\partial j`; for a residual :math:`R(j)\cdot j(v)` they are R itself and
:math:`\partial R/\partial j`. So derivatives are taken at points, on a handful of numbers, never through an element
matrix, and the contraction with the basis functions is the one of linear forms. Everything stays differentiable to
any order with respect to fields, coefficients and geometry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from torch_sla.assembly.basis import Basis
from torch_sla.assembly.field import Field, MissingPartError
from torch_sla.assembly.forms.context import CONTRACT, Coefficient, Context, Integrand, check_sites
from torch_sla.assembly.forms.contract import Parts, element_matrices, element_vectors, of_jet
from torch_sla.assembly.forms.determinants import closed_forms
from torch_sla.assembly.forms.transforms import transformed
from torch_sla.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


__all__ = ["Energy", "ResidualForm"]

Jets = tuple[Tensor, ...]
Used = tuple[Parts, ...]


class _Nonlinear(Integrand):
    """What energies and residuals share: jets in, coefficients of linear and bilinear forms out."""

    def __init__(self, integrand: Callable[..., Tensor]) -> None:
        super().__init__(integrand)
        self._parts: dict[tuple[int, frozenset[str]], Used] = {}

    def _evaluate(self, bases: Sequence[Basis], parts: Used, w: Context, jets: Jets) -> Tensor:
        """Evaluate the integrand at the fields, which for a residual are tested with themselves."""
        raise NotImplementedError

    def _flux(self, bases: Sequence[Basis], parts: Used, w: Context, jets: Jets) -> Jets:
        """Coefficients of the residual at the points, shaped as the jets."""
        raise NotImplementedError

    def _check(self, bases: Sequence[Basis], parts: Used, w: Context, jets: Jets) -> None:
        """Check once what the form promises."""

    def _setup(
        self,
        bases: Basis | Sequence[Basis],
        fields: Field | Sequence[Field],
        coefficients: dict[str, Coefficient],
    ) -> tuple[tuple[Basis, ...], Used, Context, Jets]:
        """Find the parts of each field that are used, and give the jets every batch dimension and point."""
        bases, fields = _tuple(bases), _tuple(fields)
        if len(bases) != len(fields) or not bases:
            raise ArgumentError(
                f"fields: got {len(fields)} for {len(bases)} bases; give one known field for each basis"
            )
        if not all(isinstance(basis, Basis) for basis in bases):
            raise ArgumentError(
                f"bases: {self!r} is integrated over cells or boundary facets, not over facets between cells"
            )
        for other in bases[1:]:
            if other.rule is not bases[0].rule or other.n_sites != bases[0].n_sites:
                raise ArgumentError("bases: need the same quadrature degree, cells and facets")
        w = Context(bases[0], coefficients)
        given = len(bases), frozenset(w.names)
        known = self._parts.get(given)
        parts = known or (Parts(),) * len(bases)
        while True:
            jets = tuple(_jet(f, b, p) for f, b, p in zip(fields, bases, parts, strict=True))
            try:
                with torch.no_grad():
                    shape = self._evaluate(bases, parts, w, jets).shape
                break
            except MissingPartError as missing:
                i = int(missing.argument)
                parts = (*parts[:i], parts[i].including(missing.part), *parts[i + 1 :])
        if all(p == Parts() for p in parts):
            raise ArgumentError(f"{self!r}: the integrand depends on none of the unknowns")
        check_sites(self, shape, bases[0], CONTRACT)
        size = torch.Size(np.broadcast_shapes(shape, *(jet.shape[:-2] for jet in jets)))
        jets = tuple(_expanded(jet, size) for jet in jets)
        if parts != known:
            self._check(bases, parts, w, jets)
            self._parts[given] = parts
        return bases, parts, w, jets

    def residual(
        self,
        bases: Basis | Sequence[Basis],
        fields: Field | Sequence[Field],
        /,
        **coefficients: Coefficient,
    ) -> Tensor:
        """Element residuals, the derivative along every basis function.

        Parameters
        ----------
        bases
            Basis of the unknown, or of each unknown, on the same quadrature points.
        fields
            The unknowns there, from ``basis.interpolate(dofs, u)``.
        **coefficients
            Numbers, fields, or tensors ``[*batch, n|1, nq|1, *shape]``.

        Returns
        -------
        Tensor
            ``[*batch, n, n_local]``; several unknowns in their order, as `MixedDofs` numbers them.
        """
        bases, parts, w, jets = self._setup(bases, fields, coefficients)
        flux = self._flux(bases, parts, w, jets)
        vectors = [
            _nothing(jets, basis)
            if p == Parts()
            else element_vectors(part.flatten(-2).movedim(-1, 0), basis, p)
            for part, basis, p in zip(flux, bases, parts, strict=True)
        ]
        return torch.cat(vectors, -1)

    def tangent(
        self,
        bases: Basis | Sequence[Basis],
        fields: Field | Sequence[Field],
        /,
        **coefficients: Coefficient,
    ) -> Tensor:
        """Element tangents ``[*batch, n, n_local, n_local]``; parameters as in `residual`."""
        bases, parts, w, jets = self._setup(bases, fields, coefficients)

        def flux(*moved: Tensor) -> Jets:
            return self._flux(bases, parts, w, moved)

        rows: list[list[Tensor]] = [[] for _ in bases]
        for j, (trial, p) in enumerate(zip(bases, parts, strict=True)):
            width = jets[j].shape[-2] * jets[j].shape[-1]
            if not width:
                for i, test in enumerate(bases):
                    rows[i].append(_nothing(jets, test, trial))
                continue

            def along(direction: Tensor, j: int = j) -> Jets:
                tangents = tuple(
                    direction + torch.zeros_like(jet) if k == j else torch.zeros_like(jet)
                    for k, jet in enumerate(jets)
                )
                return transformed(torch.func.jvp, flux, jets, tangents)[1]

            unit = torch.eye(width, dtype=jets[j].dtype, device=jets[j].device)
            columns = transformed(torch.func.vmap(along), unit.unflatten(1, jets[j].shape[-2:]))
            for i, test in enumerate(bases):
                if parts[i] == Parts():
                    rows[i].append(_nothing(jets, test, trial))
                    continue
                # [trial jet, *batch, n, q, test jet] -> [test jet, trial jet, *batch, n, q]
                C = columns[i].flatten(-2).movedim(-1, 0)
                rows[i].append(element_matrices(C, trial, test, p, parts[i]))
        return torch.cat([torch.cat(row, -1) for row in rows], -2)


class Energy(_Nonlinear):
    """An energy ``∫ W(u, ...)``; its residual is the derivative, its tangent the second derivative.

    Parameters
    ----------
    integrand
        Function ``(u, w) -> Tensor [*batch, n, nq]`` of a field, or ``(u, p, ..., w)`` of several, and a context. It
        acts point by point.

    Examples
    --------
    >>> from torch_sla.assembly import CellBasis, Dofs, dot, grad, lagrange, rectangle_mesh
    >>> mesh = rectangle_mesh((1, 1))
    >>> dofs = Dofs(mesh, lagrange("triangle", 1))
    >>> basis = CellBasis(mesh, dofs.element)
    >>> dirichlet = Energy(lambda u, w: 0.5 * w.kappa * dot(grad(u), grad(u)))
    >>> u = basis.interpolate(dofs, mesh.points[:, 0] ** 2)
    >>> dirichlet(basis, u, kappa=2.0)
    tensor([0.5000, 0.5000], dtype=torch.float64)
    >>> dirichlet.tangent(basis, u, kappa=2.0)[0]
    tensor([[ 1., -1.,  0.],
            [-1.,  2., -1.],
            [ 0., -1.,  1.]], dtype=torch.float64)
    """

    def _evaluate(self, bases: Sequence[Basis], parts: Used, w: Context, jets: Jets) -> Tensor:
        with closed_forms():
            return self.integrand(*_fields(bases, parts, jets), w)

    def _flux(self, bases: Sequence[Basis], parts: Used, w: Context, jets: Jets) -> Jets:
        def total(*moved: Tensor) -> Tensor:
            return self._evaluate(bases, parts, w, moved).sum()

        return transformed(torch.func.grad(total, argnums=tuple(range(len(jets)))), *jets)

    def __call__(
        self,
        bases: Basis | Sequence[Basis],
        fields: Field | Sequence[Field],
        /,
        **coefficients: Coefficient,
    ) -> Tensor:
        """Integrate over every cell or facet: ``[*batch, n]``."""
        bases, fields = _tuple(bases), _tuple(fields)
        w = Context(bases[0], coefficients)
        with closed_forms():
            density = self.integrand(*fields, w)
        return bases[0].integrate(density)


class ResidualForm(_Nonlinear):
    """A residual ``R(u; v)``, linear in the test function v but not in u.

    Parameters
    ----------
    integrand
        Function ``(u, v, w) -> Tensor [*batch, n, nq]`` of the unknown, the test function and a context; with several
        unknowns ``(u, p, ..., v, q, ..., w)``. It acts point by point.

    Examples
    --------
    >>> from torch_sla.assembly import CellBasis, Dofs, dot, grad, interval_mesh, lagrange
    >>> dofs = Dofs(interval_mesh(1), lagrange("line", 1))
    >>> basis = CellBasis(dofs.mesh, dofs.element, degree=4)
    >>> conduction = ResidualForm(lambda u, v, w: (1 + u) * dot(grad(u), grad(v)))
    >>> u = basis.interpolate(dofs, torch.tensor([0.0, 1.0], dtype=torch.float64))
    >>> conduction.residual(basis, u)
    tensor([[-1.5000,  1.5000]], dtype=torch.float64)
    >>> conduction.tangent(basis, u).round(decimals=6)
    tensor([[[ 1., -2.],
             [-1.,  2.]]], dtype=torch.float64)
    """

    def _evaluate(self, bases: Sequence[Basis], parts: Used, w: Context, jets: Jets) -> Tensor:
        return self._tested(bases, parts, w, jets, jets)

    def _tested(
        self, bases: Sequence[Basis], parts: Used, w: Context, jets: Jets, tests: Jets
    ) -> Tensor:
        with closed_forms():
            return self.integrand(*_fields(bases, parts, jets), *_fields(bases, parts, tests), w)

    def _check(self, bases: Sequence[Basis], parts: Used, w: Context, jets: Jets) -> None:
        """Scale the test functions by -2, as a linear integrand does."""
        with torch.no_grad():
            tests = tuple(
                torch.linspace(0.5, 1.5, max(j.numel(), 1), dtype=j.dtype, device=j.device)[
                    : j.numel()
                ].reshape(j.shape)
                for j in jets
            )
            once = self._tested(bases, parts, w, jets, tests)
            twice = self._tested(bases, parts, w, jets, tuple(-2.0 * t for t in tests))
            gap = torch.nan_to_num((twice + 2.0 * once).abs()).amax()
            linear = gap <= 1e-4 * torch.nan_to_num(once.abs()).amax()
        if not bool(linear):
            raise ArgumentError(
                f"{self!r}: the integrand is not linear in its test functions; give every term one of them"
            )

    def _flux(self, bases: Sequence[Basis], parts: Used, w: Context, jets: Jets) -> Jets:
        def total(*tests: Tensor) -> Tensor:
            return self._tested(bases, parts, w, jets, tests).sum()

        zeros = tuple(torch.zeros_like(jet) for jet in jets)
        return transformed(torch.func.grad(total, argnums=tuple(range(len(jets)))), *zeros)


def _tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def _jet(field: Field, basis: Basis, parts: Parts) -> Tensor:
    """Values and derivatives of a field ``[*batch, n, nq|1, components, size]``."""
    scalar = basis.components == 1
    pieces = []
    if parts.gradient:
        gradient = field.gradient
        pieces.append(gradient[..., None, :] if scalar else gradient)
        if not parts.value and basis.element.is_affine and basis.geometry.inverse.shape[1] == 1:
            # Gradients are constant in the cell: one point stands for all.
            pieces = [pieces[0][..., :1, :, :]]
    if parts.value:
        value = field.value
        pieces.insert(0, (value[..., None] if scalar else value)[..., None])
    if pieces:
        return torch.cat(pieces, -1)
    return basis.x.new_zeros(basis.n_sites, 1, basis.components, 0)


def _expanded(jet: Tensor, size: torch.Size) -> Tensor:
    """Give a jet its own memory at every place: functions that write would else meet one place twice."""
    full = jet.expand(*size, *jet.shape[-2:])
    return full if full.shape == jet.shape else full.clone()


def _fields(bases: Sequence[Basis], parts: Used, jets: Jets) -> list[Field]:
    return [
        of_jet(str(i), jet, basis, part)
        for i, (jet, basis, part) in enumerate(zip(jets, bases, parts, strict=True))
    ]


def _nothing(jets: Jets, *bases: Basis) -> Tensor:
    """Zero element vectors or matrices of fields that the integrand does not use."""
    sizes = [basis.element.n_nodes * basis.components for basis in bases]
    return jets[0].new_zeros(*jets[0].shape[:-4], bases[0].n_sites, *sizes)
