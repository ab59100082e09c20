"""Pieces of the part of a mesh that a process sees, as meshes of their own that a problem can be lowered on."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.assembly.mesh import submesh
from torch_sla.problems.distributed.window import find_rows
from torch_sla.problems.lowering.part import PartOfMesh

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch_sla.assembly import Mesh
    from torch_sla.linalg.distributed.communicator import Communicator
    from torch_sla.problems.distributed.window import Window
    from torch_sla.problems.specs.field_problem import FieldProblem

__all__ = ["Pieces"]


class Pieces:
    """What can be cut out of a window; all processes make it together.

    Parameters
    ----------
    spec
        The problem.
    window
        The part of the mesh that this process sees.
    comm
        Who holds which part.
    device
        Where pieces lie.
    """

    def __init__(
        self, spec: FieldProblem, window: Window, comm: Communicator, device: torch.device
    ) -> None:
        self._window, self._device = window, device
        self._with_facets = any(p.on == "facets" for p in spec.declared.values())
        self._places = window.cells_at(spec, comm, device)
        self._corners = window.corners_at(spec, comm, device)

    def whole(self) -> PartOfMesh:
        """Return all that is seen, on the host."""
        window, host = self._window, torch.device("cpu")
        near = {
            path: torch.nonzero(window.local(cells) >= 0)[:, 0]
            for path, cells in self._places.items()
        }
        numbers = {"cells": window.cells, "nodes": window.points, "facets": window.facets}
        return PartOfMesh(window.mesh, host, window.counts, numbers, near, self._corners)

    def of(self, cells: Tensor, mine: Tensor) -> tuple[PartOfMesh, Tensor, Tensor]:
        """Cut out some cells; also which cells and points of the window they are.

        Parameters
        ----------
        cells, mine
            Masks of the cells to take, and of those of the part ``[n_cells]``.
        """
        window = self._window
        piece = submesh(window.mesh, cells)
        alone = bool((cells == mine).all())
        tags = {
            name: self._local_facets(piece.mesh, piece.points, facets, mine if alone else None)
            for name, facets in window.mesh.facet_tags.items()
        }
        in_cells = {
            name: torch.nonzero(torch.isin(piece.cells, chosen))[:, 0]
            for name, chosen in window.mesh.cell_tags.items()
        }
        mesh = replace(
            piece.mesh, facet_tags=MappingProxyType(tags), cell_tags=MappingProxyType(in_cells)
        )
        outer = piece.mesh, piece.points, window.mesh.boundary
        numbers = {"cells": window.cells[piece.cells], "nodes": window.points[piece.points]}
        if self._with_facets:
            numbers["facets"] = self._facet_numbers(mesh, piece.points)
        part = PartOfMesh(
            mesh.to(self._device),
            self._device,
            window.counts,
            {k: v.to(self._device) for k, v in numbers.items()},
            self._near(cells, mine),
            {path: _inside(p, piece.points).to(self._device) for path, p in self._corners.items()},
            self._local_facets(*outer, mine if alone else None).to(self._device),
        )
        return part, piece.cells, piece.points

    def _facet_numbers(self, mesh: Mesh, points: Tensor) -> Tensor:
        """Return the number in the whole of each facet of a piece, -1 for those of a cut."""
        known = self._window.mesh.facets.sort(1).values
        found = find_rows(points[mesh.facets].sort(1).values, known)
        return torch.where(found < 0, -1, self._window.facets[found.clamp(min=0)])

    def _local_facets(
        self, mesh: Mesh, points: Tensor, facets: Tensor, mine: Tensor | None
    ) -> Tensor:
        """Return which facets of a piece some facets of the whole are, ascending.

        Parameters
        ----------
        mine
            Where it is given, a facet counts only in the part of the cell it is listed with.
        """
        whole = self._window.mesh
        if mine is not None:
            facets = facets[mine[whole.facet_cells[facets]]]
        local = torch.full((whole.n_points,), -1, dtype=torch.int64)
        local[points] = torch.arange(len(points))
        wanted = local[whole.facets[facets]]
        wanted = wanted[(wanted >= 0).all(1)].sort(1).values
        found = find_rows(wanted, mesh.facets.sort(1).values)
        return found[found >= 0].unique()

    def _near(self, cells: Tensor, mine: Tensor) -> Mapping[str, Tensor]:
        """Of the points in the declaration, those that a piece has to do with, by path.

        Loads and springs act on every row of the piece around them; what is measured is measured once.
        """
        near: dict[str, Tensor] = {}
        for path, whole in self._places.items():
            taken, cell = mine if path.startswith("outputs") else cells, self._window.local(whole)
            near[path] = torch.nonzero((cell >= 0) & taken[cell.clamp(min=0)])[:, 0]
        return near


def _inside(wanted: Tensor, points: Tensor) -> Tensor:
    """Return where some numbers are among others, ascending, of those that are."""
    at = torch.searchsorted(points, wanted).clamp(max=len(points) - 1)
    return at[points[at] == wanted]
