"""Compiled: the work that values do not change, shared by all problems of one structure."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from torch_sla.assembly import Dofs, Mesh, lagrange
from torch_sla.assembly.constraints import (
    DirichletConstraint,
    LinearConstraint,
    partners,
    periodic,
    prescribe,
)
from torch_sla.errors import ArgumentError, MeshError, SpecError
from torch_sla.lazy import cached_property
from torch_sla.problems.lowering.cache import structures
from torch_sla.problems.lowering.numbering import Numbering

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch_sla.assembly.constraints import Constraint

__all__ = [
    "Compiled",
    "Selection",
    "Unknown",
    "compiled",
    "contradiction",
    "matching",
    "structure_key",
]


class Unknown(NamedTuple):
    """A field to be found: name, order of its element, components (0 means a scalar)."""

    name: str
    order: int
    components: int


@dataclass(frozen=True, eq=False)
class Selection:
    """The facets of one boundary condition, already evaluated.

    Parameters
    ----------
    kind
        ``"dirichlet" "neumann" "robin"`` and so on.
    facets
        Indices into ``mesh.facets``; none for conditions at points.
    unknown
        Name of the field it acts on.
    component
        Component of a vector field, None for all.
    to
        Facets whose values are repeated, of a periodic condition.
    points
        Mesh points that are held, of a Dirichlet condition at points.
    """

    kind: str
    facets: Tensor
    unknown: str
    component: int | None = None
    to: Tensor | None = None
    points: Tensor | None = None

    def dofs(self, field: Dofs) -> Tensor:
        """Return the dofs of a Dirichlet condition."""
        if self.points is None:
            return field.facet_dofs(self.facets, self.component)
        mesh = field.mesh
        corners = mesh.reference.n_vertices
        node = torch.full((mesh.n_points,), -1, dtype=torch.int64, device=mesh.cells.device)
        node[mesh.cells[:, :corners]] = field.cell_nodes[:, :corners].to(node)
        own = range(field.components) if self.component is None else (self.component,)
        first = node[self.points.to(node.device)] * field.components
        return torch.cat([first + c for c in own])


class Compiled:
    """Numbering, pattern, scatter maps and constraint of one structure.

    Its mesh carries the coordinates of the first problem that asked; only its topology is used here.

    Attributes
    ----------
    key
        The structural hash.
    numbering
        Numbering of the unknowns.
    constrained
        Dofs with a given value, ascending.
    owner
        Which condition gives each of them its value.
    nbytes
        Bytes held, for the bound of the cache.
    """

    def __init__(
        self,
        key: str,
        mesh: Mesh,
        unknowns: tuple[Unknown, ...],
        selections: tuple[Selection, ...],
    ) -> None:
        self.key, self.mesh, self.selections = key, mesh, selections
        cell = mesh.reference.name
        self.numbering = Numbering(
            {u.name: Dofs(mesh, lagrange(cell, u.order), max(u.components, 1)) for u in unknowns}
        )
        numbering = self.numbering
        owner = torch.full((numbering.n,), -1, dtype=torch.int64, device=mesh.cells.device)
        for i, s in enumerate(selections):
            if s.kind == "dirichlet":
                first = numbering.ranges[s.unknown].start
                owner[s.dofs(numbering.fields[s.unknown]) + first] = i
        self.constrained = torch.nonzero(owner >= 0)[:, 0]
        self.owner = owner[self.constrained]

    @cached_property
    def owned(self) -> tuple[Tensor, ...]:
        """Places in `constrained` of the dofs to which each condition gives a value."""
        return tuple(torch.nonzero(self.owner == i)[:, 0] for i in range(len(self.selections)))

    @cached_property
    def _tied(self) -> tuple[Constraint, int]:
        """The constraint, and how many equations tie unknowns to each other."""
        numbering = self.numbering
        tied = [(i, s, s.to) for i, s in enumerate(self.selections) if s.to is not None]
        if not tied:
            return DirichletConstraint(numbering.pattern, self.constrained), 0
        # Pure Dirichlet works in place; what ties unknowns to each other changes the pattern.
        equations = prescribe(self.constrained)
        for i, s, to in tied:
            first = numbering.ranges[s.unknown].start
            with matching(i):
                pairs = periodic(numbering.fields[s.unknown], s.facets, to)
            equations = equations & pairs.shifted(first)
        ties = equations.count - len(self.constrained)
        return LinearConstraint(numbering.pattern, equations), ties

    @property
    def constraint(self) -> Constraint:
        """``u = T û + g``; made, like the pattern, when it is first asked for."""
        return self._tied[0]

    @cached_property
    def nbytes(self) -> int:
        """Bytes held, for the bound of the cache."""
        pattern, mesh = self.numbering.pattern, self.mesh
        local = sum(d.n_local for d in self.numbering.fields.values())
        indices = pattern.crow.numel() + 2 * pattern.nnz_csr + mesh.n_cells * local
        return 8 * (indices + mesh.points.numel()) + 12 * mesh.n_cells * local**2

    def sides(self, g: Tensor) -> Tensor:
        """Right-hand sides of the constraint from given values ``[*batch, n_constrained]``.

        Raises
        ------
        ArgumentError
            If values differ at nodes that repeat each other.
        """
        constraint, ties = self._tied
        if not isinstance(constraint, LinearConstraint):
            return g
        sides = torch.nn.functional.pad(g, (0, ties))
        gap = constraint.gap(sides)
        if gap:
            raise ArgumentError(contradiction(gap))
        return sides

    @cached_property
    def periodic(self) -> tuple[tuple[Tensor, Tensor], ...]:
        """Mesh points of each periodic condition, and their partners."""
        tied = ((s.facets, s.to) for s in self.selections if s.to is not None)
        return tuple(partners(self.nodal, facets, to) for facets, to in tied)

    @cached_property
    def repeats(self) -> Tensor | None:
        """A number for each node of the first unknown, one for those that repeat each other; None where none do."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        name, dofs = next(iter(self.numbering.fields.items()))
        tied = ((s.facets, s.to) for s in self.selections if s.to is not None and s.unknown == name)
        pairs = [torch.stack(partners(dofs, facets, to)) for facets, to in tied]
        if not pairs:
            return None
        a, b = torch.cat(pairs, 1).cpu().numpy()
        graph = coo_array((np.ones(len(a)), (a, b)), shape=(dofs.n_nodes, dofs.n_nodes))
        _, number = connected_components(graph, directed=False)
        return torch.from_numpy(number).long().to(self.mesh.cells.device)

    @cached_property
    def nodal(self) -> Dofs:
        """Numbering of the mesh points."""
        for dofs in self.numbering.fields.values():
            if dofs.components == 1 and dofs.element == self.mesh.geometry:
                return dofs
        return Dofs(self.mesh, self.mesh.geometry)


