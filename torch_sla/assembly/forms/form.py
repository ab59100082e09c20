"""Bilinear forms, linear forms and functionals, written as torch functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.assembly.basis import CellBasis, InteriorBasis
from torch_sla.assembly.field import MissingPartError
from torch_sla.assembly.forms.context import CONTRACT, Coefficient, Context, Integrand, check_sites
from torch_sla.assembly.forms.contract import (
    Parts,
    element_matrices,
    element_vectors,
    matrix_values,
    of_jet,
)
from torch_sla.assembly.forms.separated import Separated
from torch_sla.assembly.forms.transforms import transformed
from torch_sla.assembly.forms.two_sided import SIDES, facet_matrices, facet_vectors, on_side
from torch_sla.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch_sla.assembly.basis.basis import Basis
    from torch_sla.assembly.dofs import Dofs

__all__ = ["BilinearForm", "Functional", "LinearForm"]


class _Form(Integrand):
    """An integrand and the parts of its arguments it was seen to use.

    The integrand is evaluated on unit jets of its arguments under ``torch.func.vmap``, so that it sees plain
    shapes ``[*batch, n, nq]`` and is called once whatever the element; see `contract`.
    """

    def __init__(self, integrand: Callable[..., Tensor], arguments: tuple[str, ...]) -> None:
        super().__init__(integrand)
        self._arguments = arguments
        # By the names of the coefficients: what is used must not depend on what was given before.
        self._parts: dict[frozenset[str], dict[str, Parts]] = {}

    def coefficients(
        self, bases: dict[str, Basis], w: Context, sides: tuple[str, ...] = ()
    ) -> tuple[Tensor, dict[str, Parts]]:
        """Evaluate the integrand on unit jets, learning which parts it needs.

        On interior facets each argument is a function on one of the two sides, and zero on the other.
        """
        given = frozenset(w.names)
        known = self._parts.get(given)
        parts = known or {name: Parts() for name in self._arguments}
        C: Tensor | None = None
        while C is None:
            try:
                # Attempts leave no trace in the graph: a form records the same whether it was used before or not.
                with torch.set_grad_enabled(torch.is_grad_enabled() and parts == known):
                    C = self._evaluate(bases, w, parts, sides)
            except MissingPartError as missing:
                more = parts[missing.argument].including(missing.part)
                parts = {**parts, missing.argument: more}
                known = None
        for name, used in parts.items():
            if used == Parts():
                # Nothing was asked of it, or the part would have been missing.
                raise ArgumentError(f"{self!r}: the integrand does not depend on {name}")
        if parts != known:
            if C.numel():  # on no cell or facet at all, an integrand shows nothing of itself
                self._check_linear(bases, w, parts, sides, C)
                self._parts[given] = parts
            C = self._evaluate(bases, w, parts, sides)
        check_sites(self, C.shape[len(self._arguments) :], w.basis, CONTRACT)
        return C, parts

    def needed_degree(self, basis: Basis, **coefficients: Coefficient) -> int:
        """Find the quadrature degree that integrates the form exactly for coefficients constant in each cell.

        Two more where the integrand looks at positions or normals, whose law is unknown.

        Parameters
        ----------
        basis
            Any basis of the arguments, on which the integrand is evaluated once.
        **coefficients
            As for the form itself.
        """
        w = Context(basis, coefficients)
        _, parts = self.coefficients(dict.fromkeys(self._arguments, basis), w)
        element = basis.element
        total = 0
        for used in parts.values():
            differentiated = element.cell.is_simplex and not used.value
            total += element.degree - int(differentiated)
        return max(total, 0) + (2 if w.looked_around else 0)

    def _evaluate(
        self,
        bases: dict[str, Basis],
        w: Context,
        parts: dict[str, Parts],
        sides: tuple[str, ...] = (),
        scale: float = 1.0,
    ) -> Tensor:
        names = self._arguments

        def call(*jets: Tensor) -> Tensor:
            fields: list[Any] = [
                of_jet(name, jet, bases[name], parts[name])
                for name, jet in zip(names, jets, strict=True)
            ]
            if sides:
                fields = [on_side(f, side) for f, side in zip(fields, sides, strict=True)]
            found = self.integrand(*fields, w)
            if found is None:
                raise ArgumentError(f"{self!r}: the integrand returns nothing; return its value")
            return found

        function: Callable[..., Any] = call
        # The last argument (the test function) becomes the outermost dimension.
        for i, name in enumerate(names):
            if parts[name] != Parts():
                function = torch.func.vmap(
                    function, in_dims=tuple(0 if j == i else None for j in range(len(names)))
                )
        return transformed(function, *(_unit_jets(bases[n], parts[n], scale) for n in names))

    def _check_linear(
        self,
        bases: dict[str, Basis],
        w: Context,
        parts: dict[str, Parts],
        sides: tuple[str, ...],
        C: Tensor,
    ) -> None:
        """Scale every argument by -2: a multilinear integrand scales by (-2)^arguments."""
        with torch.no_grad():
            scaled = self._evaluate(bases, w, parts, sides, -2.0)
            expected = C.detach() * (-2.0) ** len(self._arguments)
            size = torch.nan_to_num(expected.abs()).amax()
            linear = torch.nan_to_num((scaled - expected).abs()).amax() <= 1e-4 * size
        if not bool(linear):
            raise ArgumentError(
                f"{self!r}: the integrand is not linear in {' and '.join(self._arguments)}; split off the terms "
                "without them, or linearise it"
            )


def _same_sites(a: Basis, b: Basis) -> bool:
    if a.rule is not b.rule or a.mesh is not b.mesh:
        return False
    for own, other in ((a.facets, b.facets), (a.cells, b.cells)):
        if own is None or other is None:
            if own is not other:
                return False
        elif own is not other and not torch.equal(own, other):
            return False
    return True


def _unit_jets(basis: Basis, parts: Parts, scale: float) -> Tensor:
    """Every unit jet ``[J, 1, 1, components, size]``."""
    c, size = basis.components, parts.size(basis.x.shape[-1])
    unit = scale * torch.eye(c * size, dtype=basis.x.dtype, device=basis.x.device)
    return unit.reshape(c * size, 1, 1, c, size)


class BilinearForm(_Form):
    """A form ``a(u, v)``, linear in the trial function u and the test function v.

    Parameters
    ----------
    integrand
        Function ``(u, v, w) -> Tensor [*batch, n, nq]`` of two fields and a context with positions ``w.x``, normals
        ``w.normal`` and the coefficients by name. It must be linear in u and in v.
    linear
        Names of the coefficients, if they are scalars, there are no others, and the integrand is linear in all of
        them together. `assemble` then works with these few numbers in place of one for each pair of derivatives.

    Examples
    --------
    >>> from torch_sla.assembly import CellBasis, dot, grad, lagrange, rectangle_mesh
    >>> basis = CellBasis(rectangle_mesh((1, 1)), lagrange("triangle", 1))
    >>> diffusion = BilinearForm(lambda u, v, w: w.kappa * dot(grad(u), grad(v)))
    >>> diffusion(basis, kappa=2.0)[0]
    tensor([[ 1., -1.,  0.],
            [-1.,  2., -1.],
            [ 0., -1.,  1.]], dtype=torch.float64)
    """

    def __init__(
        self, integrand: Callable[[Any, Any, Any], Tensor], linear: tuple[str, ...] = ()
    ) -> None:
        super().__init__(integrand, ("u", "v"))
        self._separated = Separated(self, linear) if linear else None

    def __call__(
        self,
        trial: Basis | InteriorBasis,
        test: Basis | InteriorBasis | None = None,
        /,
        **coefficients: Coefficient,
    ) -> Tensor:
        """Integrate over every cell or facet.

        Parameters
        ----------
        trial, test
            Bases of u and v on the same quadrature points; `test` is `trial` when left out.
        **coefficients
            Numbers, fields, or tensors ``[*batch, n|1, nq|1, *shape]``.

        Returns
        -------
        Tensor
            Element matrices ``[*batch, n, dofs of v, dofs of u]``; on interior facets the dofs of the plus side, then
            those of the minus side.

        Raises
        ------
        ArgumentError
            If the integrand is not bilinear, lacks a coefficient or has a wrong shape.
        """
        test = trial if test is None else test
        if isinstance(trial, InteriorBasis) or isinstance(test, InteriorBasis):
            return self._two_sided(trial, test, Context(test, coefficients))
        if trial is not test and not _same_sites(trial, test):
            raise ArgumentError(
                "test: trial and test need the same quadrature degree, cells and facets"
            )
        C, parts = self.coefficients({"u": trial, "v": test}, Context(test, coefficients))
        return element_matrices(C, trial, test, parts["u"], parts["v"])

    def values(self, basis: CellBasis, dofs: Dofs, /, **coefficients: Coefficient) -> Tensor:
        """Integrate over every cell and sum, without making all element matrices: ``[*batch, nnz]``.

        Parameters
        ----------
        basis
            Basis of u and v on all cells.
        dofs
            Numbering with the element and components of the basis.
        **coefficients
            As in a call.
        """
        w = Context(basis, coefficients)
        found = None if self._separated is None else self._separated.find(w)
        if found is not None:
            return matrix_values(found.source, found.weights, basis, dofs, *found.parts)
        C, parts = self.coefficients({"u": basis, "v": basis}, w)
        return matrix_values(C.flatten(0, 1), None, basis, dofs, parts["u"], parts["v"])

    def _two_sided(
        self, trial: Basis | InteriorBasis, test: Basis | InteriorBasis, w: Context
    ) -> Tensor:
        if not (isinstance(trial, InteriorBasis) and isinstance(test, InteriorBasis)):
            raise ArgumentError("test: trial and test both need to live on interior facets")
        if trial.rule is not test.rule or trial.mesh is not test.mesh:
            raise ArgumentError("test: trial and test need the same mesh and quadrature degree")
        rows = []
        for v in SIDES:
            row = []
            for u in SIDES:
                sides: dict[str, Basis] = {"u": getattr(trial, u), "v": getattr(test, v)}
                C, parts = self.coefficients(sides, w, (u, v))
                row.append(facet_matrices(C, sides, parts, test.dx))
            rows.append(torch.cat(torch.broadcast_tensors(*row), -1))
        return torch.cat(torch.broadcast_tensors(*rows), -2)


class LinearForm(_Form):
    """A form ``l(v)``, linear in the test function v.

    Parameters
    ----------
    integrand
        Function ``(v, w) -> Tensor [*batch, n, nq]``, see `BilinearForm`.

    Examples
    --------
    >>> from torch_sla.assembly import CellBasis, lagrange, rectangle_mesh
    >>> basis = CellBasis(rectangle_mesh((1, 1)), lagrange("triangle", 1))
    >>> LinearForm(lambda v, w: w.f * v)(basis, f=4.8)[0]
    tensor([0.8000, 0.8000, 0.8000], dtype=torch.float64)
    """

    def __init__(self, integrand: Callable[[Any, Any], Tensor]) -> None:
        super().__init__(integrand, ("v",))

    def __call__(self, test: Basis | InteriorBasis, /, **coefficients: Coefficient) -> Tensor:
        """Integrate over every cell or facet: element vectors ``[*batch, n, dofs of v]``."""
        if isinstance(test, InteriorBasis):
            vectors = []
            for side in SIDES:
                basis: Basis = getattr(test, side)
                L, parts = self.coefficients({"v": basis}, Context(test, coefficients), (side,))
                vectors.append(facet_vectors(L, basis, parts["v"], test.dx))
            return torch.cat(torch.broadcast_tensors(*vectors), -1)
        C, parts = self.coefficients({"v": test}, Context(test, coefficients))
        return element_vectors(C, test, parts["v"])


class Functional:
    """An integral of given quantities, such as an energy or a mean value.

    Parameters
    ----------
    integrand
        Function ``w -> Tensor [*batch, n|1, nq|1]``.

    Examples
    --------
    >>> from torch_sla.assembly import CellBasis, lagrange, rectangle_mesh
    >>> basis = CellBasis(rectangle_mesh((2, 2)), lagrange("triangle", 1))
    >>> round(float(Functional(lambda w: w.x[..., 0] ** 2)(basis).sum()), 12)
    0.333333333333
    """

    def __init__(self, integrand: Callable[[Any], Tensor]) -> None:
        self.integrand = integrand

    def __call__(self, basis: Basis | InteriorBasis, /, **coefficients: Coefficient) -> Tensor:
        """Integrate over every cell or facet: ``[*batch, n]``."""
        value = self.integrand(Context(basis, coefficients))
        check_sites("Functional", value.shape, basis)
        return basis.integrate(value)
