"""Making a mesh of the cells that a process has of one which nobody has: facets, groups, and numbers of everything."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.assembly import Dofs, lagrange
from torch_sla.assembly.mesh.build import trusted_mesh
from torch_sla.assembly.mesh.checks import Called
from torch_sla.assembly.mesh.mesh import CELL_TYPES
from torch_sla.assembly.mesh.share import members
from torch_sla.assembly.mesh.topology import bodies
from torch_sla.assembly.reference.cell import reference_cell
from torch_sla.errors import MeshError
from torch_sla.linalg.distributed.everywhere import agreed
from torch_sla.linalg.distributed.keepers import Keepers
from torch_sla.problems.distributed.window import find_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch_sla.assembly import Mesh
    from torch_sla.assembly.mesh.share import MeshIndex
    from torch_sla.linalg.distributed.communicator import Communicator
    from torch_sla.problems.distributed.dealing import Cells, Dealt

__all__ = ["Outline", "outlined"]


def outlined(
    mesh: Mesh, listed: Tensor, names: Iterable[str], cell_tags: Mapping[str, Tensor]
) -> Mesh:
    """Return a mesh with some of its facets alone.

    Parameters
    ----------
    names
        Facet tags there are in the whole; those without facets here are empty.
    cell_tags
        Takes the place of the mesh's own.
    """
    place = torch.full((mesh.n_facets,), -1)
    place[listed] = torch.arange(len(listed))
    tags = dict.fromkeys(names, place[:0])
    tags |= {name: place[f][place[f] >= 0] for name, f in mesh.facet_tags.items()}
    return replace(
        mesh,
        facets=mesh.facets[listed],
        facet_cells=mesh.facet_cells[listed],
        facet_sides=mesh.facet_sides[listed],
        facet_neighbours=mesh.facet_neighbours[listed],
        facet_tags=MappingProxyType(tags),
        cell_tags=MappingProxyType(dict(cell_tags)),
    )


class Outline:
    """The cells that a process sees, as a mesh; all processes make theirs together.

    Parameters
    ----------
    dealt
        The mesh in parts.
    index
        What its file holds.
    cells
        Those that are seen here: the cells of this process and two layers around them.

    Attributes
    ----------
    mesh
        The cells; its facets are those of the whole.
    points
        Numbers of its points in the whole.
    facets
        Numbers of its facets in the whole.
    n_facets
        How many facets the whole has.

    Raises
    ------
    MeshError, ArgumentError
        On every process, if a facet has three cells, cells overlap, or a facet in a group is none.
    """

    def __init__(
        self,
        dealt: Dealt,
        index: MeshIndex,
        cells: Cells,
        comm: Communicator,
        device: torch.device,
    ) -> None:
        self._dealt, self._cells, self._comm, self._device = dealt, cells, comm, device
        self.points, local = cells.points.unique(return_inverse=True)
        (x,) = dealt.keepers.fetch(self.points, dealt.x)
        self._own = (cells.part >= comm.held.start) & (cells.part < comm.held.stop)
        rows, groups = self._listed()

        def made() -> Mesh:
            which, known = self._known(rows, local, index)
            bits = groups[which].numpy()
            tags = {n: known[members(bits, i)] for i, n in enumerate(index.facet_groups)}
            tags = {name: found for name, found in tags.items() if len(found)}
            called = Called(cells.number.numpy(), self.points.numpy())
            return trusted_mesh(x.numpy(), local.numpy(), index.cell, {}, tags, called)

        whole = agreed(comm, device, made)
        sides = self._boundary_sides(whole)
        outer = (sides[whole.facet_cells] >> whole.facet_sides) & 1 == 1
        # Neither the facets of the cut, nor those inside the body that lie in it.
        listed = torch.nonzero(outer | (whole.facet_neighbours >= 0))[:, 0]
        present = self._anywhere(dealt.facet_groups, len(index.facet_groups))
        names = [n for n, some in zip(index.facet_groups, present, strict=True) if some]
        present = self._anywhere(cells.groups, len(index.cell_groups))
        in_cells = {
            name: torch.from_numpy(members(cells.groups.numpy(), i))
            for i, (name, some) in enumerate(zip(index.cell_groups, present, strict=True))
            if some
        }
        self.mesh = outlined(whole, listed, names, in_cells)
        self.facets, self.n_facets = self._facet_numbers()

    def _anywhere(self, groups: Tensor, count: int) -> list[bool]:
        """Return whether anything is in each of some groups."""
        some = [float(len(members(groups.numpy(), i)) > 0) for i in range(count)]
        if not some:
            return []
        found = self._comm.reduce(torch.tensor(some, device=self._device), "max")
        return [bool(x) for x in found]

    def _listed(self) -> tuple[Tensor, Tensor]:
        """Return the facets in groups whose lowest corner is seen, by points of the whole, and their groups."""
        dealt = self._dealt
        least = dealt.facets.sort(1).values[:, 0]
        order = least.argsort()
        known = (least[order], dealt.facets[order], dealt.facet_groups[order])
        _, rows, groups = dealt.keepers.find(self.points, *known)
        return rows, groups

    def _known(self, rows: Tensor, local: Tensor, index: MeshIndex) -> tuple[Tensor, Tensor]:
        """Return which rows of points are facets of cells, and these by points of the mesh here.

        Rows that cannot be any are refused.
        """
        kind = reference_cell(CELL_TYPES[index.cell][0])
        at = torch.searchsorted(self.points, rows).clamp(max=len(self.points) - 1)
        inside = (self.points[at] == rows).all(1)
        corner = torch.zeros(len(self.points), dtype=torch.bool)
        corner[at[inside]] = True
        near = torch.nonzero(corner[local].sum(1) >= rows.shape[1])[:, 0]
        sides = local[near][:, torch.tensor(kind.facets)].flatten(0, 1).sort(1).values.unique(dim=0)
        found = inside & (find_rows(at.sort(1).values, sides) >= 0)
        # All cells around what is touched here are seen.
        touched = torch.zeros(len(self.points), dtype=torch.bool)
        touched[local[self._own]] = True
        least = torch.searchsorted(self.points, rows.sort(1).values[:, 0].contiguous())
        lost = torch.nonzero(~found & touched[least])[:, 0]
        if len(lost):
            raise MeshError(
                f"facet_tags: a group names the facet {rows[lost[0]].tolist()}, which no cell has "
                f"({len(lost)} such facets here)"
            )
        which = torch.nonzero(found)[:, 0]
        return which, at[which]

    def _boundary_sides(self, mesh: Mesh) -> Tensor:
        """Return of each cell which sides are in the boundary of the whole, as bits ``[n_cells]``.

        Of its own cells a process sees all neighbours; of others it asks their own process.
        """
        cells, keepers = self._cells, self._dealt.keepers
        outer = mesh.facet_neighbours < 0
        bits = torch.zeros(mesh.n_cells, dtype=torch.int64)
        bits.index_add_(0, mesh.facet_cells[outer], 1 << mesh.facet_sides[outer])
        foreign = torch.nonzero(~self._own)[:, 0]
        foreign = foreign[cells.part[foreign].argsort(stable=True)]
        sender, (asked,) = keepers.send(cells.part[foreign], cells.number[foreign])
        here = torch.searchsorted(cells.number, asked)
        _, (found,) = keepers.send(keepers.part_of_rank(sender), bits[here])
        bits[foreign] = found
        return bits

    def _facet_numbers(self) -> tuple[Tensor, int]:
        """Return the number in the whole of each facet: of the boundary cell by cell, then of tagged ones by points."""
        mesh, dealt = self.mesh, self._dealt
        outer = mesh.facet_neighbours < 0
        by_cell = Keepers(self._comm, dealt.n_cells, self._device)
        cell = self._cells.number[mesh.facet_cells[outer]]
        first, n_outer = by_cell.number(torch.stack([cell, mesh.facet_sides[outer]], 1))
        rows = self.points[mesh.facets[~outer]].sort(1).values
        second, n_inner = dealt.keepers.number(rows)
        number = torch.empty(mesh.n_facets, dtype=torch.int64)
        number[outer], number[~outer] = first, second + n_outer
        return number, n_outer + n_inner

    @property
    def outer(self) -> Tensor:
        """Return the boundary facets of the cells of this process."""
        mesh = self.mesh
        return torch.nonzero((mesh.facet_neighbours < 0) & self._own[mesh.facet_cells])[:, 0]

    def nodes(self, order: int) -> tuple[Tensor, int]:
        """Return the number in the whole of each node of an element of some order, and how many there are."""
        mesh, cells, keepers = self.mesh, self._cells, self._dealt.keepers
        element = lagrange(mesh.reference.name, order)
        if element == mesh.geometry:
            return self.points, keepers.n
        per_vertex, per_edge, per_face, inside = element.entity_nodes
        kind = element.cell
        corners = cells.points[:, : kind.n_vertices]
        columns, count = [], 0
        if per_vertex:
            if cells.points.shape[1] == kind.n_vertices:
                columns, count = [corners], keepers.n
            else:
                number, count = keepers.number(corners.reshape(-1, 1))
                columns = [number.reshape(corners.shape)]
        for wanted, local in ((per_edge, kind.edges), (per_face, kind.facets)):
            if wanted:
                rows = corners[:, torch.tensor(local)].flatten(0, 1).sort(1).values
                number, different = keepers.number(rows)
                columns.append(number.reshape(mesh.n_cells, -1) + count)
                count += different
        if inside:
            columns.append(cells.number[:, None] + count)
            count += self._dealt.n_cells
        own = Dofs(mesh, element)
        nodes = torch.empty(own.n_nodes, dtype=torch.int64)
        nodes[own.cell_nodes] = torch.cat(columns, 1)
        return nodes, count

    def body(self) -> tuple[Tensor, int]:
        """Return the body that each cell is of, which no cell joins with another one, and how many there are."""
        keepers, local = self._dealt.keepers, self.mesh.vertices
        label = bodies(local, self.mesh.n_points)
        # What hangs together is called by the least of its points: here, then over points where processes meet.
        least = torch.full((len(self.points),), keepers.n)
        least.scatter_reduce_(0, label, self.points, "amin")
        met = torch.zeros(2, len(self.points), dtype=torch.bool)
        met[0, local[self._own]], met[1, local[~self._own]] = True, True
        meeting = torch.nonzero(met.all(0))[:, 0]
        shared = self.points[meeting]
        changed = True
        while changed:
            _, (point, name) = keepers.send(keepers.of(shared), shared, least[label[meeting]])
            kept = torch.full((keepers.end - keepers.begin,), keepers.n)
            kept.scatter_reduce_(0, point - keepers.begin, name, "amin")
            (found,) = keepers.fetch(shared, kept)
            lower = least.scatter_reduce(0, label[meeting], found, "amin")
            some = (lower < least).any().double()[None].to(self._device)
            changed, least = bool(self._comm.reduce(some, "max")), lower
        return keepers.number(least[label[local[:, 0]]][:, None])