@contextmanager
def matching(i: int) -> Iterator[None]:
    """Say of which condition two sides do not match."""
    try:
        yield
    except MeshError as error:
        raise SpecError(str(error).removeprefix("to: "), path=f"boundary.{i}.to") from None


def contradiction(gap: float) -> str:
    """Say that values given on periodic sides differ, and by how much."""
    return (
        f"boundary: values given at nodes that repeat each other differ by {gap:.3g}; give periodic sides the same "
        "values, or one of them alone"
    )


def compiled(
    mesh: Mesh, unknowns: tuple[Unknown, ...], selections: tuple[Selection, ...], numeric: str
) -> Compiled:
    """Return the compiled structure, made once per structural hash and process.

    Parameters
    ----------
    numeric
        dtype and device, part of the hash.
    """
    key = structure_key(mesh, unknowns, selections, numeric)
    tied = [(i, s.facets, s.to) for i, s in enumerate(selections) if s.to is not None]
    if tied:
        # Which nodes repeat which is told by coordinates, of which one topology may have several.
        places, pairs = Dofs(mesh, mesh.geometry), list[Tensor]()
        for i, facets, to in tied:
            with matching(i):
                pairs += partners(places, facets, to)
        key = hashlib.blake2b(
            key.encode() + torch.cat(pairs).cpu().numpy().tobytes(), digest_size=16
        ).hexdigest()

    def make() -> Compiled:
        made = Compiled(key, mesh, unknowns, selections)
        _ = made.constraint  # sides that do not match are found now, not at the first solve
        return made

    return structures.get(("compiled", key), make)


def structure_key(
    mesh: Mesh, unknowns: tuple[Unknown, ...], selections: tuple[Selection, ...], numeric: str
) -> str:
    """Return the structural hash; parameters as for `compiled`."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(f"{mesh.topology_key} {unknowns} {numeric}".encode())
    for s in selections:
        digest.update(f"{s.kind} {s.unknown} {s.component} {len(s.facets)}".encode())
        digest.update(s.facets.cpu().numpy().tobytes())
        for more in (s.to, s.points):
            digest.update(b"-" if more is None else more.cpu().numpy().tobytes())
    return digest.hexdigest()
