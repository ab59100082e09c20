"""Compiled: the work that values do not change, shared by all problems of one structure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from torch_sla.assembly import Dofs, Mesh, lagrange
from torch_sla.assembly.constraints import DirichletConstraint
from torch_sla.problems.lowering.cache import structures

__all__ = ["Compiled", "Selection", "compiled"]


@dataclass(frozen=True, eq=False)
class Selection:
    """The facets of one boundary condition, already evaluated.

    Parameters
    ----------
    kind
        ``"dirichlet" "neumann" "robin"``.
    facets
        Indices into ``mesh.facets``.
    component
        Component of a vector field, None for all.
    """

    kind: str
    facets: Tensor
    component: int | None = None


class Compiled:
    """Numbering, pattern, scatter maps and constraint of one structure.

    Its mesh carries the coordinates of the first problem that asked; only its topology is used here.

    Attributes
    ----------
    key
        The structural hash.
    dofs
        Numbering of the unknowns.
    constrained
        Dofs with a given value, ascending.
    owner
        Which condition gives each of them its value.
    nbytes
        Bytes held, for the bound of the cache.
    """

    def __init__(
        self, key: str, mesh: Mesh, order: int, components: int, selections: tuple[Selection, ...]
    ) -> None:
        self.key, self.mesh, self.selections = key, mesh, selections
        element = lagrange(mesh.reference.name, order)
        self.dofs = Dofs(mesh, element, components)
        owner = torch.full((self.dofs.n,), -1, dtype=torch.int64, device=mesh.cells.device)
        for i, selection in enumerate(selections):
            if selection.kind == "dirichlet":
                owner[self.dofs.facet_dofs(selection.facets, selection.component)] = i
        self.constrained = torch.nonzero(owner >= 0)[:, 0]
        self.owner = owner[self.constrained]
        self.constraint = DirichletConstraint(self.dofs.pattern, self.constrained)
        pattern, local = self.dofs.pattern, mesh.n_cells * self.dofs.n_local**2
        indices = pattern.crow.numel() + 2 * pattern.nnz_csr + self.dofs.cell_dofs.numel()
        self.nbytes = 8 * (indices + mesh.points.numel()) + 12 * local

    @cached_property
    def nodal(self) -> Dofs:
        """Numbering of the mesh points."""
        if self.dofs.components == 1 and self.dofs.element == self.mesh.geometry:
            return self.dofs
        return Dofs(self.mesh, self.mesh.geometry)


def compiled(
    mesh: Mesh, order: int, components: int, selections: tuple[Selection, ...], numeric: str
) -> Compiled:
    """Return the compiled structure, made once per structural hash and process.

    Parameters
    ----------
    numeric
        dtype and device, part of the hash.
    """
    digest = hashlib.blake2b(digest_size=16)
    digest.update(f"{mesh.topology_key} {order} {components} {numeric}".encode())
    for selection in selections:
        digest.update(f"{selection.kind} {selection.component} {len(selection.facets)}".encode())
        digest.update(selection.facets.cpu().numpy().tobytes())
    key = digest.hexdigest()
    return structures.get(
        ("compiled", key), lambda: Compiled(key, mesh, order, components, selections)
    )
