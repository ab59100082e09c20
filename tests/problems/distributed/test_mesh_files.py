"""Meshes in files that every process reads its share of: what it sees is cut out of the whole, which nobody has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import torch_sla as sla
from tests.helpers.meshes_in_files import MESHES, in_vtk
from tests.helpers.shared_problems import Found, problem_of, solved
from tests.problems.distributed.test_same_as_one import same as same_answer
from torch_sla import distribute
from torch_sla.assembly.mesh import partition_cells, read_mesh, rectangle_mesh, write_mesh
from torch_sla.errors import MeshError, TorchSlaError
from torch_sla.linalg.distributed.processes import communicator
from torch_sla.problems.distributed import sight
from torch_sla.problems.lowering.mesh import build_mesh
from torch_sla.problems.lowering.motions import bodies

if TYPE_CHECKING:
    from tests.helpers.ranks import Ranks
    from torch_sla.assembly.mesh import Mesh
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


def around(mesh: Mesh, chosen: torch.Tensor) -> torch.Tensor:
    """Return the cells that a process sees which has some."""
    chosen = chosen.clone()
    if not bool(chosen.any()):
        chosen[0] = True
    for _ in range(sight.LAYERS):
        touched = torch.zeros(mesh.n_points, dtype=torch.bool)
        touched[mesh.cells[chosen]] = True
        chosen = touched[mesh.cells].any(1)
    return chosen


@pytest.mark.distributed
@pytest.mark.parametrize(
    ("name", "size", "suffix"),
    [
        ("triangles", 2, ".npz"),
        ("tetrahedra", 4, ".vtu"),
        *((name, size, ".npz") for name in MESHES for size in (3, 7)),
    ],
)
def test_what_is_seen_is_cut_out_of_the_whole(
    ranks: Ranks, tmp_path: Path, name: str, size: int, suffix: str
) -> None:
    path = tmp_path / f"mesh{suffix}"
    if suffix == ".npz":
        write_mesh(path, MESHES[name]())
    else:
        in_vtk(MESHES[name]()).write(path)
    mesh = read_mesh(path, duplicate_nodes="allow", hanging_nodes="allow")
    owner = partition_cells(mesh, min(size, mesh.n_cells), "coordinates")
    body = bodies(mesh.vertices, mesh.n_points)[mesh.cells[:, 0]]
    order = 2 if mesh.n_cells > 2 else 1
    found = ranks.run(size, seen, str(path), order)
    for rank, window in enumerate(found):
        chosen = around(mesh, owner == rank)
        same(window, sight._cut_out(mesh, owner, body, chosen, {order}, sight._Ties([], {})))
    # The same bodies, by other numbers.
    pairs = {
        pair
        for window in found
        for pair in zip(window.body.tolist(), body[window.cells].tolist(), strict=True)
    }
    assert len(pairs) == int(body.max()) + 1 == found[0].bodies


def scaled(group: Any, path: str, scale: float) -> Window:
    found = problem(path, 2)
    file = found.mesh.model_copy(update={"scale": scale})
    on_file = found.model_copy(update={"mesh": file})
    return sight.seen(on_file, communicator(group), torch.device("cpu"))


@pytest.mark.distributed
@pytest.mark.parametrize("suffix", [".npz", ".vtu", ".msh"])
def test_shares_of_a_file_in_other_units(ranks: Ranks, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mesh{suffix}"
    if suffix == ".npz":
        write_mesh(path, MESHES["tetrahedra"]())
    else:
        in_vtk(MESHES["tetrahedra"]()).write(path)
    mesh = read_mesh(path)
    for window in ranks.run(3, scaled, str(path), 1e-3):
        assert torch.equal(window.mesh.points, mesh.points[window.points] * 1e-3)


def from_file(group: Any, case: str, path: str) -> Found:
    """Solve a case of which only the mesh is in a file."""
    found, values = problem_of(case)
    return solved(distribute(on(found, path), group=group), values)


def on(found: Any, path: str) -> Any:
    return found.model_copy(update={"mesh": sla.MeshFile(path)})


@pytest.mark.distributed
@pytest.mark.parametrize(
    ("case", "size"),
    [
        ("disk", 1),
        ("disk", 2),
        ("disk", 7),
        ("bracket", 3),
        ("corner", 4),
        ("two_materials", 7),
        ("rolled", 4),
        ("bent", 3),
        ("waves", 3),
        ("coupled", 2),
    ],
)
def test_results_and_gradients_are_those_of_one_process(
    ranks: Ranks, tmp_path: Path, case: str, size: int
) -> None:
    found, values = problem_of(case)
    path = tmp_path / "mesh.npz"
    write_mesh(path, build_mesh(found.mesh))
    wanted = solved(on(found, str(path)), values)
    for answer in ranks.run(size, from_file, case, str(path)):
        same_answer(answer, wanted)


def archive(path: Path, **changed: Any) -> str:
    """Write an archive by hand: 6 x 6 squares in triangles, but for what is changed."""
    points, cells = grid(6)
    listed = changed.get("cells")
    count = len(cells if listed is None else listed)
    arrays = {
        "format": "torch_sla mesh 1",
        "cell": "triangle",
        "points": points,
        "cells": cells,
        "cell_groups": np.zeros((count, 0), np.uint8),
        "cell_group_names": np.array([], np.str_),
        "facets": np.zeros((0, 2), np.int64),
        "facet_groups": np.zeros((len(changed.get("facets", ())), 0), np.uint8),
        "facet_group_names": np.array([], np.str_),
    }
    np.savez(path, **{k: v for k, v in (arrays | changed).items() if v is not None})
    return str(path)


def grid(n: int) -> tuple[Any, Any]:
    mesh = rectangle_mesh((n, n))
    return mesh.points.numpy().copy(), mesh.cells.numpy().copy()


def bad_files(folder: Path) -> dict[str, tuple[str, str]]:
    """By name a file, and what everybody must hear."""
    points, cells = grid(6)
    n = len(points)
    far, flat, twice, dangling = points.copy(), *(cells.copy() for _ in range(3))
    far[17] = np.nan
    flat[50] = [0, 1, 2]
    twice[60, 1] = twice[60, 0]
    dangling[40, 2] = 999
    # Cell 3 turned over onto cell 2, with a point of its own.
    lies = np.concatenate([cells, [[*cells[2][:2], n]]])
    inside = np.concatenate([points, [points[cells[2]].mean(0)]])
    torn = cells.copy()
    torn[70][torn[70] == torn[70].max()] = n
    hanging = np.concatenate([points, [[2.0, 0.25], [2.0, 0.75], [1.0, 0.55]]])
    hung = np.concatenate([cells, [[n, n + 1, n + 2]]])
    row = np.array([[0, 20]])
    bits, name = np.full((1, 1), 128, np.uint8), np.array(["wall"])
    damaged = folder / "damaged.npz"
    whole = archive(folder / "whole.npz")
    damaged.write_bytes(Path(whole).read_bytes()[:3000])
    return {
        "no number": (archive(folder / "a.npz", points=far), "point 17 is"),
        "flat": (archive(folder / "b.npz", cells=flat), "cell 50 (points [0, 1, 2]) has zero"),
        "twice": (archive(folder / "c.npz", cells=twice), "cell 60 uses a point twice"),
        "dangling": (archive(folder / "d.npz", cells=dangling), "cell 40 refers to points"),
        "lies on": (
            archive(folder / "e.npz", points=inside, cells=lies),
            "share the facet|lie on the same side",
        ),
        "torn": (
            archive(folder / "f.npz", points=np.concatenate([points, points[-1:]]), cells=torn),
            f"and {n} are both at",
        ),
        "hangs": (
            archive(folder / "g.npz", points=hanging, cells=hung),
            f"point {n + 2} at [1.0, 0.55] hangs on the facet",
        ),
        "no facet": (
            archive(folder / "h.npz", facets=row, facet_groups=bits, facet_group_names=name),
            "names the facet [0, 20], which no cell has",
        ),
        "no array": (archive(folder / "i.npz", cells=None), "no array 'cells'"),
        "other shape": (archive(folder / "j.npz", cells=cells[:, :2]), "has shape"),
        "damaged": (str(damaged), "cannot be read"),
        "other cells": (archive(folder / "k.npz", cell="pentagon"), "made of pentagon cells"),
    }


def hear(group: Any, files: dict[str, tuple[str, str]]) -> dict[str, str]:
    """Return what is said of each file."""
    said = {}
    for name, (path, _) in files.items():
        spec = sla.PoissonProblem(
            mesh=sla.MeshFile(path), source=1.0, boundary=[sla.Dirichlet("x < 1e-9", 0.0)]
        )
        try:
            sight.seen(spec, communicator(group), torch.device("cpu"))
            said[name] = "nothing"
        except TorchSlaError as error:
            said[name] = f"{error}"
    return said


@pytest.mark.distributed
def test_a_bad_file_is_an_error_everywhere(ranks: Ranks, tmp_path: Path) -> None:
    files = bad_files(tmp_path)
    for said in ranks.run(4, hear, files):
        for name, (_, wanted) in files.items():
            assert any(w in said[name] for w in wanted.split("|")), (name, said[name])
    for path, wanted in files.values():
        with pytest.raises(MeshError) as caught:
            read_mesh(path)
        assert any(w in str(caught.value) for w in wanted.split("|")), str(caught.value)


@pytest.mark.distributed
def test_repetitions_and_points_of_no_cell_are_left_out(ranks: Ranks, tmp_path: Path) -> None:
    """As gmsh lists a cell once for each of its groups; its points may include centres of circles."""
    points, cells = grid(5)
    again = np.concatenate([cells, cells[7:30:3, [1, 2, 0]]])
    bits = np.zeros((len(again), 1), np.uint8)
    bits[::2] |= 128
    bits[len(cells) :] |= 64
    shifted = np.concatenate([[[3.0, 3.0]], points[:9], [[4.0, 4.0]], points[9:]])
    place = np.arange(len(points)) + 1 + (np.arange(len(points)) >= 9)
    rows = np.array([[0, 1], [1, 0], [2, 1], [0, 10]])
    path = archive(
        tmp_path / "mesh.npz",
        points=np.pad(shifted, ((0, 0), (0, 1)), constant_values=0.5),
        cells=place[again],
        cell_groups=bits,
        cell_group_names=np.array(["even", "again"]),
        facets=np.concatenate([place[rows[:3]], [[0, 10]]]),
        facet_groups=np.array([[128], [64], [128], [64]], np.uint8),
        facet_group_names=np.array(["left", "wall"]),
    )
    mesh = read_mesh(path)
    assert (mesh.n_cells, mesh.n_points, mesh.dim) == (len(cells), len(points), 2)
    assert mesh.cell_tags["again"].tolist() == list(range(7, 30, 3))
    owner = partition_cells(mesh, 3, "coordinates")
    for rank, window in enumerate(ranks.run(3, seen, path, 1)):
        chosen = around(mesh, owner == rank)
        expected = sight._cut_out(mesh, owner, owner * 0, chosen, {1}, sight._Ties([], {}))
        same(window, expected)
