"""Meshes in files that every process reads its share of: what it sees is cut out of the whole, which nobody has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

import torch_sla as sla
from tests.helpers.meshes_in_files import MESHES
from torch_sla.assembly.mesh import partition_cells, read_mesh, write_mesh
from torch_sla.linalg.distributed.processes import communicator
from torch_sla.problems.distributed import sight
from torch_sla.problems.lowering.motions import bodies

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers.ranks import Ranks
    from torch_sla.problems.distributed.window import Window
    from torch_sla.problems.specs.field_problem import FieldProblem


def problem(path: str, order: int) -> FieldProblem:
    return sla.PoissonProblem(
        mesh=sla.MeshFile(path, duplicate_nodes="allow", hanging_nodes="allow"),
        source=1.0,
        order=order,
        boundary=[sla.Dirichlet("left", 0.0)],
    )


def seen(group: Any, path: str, order: int) -> Window:
    return sight.seen(problem(path, order), communicator(group), torch.device("cpu"))


def same(found: Any, expected: Any) -> None:
    for name in ("cells", "points", "facets", "part"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    assert found.counts == expected.counts
    assert found.most == expected.most
    for order, nodes in expected.nodes.items():
        assert torch.equal(found.nodes[order], nodes), order
    one, other = found.mesh, expected.mesh
    for name in ("points", "cells", "facets", "facet_cells", "facet_sides", "facet_neighbours"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    for kind in ("cell_tags", "facet_tags"):
        ours, theirs = getattr(one, kind), getattr(other, kind)
        assert set(ours) == set(theirs), kind
        for name, index in theirs.items():
            assert torch.equal(ours[name], index), name


@pytest.mark.distributed
@pytest.mark.parametrize("size", [2, 3, 4, 7])
@pytest.mark.parametrize("name", list(MESHES))
def test_what_is_seen_is_cut_out_of_the_whole(
    ranks: Ranks, tmp_path: Path, name: str, size: int
) -> None:
    path = tmp_path / "mesh.npz"
    write_mesh(path, MESHES[name]())
    mesh = read_mesh(path, duplicate_nodes="allow", hanging_nodes="allow")
    owner = partition_cells(mesh, min(size, mesh.n_cells), "coordinates")
    body = bodies(mesh.vertices, mesh.n_points)[mesh.cells[:, 0]]
    order = 2 if mesh.n_cells > 2 else 1
    found = ranks.run(size, seen, str(path), order)
    for rank, window in enumerate(found):
        chosen = owner == rank
        if not bool(chosen.any()):
            chosen[0] = True
        for _ in range(sight.LAYERS):
            touched = torch.zeros(mesh.n_points, dtype=torch.bool)
            touched[mesh.cells[chosen]] = True
            chosen = touched[mesh.cells].any(1)
        same(window, sight._cut_out(mesh, owner, body, chosen, {order}, sight._Ties([], {})))
    # The same bodies, by other numbers.
    pairs = {
        pair
        for window in found
        for pair in zip(window.body.tolist(), body[window.cells].tolist(), strict=True)
    }
    assert len(pairs) == int(body.max()) + 1 == found[0].bodies
