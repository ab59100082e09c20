"""What a process sees of a mesh: the cells of its parts, and enough around them to know whose each node is."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.assembly.interpolation import locate
from torch_sla.errors import MeshError, SpecError
from torch_sla.linalg.distributed.everywhere import everywhere
from torch_sla.problems.lowering.conditions import check_coordinates
from torch_sla.problems.lowering.selection import (
    nothing_satisfies,
    satisfying,
)
from torch_sla.problems.specs.boundary import Dirichlet

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch_sla.assembly import Mesh
    from torch_sla.linalg.distributed.communicator import Communicator
    from torch_sla.problems.specs.field_problem import FieldProblem

__all__ = ["Window", "find_rows", "points_named"]


@dataclass(frozen=True, eq=False)
class Window:
    """Some cells of a mesh, on the host.

    Parameters
    ----------
    mesh
        The cells; its facets are some of those of the whole, its tags may be empty.
    cells, points, facets
        Their numbers in the whole.
    nodes
        Numbers in the whole of the nodes of elements, by order.
    part, body
        Part of each cell ``[n_cells]``, and body, joined by cells or conditions, that it is of.
    bodies
        How many bodies the whole consists of.
    counts
        Number of ``cells``, ``nodes`` (points) and ``facets`` of the whole.
    most
        Number of nodes of the whole, by order.
    tied
        Of unknowns with periodic conditions, by name: the number of each node where those that repeat each other have
        the same one, and how many numbers there are.
    """

    mesh: Mesh
    cells: Tensor
    points: Tensor
    facets: Tensor
    nodes: Mapping[int, Tensor]
    part: Tensor
    counts: Mapping[str, int]
    most: Mapping[int, int]
    body: Tensor
    tied: Mapping[str, tuple[Tensor, int]] = field(default_factory=dict)
    bodies: int = 1

    @property
    def complete(self) -> bool:
        """Whether it is the whole mesh."""
        return self.mesh.n_cells == self.counts["cells"]

    def tagged(self, spec: FieldProblem, comm: Communicator, device: torch.device) -> Window:
        """Return the window where everything that a selector means is a tag of that name; all call it together.

        Raises
        ------
        SpecError
            On every process, if a selector selects nothing anywhere.
        """
        mesh, names = self.mesh, dict(_selectors(spec))

        def work() -> tuple[dict[str, Tensor], list[float]]:
            new = {
                name: satisfying(mesh, name, path)
                for name, path in names.items()
                if name not in mesh.facet_tags and name not in mesh.cell_tags
            }
            return new, [float(name not in new or len(new[name])) for name in names]

        found, some = everywhere(comm, device, work, len(names))
        for (name, path), count in zip(names.items(), some, strict=True):
            if not count:
                raise nothing_satisfies(mesh, name, path)
        tags = MappingProxyType({**mesh.facet_tags, **found})
        return replace(self, mesh=replace(mesh, facet_tags=tags))

    def cells_at(
        self, spec: FieldProblem, comm: Communicator, device: torch.device
    ) -> dict[str, Tensor]:
        """Return the cell of the whole that each declared point is in, by path ``[m]``; all call it together.

        Raises
        ------
        SpecError
            On every process, if a point is in no cell.
        """
        found: dict[str, Tensor] = {}
        for path, at in points_named(spec):
            check_coordinates(at, self.mesh.dim, path)
            x = torch.tensor(at, dtype=getattr(torch, spec.solver.dtype))
            try:
                here, _ = locate(self.mesh, x, strict=comm.alone)
            except MeshError as error:
                raise SpecError(str(error), path=path) from None
            none = self.counts["cells"]
            cell = torch.where(here < 0, none, self.cells[here.clamp(min=0)])
            cell = comm.reduce(cell.to(device), "min").cpu()
            outside = torch.nonzero(cell == none)[:, 0].tolist()
            if outside:
                raise SpecError(
                    f"at: point {outside[0]} at {list(at[outside[0]])} is outside the mesh ({len(outside)} of "
                    f"{len(at)} points are)",
                    path=path,
                )
            found[path] = cell
        return found

    def corners_at(
        self, spec: FieldProblem, comm: Communicator, device: torch.device
    ) -> dict[str, Tensor]:
        """Return the mesh points of the window at which values are given, by path; all call it together.

        Raises
        ------
        SpecError
            On every process, if no corner of a cell lies where a value is given.
        """
        held = [
            (f"boundary.{i}.at", condition.at)
            for i, condition in enumerate(spec.boundary)
            if isinstance(condition, Dirichlet) and condition.at is not None
        ]
        if not held:
            return {}
        corners = self.mesh.cells[:, : self.mesh.reference.n_vertices].unique()
        x = self.mesh.points[corners]
        box = comm.reduce(torch.cat([x.amax(0), -x.amin(0)]).to(device), "max").cpu()
        size = float((box[: x.shape[1]] + box[x.shape[1] :]).amax())
        found = {}
        for path, at in held:
            check_coordinates(at, self.mesh.dim, path)
            # Differences: by products far from the origin, a point is not at itself.
            each = "donot_use_mm_for_euclid_dist"
            away, nearest = torch.cdist(torch.tensor(at, dtype=x.dtype), x, compute_mode=each).min(
                1
            )
            least = comm.reduce(away.to(device), "min").tolist()
            for j, distance in enumerate(least):
                if distance > 1e-8 * size:
                    raise SpecError(
                        f"no corner of a cell lies at {at[j]}; the nearest one is {distance:.3g} away",
                        path=f"{path}.{j}",
                    )
            found[path] = corners[nearest[away <= 1e-8 * size]]
        return found

    def local(self, cells: Tensor) -> Tensor:
        """Return which cells of the window some cells of the whole are, -1 for those that are not in it."""
        at = torch.searchsorted(self.cells, cells).clamp(max=len(self.cells) - 1)
        return torch.where(self.cells[at] == cells, at, -1)


def _selectors(spec: FieldProblem) -> Iterator[tuple[str, str]]:
    """Yield every name that selects a place, and where it stands."""
    for kind in ("boundary", "outputs"):
        for i, thing in enumerate(getattr(spec, kind)):
            for side in ("on", "to"):
                names = getattr(thing, side, None)
                if names is not None and not isinstance(names, str):
                    for name in names:
                        yield name, f"{kind}.{i}.{side}"
    for integral in getattr(spec, "integrals", ()):  # of a weak form
        if integral.over == "ds" and integral.on is not None:
            yield integral.on, "residual"


def points_named(spec: FieldProblem) -> Iterator[tuple[str, tuple[tuple[float, ...], ...]]]:
    """Yield where points stand in a declaration, and the points; those that are held are nodes, and not among them."""
    for kind in ("boundary", "outputs"):
        for i, thing in enumerate(getattr(spec, kind)):
            if getattr(thing, "at", None) is not None and thing.type != "dirichlet":
                yield f"{kind}.{i}.at", getattr(thing, "points", thing.at)


def find_rows(wanted: Tensor, table: Tensor) -> Tensor:
    """Return where each row is in a table of rows that are all different, -1 where it is not."""
    if not len(wanted) or not len(table):
        return torch.full((len(wanted),), -1, dtype=torch.int64)
    _, number = torch.unique(torch.cat([table, wanted]), dim=0, return_inverse=True)
    where = torch.full((int(number.max()) + 1,), -1, dtype=torch.int64)
    where[number[: len(table)]] = torch.arange(len(table))
    return where[number[len(table) :]]
