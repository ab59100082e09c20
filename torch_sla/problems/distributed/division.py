"""Cutting a problem: which process has which cells and unknowns, and its share as a problem of its own.

A share is lowered twice, by the code that lowers whole problems. For *rows* on the cells of the part and those
around its unknowns: every row of an unknown that the part owns is complete there, without any exchange of
matrix entries. For *sums* on the cells of the part alone: an integral over the whole is the sum of theirs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, SpecError
from torch_sla.lazy import cached_property
from torch_sla.linalg.adjoint.exchange import exchange
from torch_sla.linalg.distributed.everywhere import agreed
from torch_sla.linalg.distributed.halo import Halo
from torch_sla.linalg.distributed.pieces import layout_of_owned
from torch_sla.problems import registry
from torch_sla.problems.distributed.bodies import motions_left
from torch_sla.problems.distributed.pieces import Pieces
from torch_sla.problems.distributed.share import Share
from torch_sla.problems.distributed.sight import seen
from torch_sla.problems.lowering.part import ends_of
from torch_sla.problems.lowering.reactions import is_held
from torch_sla.problems.specs.outputs import Reaction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch_sla.linalg.distributed.communicator import Communicator
    from torch_sla.problems.lowering.model import Model
    from torch_sla.problems.lowering.part import PartOfMesh
    from torch_sla.problems.specs.field_problem import FieldProblem

__all__ = ["Division"]


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
    window
        The part of the mesh that this process sees.
    model
        The problem on it: numbering and places, without a pattern.
    counts
        Number of sites of each kind in the whole.
    layout
        The unknowns, part by part.
    shares
        Of the parts this process holds, those that have cells.
    halo, ghost_sizes
        Fetches the ghosts of `shares`, one share after the other; how many each has.
    filled
        The parts that have cells.
    prescribes, determined, loose_motions
        Whether conditions give some unknowns anywhere, whether they fix the solution, and how many motions they do not.
    surrounded, levelled
        As of `Model`, of the whole.
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
        self.window = seen(spec, comm, device).tagged(spec, comm, device)
        self._pieces = Pieces(spec, self.window, comm, device)
        self.model = agreed(comm, device, lambda: self._lowered(self._pieces.whole()))
        self._acting()
        self.counts = self.model.whole_counts
        self.prescribes = self._prescribes()
        self.loose_motions = motions_left(self.model, self.window, comm, device)
        self.determined = self.loose_motions == 0
        open_ = [float(not self.model.surrounded), float(self.model.levelled)]
        somewhere = comm.reduce(torch.tensor(open_, device=device), "max").tolist()
        self.surrounded, self.levelled = not somewhere[0], bool(somewhere[1])
        if self.levelled:
            self.model.refuse_levels(self.surrounded, self.window.bodies)
        if steady and not self.determined:
            raise SpecError(self.model.undetermined, path="boundary")
        ends = comm.reduce(ends_of(self.window.mesh).to(device), "max").cpu()
        agreed(comm, device, lambda: self._checked(ends, steady=steady))
        self._tables = self._node_tables()
        names, starts = [], 0
        for (number, count), (_, _, components) in zip(self._numbers(), self._tables, strict=True):
            dofs = number[:, None] * components + torch.arange(components)
            names.append(dofs.flatten() + starts)
            starts += count * components
        self.names = torch.cat(names)
        """Number in the whole of each unknown of the window; those that repeat each other have the same one."""
        self.dof_part = torch.cat(
            [part.repeat_interleave(components) for _, part, components in self._tables]
        )
        groups = [self.names[self.dof_part == part].unique().to(device) for part in comm.held]
        self.layout, directory = layout_of_owned(comm, groups, starts)
        self._constrained = torch.zeros(self.model.numbering.n, dtype=torch.bool)
        self._constrained[self.model.compiled.constrained] = True
        found = agreed(
            comm,
            device,
            lambda: [c for c in (self._share(part) for part in comm.held) if c is not None],
        )
        wanted_names = [foreign for _, foreign in found]
        empty = torch.zeros(0, dtype=torch.int64, device=device)
        flat = directory.places(torch.cat([empty, *(n.to(device) for n in wanted_names)])).long()
        places = flat.split([len(n) for n in wanted_names]) if found else ()
        self.shares, sorted_places = [], []
        for (share, _), place in zip(found, places, strict=True):
            sorted_places.append(place.sort().values)
            own = share.held.stop - share.held.start
            moved = torch.cat([torch.arange(own, device=device), own + place.argsort().argsort()])
            self.shares.append(replace(share, order=moved[share.order]))
        parts = [
            torch.full_like(g, s.part) for g, s in zip(sorted_places, self.shares, strict=True)
        ]
        self.halo = Halo(
            self.layout, torch.cat([empty, *sorted_places]), torch.cat([empty, *parts])
        )
        self.ghost_sizes = [len(g) for g in sorted_places]
        full = torch.zeros(comm.parts, dtype=torch.int64, device=device)
        full[[s.part for s in self.shares]] = 1
        self.filled = torch.nonzero(comm.reduce(full))[:, 0].tolist()

    def _checked(self, ends: Tensor, *, steady: bool) -> None:
        """Check what needs no value, of what is seen here, and the ends of the whole."""
        if steady and self.model.timed:
            self.model.refuse_time()
        self.model.check_extent(ends)
        self.model.check_places()

    def _acting(self) -> None:
        """Learn which laws act in the cells that others see."""
        model = self.model
        every = dict(model.entries_of_laws())
        mine = set(model.acting_entries())
        here = torch.tensor([key in mine for key in every], device=self.device).double()
        anywhere = self.comm.reduce(here, "max").tolist() if every else []
        model.acting = frozenset(k for k, acts in zip(every, anywhere, strict=True) if acts)

    def _prescribes(self) -> bool:
        """Return whether some unknowns are given, anywhere."""
        some = torch.tensor([float(len(self.model.compiled.constrained))], device=self.device)
        given = float(self.comm.reduce(some, "max")) > 0
        return given or any(s.to is not None for s in self.model.selections)

    def describe(self) -> str:
        """Return how the problem was cut, for people; all processes call it together."""
        own = sum(s.held.stop - s.held.start for s in self.shares)
        mine = torch.tensor([own, -own, sum(self.ghost_sizes)], device=self.device)
        most, least, ghosts = self.comm.reduce(mine, "max").tolist()
        return (
            f"{self.spec.type}: {self.layout.n} unknowns on {self.counts['cells']} {self.model.mesh.cell} cells\n"
            f"  parts       {self.comm.parts} on {self.comm.world} processes, {-least} to {most} unknowns each, "
            f"at most {ghosts} of others beside them"
        )

    # -- vectors --------------------------------------------------------------------------------

    def spread(self, x: Tensor) -> list[Tensor]:
        """Return the unknowns of each share, ghosts fetched: ``[n_held]`` to ``[n_rows]`` each; recorded."""
        ghosts = exchange(x, self.halo).split(self.ghost_sizes)
        return [
            torch.cat([x[share.held], ghost]).index_select(0, share.order)
            for share, ghost in zip(self.shares, ghosts, strict=True)
        ]

    def collect(self, parts: list[Tensor]) -> Tensor:
        """Add what the shares say about unknowns where those belong, the adjoint of `spread`."""
        empty = torch.zeros(0, dtype=self.model.field_dtype, device=self.device)
        both = []
        for p, s, ghosts in zip(parts, self.shares, self.ghost_sizes, strict=True):
            own = s.held.stop - s.held.start
            both.append(p.new_zeros(own + ghosts).index_add(0, s.order, p).split([own, ghosts]))
        total = self.halo.give_back(torch.cat([empty, *(ghost for _, ghost in both)]))
        for s, (own_part, _) in zip(self.shares, both, strict=True):
            total[s.held] += own_part
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

    @cached_property
    def free_sides(self) -> tuple[int, ...]:
        """Of the outputs, which are reactions on facets that nothing holds anywhere; all call it together."""
        asked = [(i, o) for i, o in enumerate(self.spec.outputs) if isinstance(o, Reaction)]
        model = self.model
        here = [is_held(model, model.select_facets(o.on, f"outputs.{i}.on")) for i, o in asked]
        bears = torch.tensor(here, device=self.device).double()
        anywhere = self.comm.reduce(bears, "max").tolist() if asked else []
        return tuple(i for (i, _), some in zip(asked, anywhere, strict=True) if not some)

    # -- cutting --------------------------------------------------------------------------------

    def _lowered(self, part: PartOfMesh) -> Model:
        return registry.verbs(self.spec.type)(self.spec, part)

    def _node_tables(self) -> list[tuple[Tensor, Tensor, int]]:
        """Of each field, nodes of the cells, part of each node, and components; in the window.

        A node belongs to the lowest part among its cells.
        """
        owner, tables = self.window.part.numpy(), []
        for dofs in self.model.numbering.fields.values():
            part = np.full(dofs.n_nodes, self.comm.parts, dtype=np.int64)
            np.minimum.at(part, dofs.cell_nodes.numpy(), owner[:, None])
            tables.append((dofs.cell_nodes, torch.from_numpy(part), dofs.components))
        for i, unknown in enumerate(self.model.unknowns):
            if unknown.name in self.window.tied:
                nodes, part_of, components = tables[i]
                _, same = self.window.tied[unknown.name][0].unique(return_inverse=True)
                least = torch.full((len(same),), self.comm.parts)
                least = least.scatter_reduce(0, same, part_of, "amin")
                tables[i] = (nodes, least[same], components)
        return tables

    def _numbers(self) -> Iterator[tuple[Tensor, int]]:
        """Yield of each field the number of each node of the window, and how many there are in the whole."""
        for unknown in self.model.unknowns:
            alone = (self.window.nodes[unknown.order], self.window.most[unknown.order])
            yield self.window.tied.get(unknown.name, alone)

    def repeats(self, share: Share) -> Tensor | None:
        """Return a number for each node of the first field of a share, one for those that repeat each other."""
        name = next(iter(self.model.ranks))
        if name not in self.window.tied:
            return None
        number = self.window.tied[name][0][share.nodes[name]]
        return number.unique(return_inverse=True)[1].to(self.device)

    @cached_property
    def shown(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Of each field the nodes of this process: numbers in the whole, and where they are in a vector ``[m, c]``.

        Of nodes that repeat each other, all are shown.
        """
        empty = torch.zeros(0, dtype=torch.int64, device=self.device)
        found = {}
        for unknown, (name, dofs) in zip(
            self.model.unknowns, self.model.numbering.fields.items(), strict=True
        ):
            c = dofs.components
            numbers, places = [empty], [empty.reshape(0, c)]
            for s in self.shares:
                here = s.rows.numbering.ranges[name]
                own = s.owned[(s.owned >= here.start) & (s.owned < here.stop)][::c]
                nodes = s.nodes[name][((own - here.start) // c).cpu()]
                number = self.window.nodes[unknown.order][nodes].to(self.device)
                rank = number.argsort()
                numbers.append(number[rank])
                each = own[rank, None] + torch.arange(c, device=self.device)
                places.append(s.order[each] + s.held.start)
            found[name] = (torch.cat(numbers), torch.cat(places))
        return found

    def shaped(self, u: Tensor, name: str) -> Tensor:
        """Return a field at the nodes of this process ``[*, m(, c)]``, from unknowns ``[*, n_held]``."""
        places = self.shown[name][1]
        by_node = u.index_select(-1, places.flatten())
        return by_node if places.shape[1] == 1 else by_node.unflatten(-1, tuple(places.shape))

    @property
    def n_nodes(self) -> dict[str, int]:
        """Number of nodes of each field in the whole."""
        return {u.name: self.window.most[u.order] for u in self.model.unknowns}

    @cached_property
    def spread_of_points(self) -> float:
        """Root mean square of the distances of mesh points to their mean; all call it together."""
        mesh = self.window.mesh
        own = [mesh.points[s.points[s.own_points[0].cpu()]] for s in self.shares]
        x = torch.cat([mesh.points[:0], *own])
        sums = torch.cat([x.sum(0), x.new_tensor([float(len(x))])]).to(self.device)
        *mean, count = self.comm.reduce(sums).tolist()
        away = (x - x.new_tensor(mean) / count).square().sum().to(self.device)
        return float((float(self.comm.reduce(away)) / count) ** 0.5)

    @cached_property
    def point_part(self) -> Tensor:
        """Part of each mesh point of the window: the lowest among its cells."""
        mesh = self.window.mesh
        part = np.full(mesh.n_points, self.comm.parts, dtype=np.int64)
        np.minimum.at(part, mesh.cells.numpy(), self.window.part.numpy()[:, None])
        return torch.from_numpy(part)

    @cached_property
    def everyone_has_cells(self) -> bool:
        """Whether no process is without."""
        ranks = self.comm.rank_of(torch.tensor(self.filled))
        return len(ranks.unique()) == self.comm.world

    def _share(self, part: int) -> tuple[Share, Tensor] | None:
        """Cut out one part; also the numbers in the whole of its ghosts. Nothing for a part without cells."""
        mine = self.window.part == part
        if not bool(mine.any()):
            return None
        around = mine.clone()
        for nodes, node_part, _ in self._tables:
            around |= (node_part[nodes] == part).any(1)
        if self.window.tied:
            # Whose a mesh point is has nothing to do with what repeats it.
            around |= (self.point_part[self.window.mesh.cells] == part).any(1)
        rows, names, points = self._cut(around, mine)
        sums, sum_names, _ = self._cut(mine, mine)
        local = torch.full((self.model.numbering.n,), -1, dtype=torch.int64)
        local[names] = torch.arange(len(names))
        belongs = self.dof_part[names] == part
        owned, foreign = torch.nonzero(belongs)[:, 0], torch.nonzero(~belongs)[:, 0]
        own_names, own_at = self.names[names[owned]].unique(return_inverse=True)
        ghosts, ghost_at = self.names[names[foreign]].unique(return_inverse=True)
        order = torch.empty(len(names), dtype=torch.int64)
        order[owned], order[foreign] = own_at, len(own_names) + ghost_at
        first = _first(owned, own_at, len(own_names))
        constrained = rows.compiled.constrained.cpu()
        number = torch.full((len(names),), -1, dtype=torch.int64)
        number[constrained] = torch.arange(len(constrained))
        held = self._constrained[names[owned]]
        given = _first(number[owned[held]], own_at[held], len(own_names))
        free = given < 0
        if int((number[owned] >= 0).sum()) != int(held.sum()):
            raise ArgumentError("a Dirichlet condition of an unknown is not seen by its own part")
        move = self.device
        share = Share(
            part=part,
            rows=rows,
            sums=sums,
            owned=owned.to(move),
            first=first.to(move),
            order=order.to(move),
            into_sums=local[sum_names].to(move),
            free=free.to(move),
            given=given[~free].to(move),
            again=torch.stack([number[owned[held]], given[own_at[held]]]).to(move),
            held=self.layout.part_slice(part),
            points=points,
            nodes={
                name: (names[here][:: dofs.components] - self.model.numbering.ranges[name].start)
                // dofs.components
                for (name, dofs), here in zip(
                    rows.numbering.fields.items(), rows.numbering.ranges.values(), strict=True
                )
            },
            points_of=self.point_part[points].to(move),
        )
        return share, ghosts

    def _cut(self, cells: Tensor, mine: Tensor) -> tuple[Model, Tensor, Tensor]:
        """Lower the problem on some cells; also which unknowns and mesh points of the window are its own."""
        part, taken, points = self._pieces.of(cells, mine)
        model = self._lowered(part)
        return model, self._names(model, taken), points

    def _names(self, model: Model, cells: Tensor) -> Tensor:
        """Return which unknown of the window each one of a lowered piece is."""
        parts = []
        fields = zip(model.numbering.fields.items(), self._tables, strict=True)
        for (name, dofs), (nodes, _, components) in fields:
            number = torch.empty(dofs.n_nodes, dtype=torch.int64)
            number[dofs.cell_nodes.cpu()] = nodes[cells]
            first = self.model.numbering.ranges[name].start
            component = torch.arange(components)
            parts.append((number[:, None] * components + component).flatten() + first)
        return torch.cat(parts)


def _first(values: Tensor, at: Tensor, n: int) -> Tensor:
    """Put values at places, of several at one place the least; -1 where there is none."""
    none = torch.iinfo(torch.int64).max
    found = torch.full((n,), none).scatter_reduce(0, at, values, "amin")
    return torch.where(found == none, -1, found)
