"""What a process sees of a mesh: the cells of its parts, and enough around them to know whose each node is.

Of intervals, rectangles and boxes no process ever makes more. Other meshes are made by the first process, which sends
the others their windows.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from torch_sla.assembly import Dofs, lagrange
from torch_sla.assembly.constraints import partners
from torch_sla.assembly.interpolation import locate
from torch_sla.assembly.mesh import partition_boxes, partition_cells, submesh
from torch_sla.errors import MeshError, SpecError
from torch_sla.linalg.distributed.everywhere import everywhere
from torch_sla.problems import registry
from torch_sla.problems.distributed.together import handed_out
from torch_sla.problems.lowering.conditions import check_coordinates
from torch_sla.problems.lowering.mesh import build_mesh, build_window, divisions, read_once
from torch_sla.problems.lowering.motions import bodies, may_fall_apart
from torch_sla.problems.lowering.selection import (
    nothing_satisfies,
    satisfying,
    select_facets,
)
from torch_sla.problems.specs.boundary import Dirichlet, Periodic

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch_sla.assembly import Mesh
    from torch_sla.linalg.distributed.communicator import Communicator
    from torch_sla.problems.specs.field_problem import FieldProblem

__all__ = ["Window", "find_rows", "points_named", "seen"]

_LAYERS = 2
"""Cells around a part: those that its rows need, and those that decide whose their nodes are."""


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
            away, nearest = torch.cdist(torch.tensor(at, dtype=x.dtype), x).min(1)
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


def points_named(spec: FieldProblem) -> Iterator[tuple[str, tuple[tuple[float, ...], ...]]]:
    """Yield where points stand in a declaration, and the points; those that are held are nodes, and not among them."""
    for kind in ("boundary", "outputs"):
        for i, thing in enumerate(getattr(spec, kind)):
            if getattr(thing, "at", None) is not None and thing.type != "dirichlet":
                yield f"{kind}.{i}.at", getattr(thing, "points", thing.at)


def seen(spec: FieldProblem, comm: Communicator, device: torch.device) -> Window:
    """Return what this process sees; all call it together."""
    cells: Any = divisions(spec.mesh)
    on_facets = any(p.on == "facets" for p in spec.declared.values())
    orders = _orders(spec, 2 if cells is None else len(cells))
    periodic = any(isinstance(condition, Periodic) for condition in spec.boundary)
    if cells is not None and orders == {1} and not on_facets and not periodic:
        return _lattice(spec, cells, comm)
    if comm.alone:
        mesh = build_mesh(spec.mesh)
        owner = _owners(spec, mesh, comm.parts)
        everything = torch.ones(mesh.n_cells, dtype=torch.bool)
        return _cut_out(mesh, owner, _bodies(spec, mesh), everything, orders, _ties(spec, mesh))
    whole: list[tuple[Mesh, Tensor, Tensor, _Ties]] = []

    def window(rank: int) -> Window:
        if not whole:
            mesh = read_once(spec.mesh)
            owner = _owners(spec, mesh, comm.parts)
            whole.append((mesh, owner, _bodies(spec, mesh), _ties(spec, mesh)))
        mesh, owner, body, ties = whole[0]
        first, last = comm.first_part(rank), comm.first_part(rank + 1)
        chosen = (owner >= first) & (owner < last)
        if not bool(chosen.any()):
            chosen[0] = True  # a mesh has a cell
        for _ in range(_LAYERS):
            touched = torch.zeros(mesh.n_points, dtype=torch.bool)
            touched[mesh.cells[chosen]] = True
            for a, b in ties.points:
                touched[a] |= touched[b]
                touched[b] |= touched[a]
            chosen = touched[mesh.cells].any(1)
        return _cut_out(mesh, owner, body, chosen, orders, ties)

    return handed_out(comm, device, window)


def _owners(spec: FieldProblem, mesh: Mesh, parts: int) -> Tensor:
    """Return the part of each cell of a mesh that is there whole: of a lattice boxes, whose levels are lattices too."""
    cells: Any = divisions(spec.mesh)
    if cells is None:
        return partition_cells(mesh, min(parts, mesh.n_cells))
    return _inside_boxes(partition_boxes(cells, parts), [(0, n) for n in cells], mesh)


def _bodies(spec: FieldProblem, mesh: Mesh) -> Tensor:
    """Return the body of each cell of a mesh that is there whole."""
    physics: Any = registry.verbs(spec.type)
    if not may_fall_apart(spec, len(physics.unknowns_of(spec, mesh.dim))):
        return _one_body(mesh)
    return bodies(mesh.vertices, mesh.n_points)[mesh.cells[:, 0]]


def _one_body(mesh: Mesh) -> Tensor:
    return torch.zeros(1, dtype=torch.int64).expand(mesh.n_cells)


def _inside_boxes(
    boxes: Sequence[tuple[tuple[int, int], ...]], window: Sequence[tuple[int, int]], mesh: Mesh
) -> Tensor:
    """Return the box of each cell of a window of a lattice, -1 for none."""
    # x runs fastest.
    part = np.full([high - low for low, high in window[::-1]], -1, dtype=np.int64)
    for i, box in enumerate(boxes):
        inside = tuple(
            slice(max(low - first, 0), max(high - first, 0))
            for (low, high), (first, _) in zip(box[::-1], window[::-1], strict=True)
        )
        part[inside] = i
    return torch.from_numpy(part.ravel().repeat(mesh.n_cells // part.size))


def _orders(spec: FieldProblem, dim: int) -> set[int]:
    """Return the orders of all elements."""
    physics: Any = registry.verbs(spec.type)
    return {u.order for u in physics.unknowns_of(spec, dim)}


def _lattice(spec: FieldProblem, cells: tuple[int, ...], comm: Communicator) -> Window:
    """Make what this process sees of a lattice."""
    boxes = partition_boxes(cells, comm.parts)
    held = [box for box in boxes[comm.held.start : comm.held.stop] if _size(box)]
    window = [(0, 1)] * len(cells)
    if held:
        window = [
            (
                max(min(box[d][0] for box in held) - _LAYERS, 0),
                min(max(box[d][1] for box in held) + _LAYERS, count),
            )
            for d, count in enumerate(cells)
        ]
    mesh, points, numbers = build_window(spec.mesh, window)
    each = mesh.n_cells // int(np.prod([high - low for low, high in window]))
    n_points = int(np.prod([count + 1 for count in cells]))
    sides = sum(2 * int(np.prod(cells)) // count for count in cells)
    return Window(
        mesh=mesh,
        cells=numbers,
        points=points,
        # Nothing lives on them.
        facets=torch.arange(mesh.n_facets),
        nodes={1: points},
        part=_inside_boxes(boxes, window, mesh),
        counts={
            "cells": int(np.prod(cells)) * each,
            "nodes": n_points,
            "facets": sides * (2 if mesh.cell == "tetra" else 1),
        },
        most={1: n_points},
        body=_one_body(mesh),
    )


def _size(box: tuple[tuple[int, int], ...]) -> int:
    return int(np.prod([high - low for low, high in box]))


class _Ties(NamedTuple):
    """Nodes that periodic conditions make one: pairs of mesh points; per unknown its order and a number per node."""

    points: list[tuple[Tensor, Tensor]]
    nodes: dict[str, tuple[int, Tensor]]


def _ties(spec: FieldProblem, mesh: Mesh) -> _Ties:
    """Find the nodes that periodic conditions make one, on the whole mesh."""
    physics: Any = registry.verbs(spec.type)
    unknowns = {u.name: u for u in physics.unknowns_of(spec, mesh.dim)}
    points: list[tuple[Tensor, Tensor]] = []
    nodes: dict[str, tuple[int, Tensor]] = {}
    places = Dofs(mesh, mesh.geometry)
    for i, condition in enumerate(spec.boundary):
        if not isinstance(condition, Periodic):
            continue
        on = select_facets(mesh, condition.on, f"boundary.{i}.on")
        to = select_facets(mesh, condition.to, f"boundary.{i}.to")
        unknown = unknowns[condition.unknown or next(iter(unknowns))]
        dofs = Dofs(mesh, lagrange(mesh.reference.name, unknown.order))
        try:
            points.append(partners(places, on, to))
            a, b = partners(dofs, on, to)
        except MeshError as error:
            raise SpecError(str(error), path=f"boundary.{i}.to") from None
        _, number = nodes.get(unknown.name, (0, torch.arange(dofs.n_nodes)))
        changed = True
        while changed:  # a corner repeats one that repeats another
            least = torch.minimum(number[a], number[b])
            changed = bool((number[a] != least).any() or (number[b] != least).any())
            number = number.scatter_reduce(0, a, least, "amin").scatter_reduce(0, b, least, "amin")
        nodes[unknown.name] = (unknown.order, number)
    for name, (order, number) in nodes.items():
        changed = True
        while changed:
            lower = number[number]
            changed = bool((lower != number).any())
            number = lower
        nodes[name] = (order, number.unique(return_inverse=True)[1])
    return _Ties(points, nodes)


def _cut_out(
    mesh: Mesh, owner: Tensor, body: Tensor, chosen: Tensor, orders: set[int], ties: _Ties
) -> Window:
    """Take some cells of a mesh that is there whole.

    Parameters
    ----------
    owner, body, chosen
        Part and body of each cell, and whether it is taken ``[n_cells]``.
    """
    count = int(body.amax()) + 1
    whole = {order: Dofs(mesh, lagrange(mesh.reference.name, order)) for order in orders}
    counts = {"cells": mesh.n_cells, "nodes": mesh.n_points, "facets": mesh.n_facets}
    most = {order: dofs.n_nodes for order, dofs in whole.items()}
    if bool(chosen.all()):
        every = {order: torch.arange(n) for order, n in most.items()}
        cells, points, facets = (torch.arange(counts[n]) for n in ("cells", "nodes", "facets"))
        one = {n: (number, int(number.max()) + 1) for n, (_, number) in ties.nodes.items()}
        return Window(mesh, cells, points, facets, every, owner, counts, most, body, one, count)
    piece = submesh(mesh, chosen)
    part, kept = piece.mesh, torch.nonzero(chosen)[:, 0]
    facets = find_rows(piece.points[part.facets].sort(1).values, mesh.facets.sort(1).values)
    # Neither the facets of the cut, nor those inside the body that lie in it.
    outer = mesh.facet_neighbours[facets.clamp(min=0)] < 0
    listed = torch.nonzero((facets >= 0) & (outer | (part.facet_neighbours >= 0)))[:, 0]
    place = torch.full((part.n_facets,), -1, dtype=torch.int64)
    place[listed] = torch.arange(len(listed))
    tags = {name: torch.zeros(0, dtype=torch.int64) for name in mesh.facet_tags}
    tags |= {name: place[f][place[f] >= 0] for name, f in part.facet_tags.items()}
    in_cells = {name: torch.zeros(0, dtype=torch.int64) for name in mesh.cell_tags}
    part = replace(
        part,
        facets=part.facets[listed],
        facet_cells=part.facet_cells[listed],
        facet_sides=part.facet_sides[listed],
        facet_neighbours=part.facet_neighbours[listed],
        facet_tags=MappingProxyType(tags),
        cell_tags=MappingProxyType({**in_cells, **part.cell_tags}),
    )
    nodes = {}
    for order, dofs in whole.items():
        own = Dofs(part, dofs.element)
        nodes[order] = torch.empty(own.n_nodes, dtype=torch.int64)
        nodes[order][own.cell_nodes] = dofs.cell_nodes[kept]
    one = {n: (k[nodes[order]], int(k.max()) + 1) for n, (order, k) in ties.nodes.items()}
    return Window(
        part,
        kept,
        piece.points,
        facets[listed],
        nodes,
        owner[kept],
        counts,
        most,
        body[kept],
        one,
        count,
    )


def find_rows(wanted: Tensor, table: Tensor) -> Tensor:
    """Return where each row is in a table of rows that are all different, -1 where it is not."""
    if not len(wanted) or not len(table):
        return torch.full((len(wanted),), -1, dtype=torch.int64)
    _, number = torch.unique(torch.cat([table, wanted]), dim=0, return_inverse=True)
    where = torch.full((int(number.max()) + 1,), -1, dtype=torch.int64)
    where[number[: len(table)]] = torch.arange(len(table))
    return where[number[len(table) :]]
