"""Where laws are evaluated: cells, facets, points, constrained dofs.

A law at sites is a tensor ``[*batch, n|1, q|1, *shape]``: n cells, facets or points, q quadrature points
in each (one for points and dofs).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.assembly import div, sym_grad
from torch_sla.errors import SpecError
from torch_sla.linalg.kernels.ordered import taken
from torch_sla.problems.expression import Ranked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch_sla.assembly import Basis, Dofs, Mesh
    from torch_sla.assembly.field import Field

__all__ = ["BasisSites", "DofSites", "Fields", "RestrictedSites", "Sites", "Spread"]


class Sites(ABC):
    """A set of places; subclasses know how values get there.

    Attributes
    ----------
    n, q
        Number of sites and of points in each.
    owners
        The cell each site belongs to ``[n]``, None where a site has several.
    """

    n: int
    q: int
    owners: Tensor | None

    @property
    @abstractmethod
    def x(self) -> Tensor:
        """Coordinates ``[n, q, dim]``."""

    @abstractmethod
    def place(self, values: Tensor, on: str, rank: int) -> Tensor:
        """Bring values ``[*batch, *home, *shape]`` from where they live to here.

        Parameters
        ----------
        on
            Where they live: ``"cells" "facets" "nodes" "quadrature"``.
        rank
            Number of trailing dimensions in ``shape``.
        """

    def field(self, name: str) -> Ranked:
        """Return an unknown, or ``grad div sym_grad`` of one, or the ``normal`` here."""
        if name == "normal":
            raise SpecError("there is no normal here, only on facets")
        if self.fields is None:
            raise SpecError(f"{name} is not known here")
        return self.fields(name)

    fields: Fields | None = None

    @property
    def solution(self) -> Tensor:
        """All unknowns of the problem ``[*batch, n]``, where the solution is seen."""
        if self.fields is None or self.fields.solution is None:
            raise SpecError("the solution is not known here")
        return self.fields.solution


class Fields:
    """The unknowns at some sites, looked up when asked for.

    Parameters
    ----------
    get
        Value and gradient of an unknown by name.
    ranks
        Rank of each unknown.
    solution
        All unknowns of the problem ``[*batch, n]``, where they are at hand.
    """

    def __init__(
        self,
        get: Callable[[str], Field],
        ranks: Mapping[str, int],
        solution: Tensor | None = None,
    ) -> None:
        self._get, self.ranks, self.solution = get, ranks, solution
        self._known: dict[str, Field] = {}

    def __getitem__(self, name: str) -> Field:
        if name not in self._known:
            self._known[name] = self._get(name)
        return self._known[name]

    def __call__(self, name: str) -> Ranked:
        """Evaluate an unknown or an operator on it."""
        operator, _, inner = name.partition("(")
        unknown = inner[:-1] if inner else operator
        if unknown not in self.ranks:
            raise SpecError(f"{name} is not known here")
        field, rank = self[unknown], self.ranks[unknown]
        match operator if inner else "":
            case "grad":
                return Ranked(field.gradient, rank + 1)
            case "div":
                return Ranked(div(field))
            case "sym_grad":
                return Ranked(sym_grad(field), 2)
        return Ranked(field.value, rank)


class BasisSites(Sites):
    """Quadrature points of cells or of facets.

    Parameters
    ----------
    basis
        Geometry and quadrature.
    nodal
        First-order numbering of the mesh points, by which nodal values are interpolated.
    fields
        The solution, where it may be seen.
    """

    def __init__(self, basis: Basis, nodal: Dofs, fields: Fields | None = None) -> None:
        self.basis, self.nodal, self.fields = basis, nodal, fields
        self.n, self.q = basis.n_sites, len(basis.rule)
        mesh: Mesh = basis.mesh
        self.owners = (
            torch.arange(self.n, device=mesh.cells.device)
            if basis.facets is None
            else mesh.facet_cells[basis.facets]
        )

    @property
    def x(self) -> Tensor:
        """Coordinates ``[n, q, dim]``."""
        return self.basis.x

    def place(self, values: Tensor, on: str, rank: int) -> Tensor:
        """Bring values here; see `Sites.place`."""
        site = values.ndim - 1 - rank
        if on == "cells":
            if self.basis.facets is not None and self.owners is not None:
                values = taken(values, self.owners, site)
            return values.unsqueeze(site + 1)
        if on == "facets" and self.basis.facets is not None:
            return values.index_select(site, self.basis.facets).unsqueeze(site + 1)
        if on == "quadrature" and self.basis.facets is None:
            return values.unflatten(site, (self.n, self.q))
        if on == "nodes":
            last = values.movedim(site, -1)
            return self.basis.interpolate(self.nodal, last).value.movedim(
                (-2, -1), (site, site + 1)
            )
        noun, own = ("cells", "quadrature") if self.basis.facets is None else ("facets", "facets")
        raise SpecError(
            f"values that live on {on} have no meaning on {noun}, where they are needed, too; "
            f"those on constant, cells, nodes or {own} have one"
        )

    def field(self, name: str) -> Ranked:
        """Return an unknown, something of it, or the normal ``[*batch, n, q, *shape]``."""
        if name == "normal" and self.basis.facets is not None:
            return Ranked(self.basis.normal, 1)
        return super().field(name)

    def seeing(self, fields: Fields) -> BasisSites:
        """Return the same places where another solution is seen."""
        return BasisSites(self.basis, self.nodal, fields)


class DofSites(Sites):
    """Nodes of the element, one point each.

    Parameters
    ----------
    points
        Their coordinates ``[n, dim]``.
    nodes
        Their numbers ``[n]``.
    spread
        For nodal values: ``[*batch, n_points] -> [*batch, n_nodes]``.
    values
        Unknowns at these nodes ``[*batch, n]`` or ``[*batch, n, components]``, where they may be seen.
    """

    owners = None

    def __init__(
        self,
        points: Tensor,
        nodes: Tensor,
        spread: Spread,
        values: Mapping[str, Ranked] | None = None,
    ) -> None:
        self.points, self.nodes, self.spread = points, nodes, spread
        self.values = values or {}
        self.n, self.q = len(nodes), 1

    @property
    def x(self) -> Tensor:
        """Coordinates ``[n, 1, dim]``."""
        return self.points[:, None]

    def place(self, values: Tensor, on: str, rank: int) -> Tensor:
        """Bring nodal values here; nothing else has a value at a node."""
        if on != "nodes":
            raise SpecError(f"values that live on {on} have no single value at a node")
        site = values.ndim - 1 - rank
        at_nodes = self.spread(values.movedim(site, -1)).index_select(-1, self.nodes)
        return at_nodes.movedim(-1, site).unsqueeze(site + 1)

    def field(self, name: str) -> Ranked:
        """Return an unknown; its gradient has no single value at a node."""
        if name in self.values:
            value, rank = self.values[name]
            return Ranked(value.unsqueeze(value.ndim - rank), rank)
        return super().field(name)


class Spread:
    """Values of a continuous field at the nodes of an element, from those at the nodes of another.

    Parameters
    ----------
    dofs
        Numbering of the nodes where values are wanted.
    source
        Numbering of those where they are known; the mesh points, by the geometry's own functions, when None.
    """

    def __init__(self, dofs: Dofs, source: Dofs | None = None) -> None:
        self.dofs = dofs
        self.element = dofs.mesh.geometry if source is None else source.element
        self.cell_nodes = dofs.mesh.cells if source is None else source.cell_nodes

    def __call__(self, values: Tensor) -> Tensor:
        """Map ``[*batch, n known]`` to ``[*batch, n_nodes]``."""
        wanted = self.dofs.element
        if wanted == self.element:
            return values
        cell, local = self.dofs.first // wanted.n_nodes, self.dofs.first % wanted.n_nodes
        table = self.element.values(wanted.nodes.to(values))[local]
        around = self.cell_nodes[cell]
        return (table * taken(values, around, -1)).sum(-1)


class RestrictedSites(Sites):
    """Some of the sites of another set."""

    def __init__(self, base: Sites, chosen: Tensor) -> None:
        self.base, self.chosen = base, chosen
        self.n, self.q = len(chosen), base.q
        self.fields = base.fields
        self.owners = None if base.owners is None else base.owners[chosen]

    @property
    def x(self) -> Tensor:
        """Coordinates ``[n, q, dim]``."""
        return self.base.x.index_select(0, self.chosen)

    def place(self, values: Tensor, on: str, rank: int) -> Tensor:
        """Bring values here; see `Sites.place`."""
        return self._take(Ranked(self.base.place(values, on, rank), rank)).tensor

    def field(self, name: str) -> Ranked:
        """Return the solution or its gradient."""
        return self._take(self.base.field(name))

    def _take(self, value: Ranked) -> Ranked:
        site = value.tensor.ndim - value.rank - 2
        if value.tensor.shape[site] == 1:
            return value
        return Ranked(value.tensor.index_select(site, self.chosen), value.rank)
