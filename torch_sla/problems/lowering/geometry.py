"""The bases of a mesh on one set of coordinates, and where points and repeated coordinates are on it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import ref

import numpy as np
import torch
from torch import Tensor

from torch_sla.assembly import CellBasis, Dofs, FacetBasis, Interpolation
from torch_sla.assembly.kernels.contents import contents
from torch_sla.errors import MeshError, SpecError

if TYPE_CHECKING:
    from torch_sla.assembly import Basis
    from torch_sla.problems.lowering.compiled import Unknown
    from torch_sla.problems.lowering.model import Model
    from torch_sla.problems.specs.field_problem import FieldProblem

__all__ = ["Geometry", "Levels", "degree_of"]

_SAMPLE = 4096
"""Of numbers, which tells whether many of them are the same."""


class Levels(NamedTuple):
    """The values that numbers ``[n]`` have, each once, and which of them each number is."""

    values: Tensor
    which: Tensor


def levels_of(x: Tensor) -> Levels | None:
    """Return the levels of numbers ``[n]``; None where there is not one of them for eight numbers."""
    some = x[:: max(1, len(x) // _SAMPLE)]
    if 2 * len(some.unique()) > len(some):
        return None
    # NumPy sorts four times faster.
    values, index = np.unique(x.cpu().numpy(), return_inverse=True)
    if 8 * len(values) > len(x):
        return None
    return Levels(torch.from_numpy(values), torch.from_numpy(index).int())


def degree_of(spec: FieldProblem, unknowns: tuple[Unknown, ...]) -> int:
    """Return the degree of the quadrature: what is exact for products of two functions, or more if asked for."""
    order, asked = max(u.order for u in unknowns), spec.quadrature_degree
    least = max(2 * order, 1)
    if asked is not None and asked < least:
        raise SpecError(
            f"a quadrature of degree {asked} is not exact for products of two functions of order {order}; give at "
            f"least {least}, or leave it out",
            path="quadrature_degree",
        )
    return asked or least


class Geometry:
    """Bases on one set of coordinates, made when asked for.

    Parameters
    ----------
    model
        Whose mesh and element.
    points
        Coordinates ``[n_points, dim]``.
    moved
        Whether they differ from the declared ones.
    """

    def __init__(self, model: Model, points: Tensor, *, moved: bool) -> None:
        # A model holds the geometry that is declared, and a scene the model besides the one that moves.
        self._model = ref(model)
        self.points, self.moved = points, moved
        self._bases: dict[tuple[str, bytes | None], CellBasis | FacetBasis] = {}
        self._located: dict[tuple[bytes, int], Interpolation] = {}
        self._levels: dict[tuple[int, int], tuple[Basis, Levels | None]] = {}

    @property
    def model(self) -> Model:
        """Whose mesh and element."""
        found = self._model()
        if found is None:
            raise ReferenceError("the model of this geometry is gone")
        return found

    def __reduce__(self) -> tuple[object, ...]:
        """Return how it is copied and pickled; what was made is made again, with the numbers that objects have then."""
        return partial(Geometry, moved=self.moved), (self.model, self.points)

    @property
    def cells(self) -> CellBasis:
        """The quadrature points of all cells, with the functions of the first unknown."""
        basis: Any = self.basis(next(iter(self.model.ranks)))
        return basis

    def facets(self, facets: Tensor) -> FacetBasis:
        """Return the quadrature points of some facets, with the functions of the first unknown."""
        basis: Any = self.basis(next(iter(self.model.ranks)), facets)
        return basis

    def basis(self, name: str, facets: Tensor | None = None) -> CellBasis | FacetBasis:
        """Return the functions of an unknown; all unknowns share the quadrature points."""
        key = (name, None if facets is None else contents(facets))
        if key not in self._bases:
            model, dofs = self.model, self.model.numbering.fields[name]
            degree, points, c = model.degree, self.points, dofs.components
            # Kept for whoever asks next, so recorded even where the first to ask does not record.
            with torch.enable_grad():
                self._bases[key] = (
                    CellBasis(model.mesh, dofs.element, degree, points, c)
                    if facets is None
                    else FacetBasis(model.mesh, dofs.element, facets, degree, points, c)
                )
        return self._bases[key]

    def levels(self, basis: Basis, axis: int) -> Levels | None:
        """Return the values of one coordinate at the points of a basis; None where they are not far fewer."""
        key = (id(basis), axis)
        if key not in self._levels:
            self._levels[key] = (basis, levels_of(basis.x[..., axis].detach().flatten()))
        return self._levels[key][1]

    def located(self, at: Tensor, dofs: Dofs) -> Interpolation:
        """Find points in the mesh; fixed points on fixed coordinates are found once."""

        def find() -> Interpolation:
            if not self.moved:
                return Interpolation(self.model.mesh, dofs.element, at, None, dofs)
            try:
                return Interpolation(self.model.mesh, dofs.element, at, self.points, dofs)
            except MeshError as error:
                raise MeshError(
                    f"{error}; positions are places in space that do not move with the mesh, so keep them where "
                    "points= leaves some of the body"
                ) from None

        if at.requires_grad or self.moved:
            return find()
        key = (contents(at), id(dofs))
        if key not in self._located:
            self._located[key] = find()
        return self._located[key]
