"""How a process comes to see its part of a mesh.

Of intervals, rectangles and boxes no process ever makes more, and of a mesh in a file that can be read by shares none
reads more. Other meshes are made by the first process, which sends the others their windows.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from torch_sla.assembly import Dofs, lagrange
from torch_sla.assembly.constraints import partners
from torch_sla.assembly.mesh import partition_boxes, partition_cells, submesh
from torch_sla.assembly.mesh.topology import bodies
from torch_sla.errors import MeshError, SpecError
from torch_sla.problems import registry
from torch_sla.problems.distributed.dealing import deal
from torch_sla.problems.distributed.outline import Outline, outlined
from torch_sla.problems.distributed.slabs import refuse_duplicates, refuse_hanging_nodes
from torch_sla.problems.distributed.surroundings import surrounded
from torch_sla.problems.distributed.together import handed_out, told
from torch_sla.problems.distributed.window import Window, find_rows
from torch_sla.problems.lowering.compiled import matching
from torch_sla.problems.lowering.mesh import (
    build_mesh,
    build_window,
    divisions,
    index_of,
    read_once,
)
from torch_sla.problems.lowering.motions import may_fall_apart
from torch_sla.problems.lowering.selection import select_facets
from torch_sla.problems.specs.boundary import Periodic
from torch_sla.problems.specs.mesh import MeshFile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch_sla.assembly import Mesh
    from torch_sla.assembly.mesh.share import MeshIndex
    from torch_sla.linalg.distributed.communicator import Communicator
    from torch_sla.problems.specs.field_problem import FieldProblem

__all__ = ["seen"]

LAYERS = 2
"""Cells around a part: those that its rows need, and those that decide whose their nodes are."""


def seen(spec: FieldProblem, comm: Communicator, device: torch.device) -> Window:
    """Return what this process sees; all call it together."""
    cells: Any = divisions(spec.mesh)
    on_facets = any(p.on == "facets" for p in spec.declared.values())
    orders = _orders(spec, 2 if cells is None else len(cells))
    periodic = any(isinstance(condition, Periodic) for condition in spec.boundary)
    if cells is not None and orders == {1} and not on_facets and not periodic:
        return _lattice(spec, cells, comm)
    file = spec.mesh
    if isinstance(file, MeshFile) and not (comm.alone or periodic):
        index = told(comm, device, lambda: index_of(file))
        if index is not None:
            return _read(spec, file, index, orders, comm, device)
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
        for _ in range(LAYERS):
            touched = torch.zeros(mesh.n_points, dtype=torch.bool)
            touched[mesh.cells[chosen]] = True
            for a, b in ties.points:
                touched[a] |= touched[b]
                touched[b] |= touched[a]
            chosen = touched[mesh.cells].any(1)
        return _cut_out(mesh, owner, body, chosen, orders, ties)

    return handed_out(comm, device, window)


def _read(
    spec: FieldProblem,
    file: MeshFile,
    index: MeshIndex,
    orders: set[int],
    comm: Communicator,
    device: torch.device,
) -> Window:
    """Read what this process sees of a mesh of which nobody reads the whole."""
    path = Path(file.path)
    try:
        dealt = deal(path, index, comm, device, file.scale)
        keepers = dealt.keepers
        if file.duplicate_nodes == "refuse":
            refuse_duplicates(keepers, dealt.x, comm, device)
        cells = surrounded(dealt, LAYERS, comm, device)
        outline = Outline(dealt, index, cells, comm, device)
        mesh = outline.mesh
        if file.hanging_nodes == "refuse" and mesh.dim > 1 and mesh.geometry.order == 1:
            outer = outline.outer
            owner = cells.number[mesh.facet_cells[outer]]
            corners = mesh.facets[outer]
            called = (outline.points[corners], mesh.points[corners], owner)
            refuse_hanging_nodes(keepers, *called, comm, device)
    except MeshError as error:
        raise SpecError(f"{path}: {error}", path="mesh") from error
    nodes = {order: outline.nodes(order) for order in sorted(orders)}
    physics: Any = registry.verbs(spec.type)
    body, count = _one_body(mesh), 1
    if may_fall_apart(spec, len(physics.unknowns_of(spec, mesh.dim))):
        body, count = outline.body()
    return Window(
        mesh=mesh,
        cells=cells.number,
        points=outline.points,
        facets=outline.facets,
        nodes={order: number for order, (number, _) in nodes.items()},
        part=cells.part,
        counts={"cells": dealt.n_cells, "nodes": keepers.n, "facets": outline.n_facets},
        most={order: n for order, (_, n) in nodes.items()},
        body=body,
        bodies=count,
    )


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
                max(min(box[d][0] for box in held) - LAYERS, 0),
                min(max(box[d][1] for box in held) + LAYERS, count),
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
        with matching(i):
            points.append(partners(places, on, to))
            a, b = partners(dofs, on, to)
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
    in_cells = {name: torch.zeros(0, dtype=torch.int64) for name in mesh.cell_tags}
    part = outlined(part, listed, mesh.facet_tags, {**in_cells, **part.cell_tags})
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
