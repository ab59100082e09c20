"""Cutting a problem: which process has which cells and unknowns, and its share as a problem of its own.

A share is lowered twice, by the code that lowers whole problems. For *rows* on the cells of the part and those
around its unknowns: every row of an unknown that the part owns is complete there, without any exchange of
matrix entries. For *sums* on the cells of the part alone: an integral over the whole is the sum of theirs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from torch_sla.assembly.mesh import partition_cells, submesh
from torch_sla.errors import ArgumentError, SpecError
from torch_sla.linalg.distributed.halo import Halo
from torch_sla.linalg.distributed.layout import Layout
from torch_sla.problems import registry
from torch_sla.problems.lowering.conditions import positions
from torch_sla.problems.lowering.mesh import build_mesh
from torch_sla.problems.lowering.part import PartOfMesh

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch_sla.assembly import Mesh
    from torch_sla.linalg.distributed.communicator import Communicator
    from torch_sla.problems.lowering.model import Model
    from torch_sla.problems.specs.problem import FieldProblem

__all__ = ["Division", "Share"]


@dataclass(frozen=True, eq=False)
class Share:
    """What one part of the mesh is to the problem.

    Parameters
    ----------
    part
        Its number.
    rows, sums
        The problem on its cells and those around its unknowns, and on its cells alone.
    owned
        Unknowns of `rows` that belong to it, in the order of their numbers in the whole.
    ghosts
        Those that do not, in the order of the halo.
    into_sums
        Which unknown of `rows` each of `sums` is.
    free
        Which of `owned` no Dirichlet condition gives.
    given
        Where the others are among the constrained unknowns of `rows`.
    held
        Where entries of this part are in a vector of the process.
    points_of
        Part that each mesh point of `rows` belongs to.
    """

    part: int
    rows: Model
    sums: Model
    owned: Tensor
    ghosts: Tensor
    into_sums: Tensor
    free: Tensor
    given: Tensor
    held: slice
    points_of: Tensor

    @cached_property
    def own_rows(self) -> Tensor:
        """Slots of the pattern of `rows` in rows that belong to the part."""
        pattern = self.rows.numbering.pattern
        mine = torch.zeros(pattern.shape[0], dtype=torch.bool, device=pattern.ccol.device)
        mine[self.owned] = True
        return torch.nonzero(mine[pattern.csr_row.long()])[:, 0]

    @cached_property
    def order(self) -> Tensor:
        """Where each unknown of `rows` is among `owned` and `ghosts` one after the other."""
        return torch.cat([self.owned, self.ghosts]).argsort()

    @cached_property
    def own_points(self) -> tuple[Tensor, Tensor]:
        """Mesh points of `rows` that belong to the part, and their numbers in the whole."""
        part = self.rows.part
        if part is None:
            raise ArgumentError("a share is a part of a problem")
        chosen = torch.nonzero(self.points_of == self.part)[:, 0]
        return chosen, part.numbers["nodes"][chosen]

    @cached_property
    def own_cells(self) -> Tensor:
        """Numbers in the whole of the cells of the part."""
        part = self.sums.part
        if part is None:
            raise ArgumentError("a share is a part of a problem")
        return part.numbers["cells"]

    @cached_property
    def own_nodes(self) -> Tensor:
        """Mask of the nodes of the first field that belong to the part ``[n_nodes]``."""
        numbering = self.rows.numbering
        name, dofs = next(iter(numbering.fields.items()))
        mine = torch.zeros(numbering.n, dtype=torch.bool, device=self.owned.device)
        mine[self.owned] = True
        return numbering.part(mine, name)[:: dofs.components]


class Division:
    """A problem in parts.

    Parameters
    ----------
    spec
        The problem; every process has the same.
    comm
        Who holds which part.
    device
        Where this process computes.
    steady
        Whether the body must be held, and laws must not use the time.

    Attributes
    ----------
    whole
        The problem before it was cut: mesh, numbering and places, without a pattern.
    layout
        The unknowns, part by part.
    shares
        Of the parts this process holds, those that have cells.
    halo, ghost_sizes
        Fetches the ghosts of `shares`, one share after the other; how many each has.
    """

    def __init__(
        self,
        spec: FieldProblem,
        comm: Communicator,
        device: torch.device,
        *,
        steady: bool = True,
    ) -> None:
        wanted = spec.solver.device
        if wanted not in ("auto", device.type):
            raise SpecError(
                f"this process computes on {device.type!r}; received {wanted!r}: take 'auto', and say where with "
                "distribute(device=) or --device",
                path="solver.device",
            )
        self.spec, self.comm, self.device = spec, comm, device
        mesh = build_mesh(spec.mesh)
        self.whole = self._lowered(PartOfMesh(mesh, torch.device("cpu"), {}, {}))
        _ = self.whole.check() if steady else self.whole.check_places()
        # The first process decides: a graph partitioner may answer differently on another machine.
        owner = torch.empty(mesh.n_cells, dtype=torch.int64)
        if comm.rank == 0:
            owner = partition_cells(mesh, min(comm.parts, mesh.n_cells))
        self.cell_part = comm.broadcast(owner.to(device)).cpu()
        self._tables = self._node_tables()
        self.dof_part = torch.cat(
            [part.repeat_interleave(components) for _, part, components in self._tables]
        )
        self.layout, self.place = Layout.of_parts(comm, self.dof_part.to(device))
        self._constrained = torch.zeros(self.whole.numbering.n, dtype=torch.bool)
        self._constrained[self.whole.compiled.constrained] = True
        found = [self._share(part) for part in comm.held]
        self.shares = [share for share, _ in found if share is not None]
        places = [ghosts for _, ghosts in found if ghosts is not None]
        parts = [torch.full_like(g, s.part) for g, s in zip(places, self.shares, strict=True)]
        empty = torch.zeros(0, dtype=torch.int64, device=device)
        self.halo = Halo(self.layout, torch.cat([empty, *places]), torch.cat([empty, *parts]))
        self.ghost_sizes = [len(g) for g in places]

    def describe(self) -> str:
        """Return how the problem was cut, for people; all processes call it together."""
        own = sum(s.held.stop - s.held.start for s in self.shares)
        mine = torch.tensor([own, -own, sum(self.ghost_sizes)], device=self.device)
        most, least, ghosts = self.comm.reduce(mine, "max").tolist()
        mesh = self.whole.mesh
        return (
            f"{self.spec.type}: {self.layout.n} unknowns on {mesh.n_cells} {mesh.cell} cells\n"
            f"  parts       {self.comm.parts} on {self.comm.world} processes, {-least} to {most} unknowns each, "
            f"at most {ghosts} of others beside them"
        )

    # -- vectors --------------------------------------------------------------------------------

    def spread(self, x: Tensor) -> list[Tensor]:
        """Return the unknowns of each share, ghosts fetched: ``[n_held]`` to ``[n_rows]`` each."""
        ghosts = self.halo.fetch(x).split(self.ghost_sizes)
        found = []
        for share, halo in zip(self.shares, ghosts, strict=True):
            u = x.new_empty(share.rows.numbering.n)
            u[share.owned] = x[share.held]
            u[share.ghosts] = halo
            found.append(u)
        return found

    def collect(self, parts: list[Tensor]) -> Tensor:
        """Add what the shares say about unknowns where those belong, the adjoint of `spread`."""
        pieces = [p[s.ghosts] for p, s in zip(parts, self.shares, strict=True)]
        empty = torch.zeros(0, dtype=self.whole.field_dtype, device=self.device)
        total = self.halo.give_back(torch.cat([empty, *pieces]))
        for p, s in zip(parts, self.shares, strict=True):
            total[s.held] += p[s.owned]
        return total

    def ghost_slice(self, share: Share) -> tuple[int, int]:
        """Where the ghosts of a share are in the halo."""
        before = self.shares.index(share)
        start = sum(self.ghost_sizes[:before])
        return start, start + self.ghost_sizes[before]

    @cached_property
    def free(self) -> Tensor:
        """Mask of the unknowns here without a given value ``[n_held]``."""
        mask = torch.zeros(self.layout.n_held, dtype=torch.bool, device=self.device)
        for s in self.shares:
            mask[s.held] = s.free
        return mask

    # -- cutting --------------------------------------------------------------------------------

    def _lowered(self, part: PartOfMesh) -> Model:
        made: Model = registry.verbs(self.spec.type)(self.spec, part)
        return made

    def _node_tables(self) -> list[tuple[Tensor, Tensor, int]]:
        """Of each field, nodes of the cells, part of each node, and components.

        A node belongs to the lowest part among its cells.
        """
        owner, tables = self.cell_part.numpy(), []
        for dofs in self.whole.numbering.fields.values():
            part = np.full(dofs.n_nodes, self.comm.parts, dtype=np.int64)
            np.minimum.at(part, dofs.cell_nodes.numpy(), owner[:, None])
            tables.append((dofs.cell_nodes, torch.from_numpy(part), dofs.components))
        return tables

    @cached_property
    def point_part(self) -> Tensor:
        """Part of each mesh point: the lowest among its cells."""
        mesh = self.whole.mesh
        part = np.full(mesh.n_points, self.comm.parts, dtype=np.int64)
        np.minimum.at(part, mesh.cells.numpy(), self.cell_part.numpy()[:, None])
        return torch.from_numpy(part)

    @cached_property
    def everyone_has_cells(self) -> bool:
        """Whether no process is without."""
        ranks = self.comm.rank_of(self.cell_part.unique())
        return len(ranks.unique()) == self.comm.world

    def _share(self, part: int) -> tuple[Share | None, Tensor | None]:
        """Cut out one part; also the places of its ghosts. Nothing for a part without cells."""
        mine = self.cell_part == part
        if not bool(mine.any()):
            return None, None
        around = mine.clone()
        for nodes, node_part, _ in self._tables:
            around |= (node_part[nodes] == part).any(1)
        rows, names = self._cut(around, mine)
        sums, sum_names = self._cut(mine, mine)
        local = torch.full((self.whole.numbering.n,), -1, dtype=torch.int64)
        local[names] = torch.arange(len(names))
        belongs = self.dof_part[names] == part
        owned = torch.nonzero(belongs)[:, 0]
        owned = owned[names[owned].argsort()]
        place = self.place.cpu()
        ghosts = torch.nonzero(~belongs)[:, 0]
        ghosts = ghosts[place[names[ghosts]].argsort()]
        constrained = rows.compiled.constrained.cpu()
        number = torch.full((len(names),), -1, dtype=torch.int64)
        number[constrained] = torch.arange(len(constrained))
        free = ~self._constrained[names[owned]]
        given = number[owned[~free]]
        if bool((given < 0).any()):
            raise ArgumentError("a Dirichlet condition of an unknown is not seen by its own part")
        move = self.device
        share = Share(
            part=part,
            rows=rows,
            sums=sums,
            owned=owned.to(move),
            ghosts=ghosts.to(move),
            into_sums=local[sum_names].to(move),
            free=free.to(move),
            given=given.to(move),
            held=self.layout.part_slice(part),
            points_of=self.point_part[rows.part.numbers["nodes"].cpu()].to(move)
            if rows.part is not None
            else owned.to(move),
        )
        return share, place[names[ghosts]].to(move)

    def _cut(self, cells: Tensor, mine: Tensor) -> tuple[Model, Tensor]:
        """Lower the problem on some cells; also the number in the whole of each of its unknowns.

        Parameters
        ----------
        cells, mine
            Masks of the cells to take, and of those of the part ``[n_cells]``.
        """
        whole = self.whole
        piece = submesh(self._tagged, cells)
        alone = bool((cells == mine).all())
        tags = {
            name: self._local_facets(piece.mesh, piece.points, facets, mine if alone else None)
            for name, facets in self._tagged.facet_tags.items()
        }
        in_cells = {
            name: torch.nonzero(torch.isin(piece.cells, chosen))[:, 0]
            for name, chosen in whole.mesh.cell_tags.items()
        }
        mesh = replace(
            piece.mesh, facet_tags=MappingProxyType(tags), cell_tags=MappingProxyType(in_cells)
        )
        numbers = {"cells": piece.cells, "nodes": piece.points}
        if any(p.on == "facets" for p in self.spec.declared.values()):
            numbers["facets"] = self._facet_numbers(mesh, piece.points)
        part = PartOfMesh(
            mesh.to(self.device),
            self.device,
            {k: whole.counts[k] for k in ("cells", "facets", "nodes")},
            {k: v.to(self.device) for k, v in numbers.items()},
            self._near(cells, mine),
        )
        model = self._lowered(part)
        return model, self._names(model, piece.cells)

    @cached_property
    def _tagged(self) -> Mesh:
        """The whole mesh, where everything that a selector means is a tag of that name."""
        mesh = self.whole.mesh
        tags = dict(mesh.facet_tags)
        for things in (self.spec.boundary, self.spec.outputs):
            for thing in things:
                for name in getattr(thing, "on", None) or ():
                    known = name in mesh.facet_tags or name in mesh.cell_tags
                    if not known and not isinstance(getattr(thing, "on", None), str):
                        tags[name] = self.whole.select_facets((name,), "on")
        return replace(mesh, facet_tags=MappingProxyType(tags))

    def _facet_numbers(self, mesh: Mesh, points: Tensor) -> Tensor:
        """Return the number in the whole of each facet of a piece, -1 for those of a cut."""
        return _find_rows(points[mesh.facets].sort(1).values, self.whole.mesh.facets.sort(1).values)

    def _local_facets(
        self, mesh: Mesh, points: Tensor, facets: Tensor, mine: Tensor | None
    ) -> Tensor:
        """Return which facets of a piece some facets of the whole are, ascending.

        Parameters
        ----------
        mine
            Where it is given, a facet counts only in the part of the cell it is listed with.
        """
        whole = self.whole.mesh
        if mine is not None:
            facets = facets[mine[whole.facet_cells[facets]]]
        local = torch.full((whole.n_points,), -1, dtype=torch.int64)
        local[points] = torch.arange(len(points))
        wanted = local[whole.facets[facets]]
        wanted = wanted[(wanted >= 0).all(1)].sort(1).values
        found = _find_rows(wanted, mesh.facets.sort(1).values)
        present: Tensor = found[found >= 0].unique()
        return present

    def _names(self, model: Model, cells: Tensor) -> Tensor:
        """Return the number in the whole of each unknown of a lowered piece."""
        parts = []
        fields = zip(model.numbering.fields.items(), self._tables, strict=True)
        for (name, dofs), (nodes, _, components) in fields:
            number = torch.empty(dofs.n_nodes, dtype=torch.int64)
            number[dofs.cell_nodes.cpu()] = nodes[cells]
            first = self.whole.numbering.ranges[name].start
            component = torch.arange(components)
            parts.append((number[:, None] * components + component).flatten() + first)
        return torch.cat(parts)

    def _near(self, cells: Tensor, mine: Tensor) -> Mapping[str, Tensor]:
        """Of the points in the declaration, those that a piece has to do with, by path.

        Loads and springs act on every row of the piece around them; what is measured is measured once.
        """
        near: dict[str, Tensor] = {}
        for kind, taken in (("boundary", cells), ("outputs", mine)):
            things: Any = getattr(self.spec, kind)
            for i, thing in enumerate(things):
                if getattr(thing, "at", None) is not None:
                    path = f"{kind}.{i}.at"
                    at = getattr(thing, "points", thing.at)
                    found = self._cells_of(path, at)
                    near[path] = torch.nonzero(taken[found])[:, 0]
        return near

    def _cells_of(self, path: str, at: tuple[tuple[float, ...], ...]) -> Tensor:
        whole = self.whole
        return whole.geometry.located(positions(whole, at, path), whole.dofs).cells


def _find_rows(wanted: Tensor, table: Tensor) -> Tensor:
    """Return where each row is in a table of rows that are all different, -1 where it is not."""
    if not len(wanted) or not len(table):
        return torch.full((len(wanted),), -1, dtype=torch.int64)
    _, number = torch.unique(torch.cat([table, wanted]), dim=0, return_inverse=True)
    where = torch.full((int(number.max()) + 1,), -1, dtype=torch.int64)
    where[number[: len(table)]] = torch.arange(len(table))
    return where[number[len(table) :]]
