"""What a process sees of a mesh: its parts and two layers of cells around them, numbered as in the whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

import torch_sla as sla
from tests.helpers.shared_problems import problem_of
from torch_sla import distribute
from torch_sla.problems.lowering.mesh import build_mesh

if TYPE_CHECKING:
    from tests.helpers.ranks import Ranks


def seen(group: Any, case: str) -> dict[str, Any]:
    problem, _ = problem_of(case)
    division = distribute(problem, group=group).division
    window = division.window
    own = torch.isin(window.part, torch.tensor(list(division.comm.held)))
    return {
        "cells": window.cells,
        "points": window.points,
        "own": window.cells[own],
        "x": window.mesh.points,
        "corners": window.points[window.mesh.cells],
        "facets": window.points[window.mesh.facets],
        "counts": window.counts,
    }


@pytest.mark.distributed
@pytest.mark.parametrize("case", ["strip", "disk"])
def test_nobody_sees_the_whole(ranks: Ranks, case: str) -> None:
    problem, _ = problem_of(case)
    mesh = build_mesh(problem.mesh)
    outer = {tuple(sorted(row)) for row in mesh.facets.tolist()}
    found = ranks.run(4, seen, case)
    for window in found:
        assert torch.equal(window["x"], mesh.points[window["points"]])
        assert torch.equal(window["corners"], mesh.cells[window["cells"]])
        assert {tuple(sorted(row)) for row in window["facets"].tolist()} <= outer
        assert window["counts"]["cells"] == mesh.n_cells
        assert window["counts"]["facets"] == mesh.n_facets
    own = torch.cat([window["own"] for window in found])
    assert torch.equal(own.sort().values, torch.arange(mesh.n_cells))
    if case == "strip":
        # A quarter of 28 divisions, and two on each side.
        assert max(len(window["cells"]) for window in found) == 11 * 3 * 2


def test_lattices_are_cut_into_boxes_and_keep_their_levels() -> None:
    """Parameters on facets need the whole mesh, which is cut into boxes all the same."""
    fields: dict[str, Any] = {
        "mesh": sla.RectangleMesh(cells=(90, 70)),
        "source": 1.0,
        "boundary": [
            sla.Dirichlet("left", 0.0),
            sla.Robin("right", coefficient=sla.Parameter("h", on="facets"), ambient=0.0),
        ],
    }
    problem = sla.PoissonProblem(**fields)
    h = torch.ones(problem.mesh_data().n_facets, dtype=torch.float64)
    found = []
    for parts in (1, 6):
        shared = distribute(problem, parts)
        assert shared.model.sharding.lattice is not None
        found.append(shared.solve(h=h).info.iterations)
    assert found[0] == found[1]


def test_values_are_given_at_points_far_from_the_origin() -> None:
    lattice = sla.RectangleMesh(cells=(9, 6), origin=(37.3, 111.7), size=(1.3, 0.7))
    corners = sla.PoissonProblem(mesh=lattice).mesh_data().points[:-1].tolist()
    plate = sla.PoissonProblem(
        mesh=lattice,
        source=1.0,
        boundary=[sla.Dirichlet(at=[tuple(x) for x in corners], value="x - y")],
    )
    found = distribute(plate, 2).solve().whole("u")
    torch.testing.assert_close(found, plate.solve().u, rtol=1e-12, atol=0.0)
