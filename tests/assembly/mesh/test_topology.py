"""Facets are found a few at a time: the same ones, in little memory."""

from __future__ import annotations

import dataclasses
import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from torch_sla.assembly import Mesh, box_mesh, rectangle_mesh
from torch_sla.assembly.mesh import checks, make_mesh, parts, submesh, topology
from torch_sla.assembly.mesh.build import trusted_mesh
from torch_sla.errors import MeshError

if TYPE_CHECKING:
    from collections.abc import Callable


def again(mesh: Mesh, rng: np.random.Generator) -> Mesh:
    """The same mesh from cells and tags alone, facets of tags in another order."""
    tags = {
        name: rng.permuted(mesh.facets[index].numpy(), axis=1)
        for name, index in mesh.facet_tags.items()
    }
    return make_mesh(mesh.points, mesh.cells, mesh.cell, facet_tags=tags)


@pytest.mark.parametrize(
    "make",
    [lambda: rectangle_mesh((7, 5)), lambda: box_mesh((4, 3, 3), cell="tetra")],
    ids=["triangles", "tetrahedra"],
)
def test_runs_find_what_one_go_finds(
    make: Callable[[], Mesh], monkeypatch: pytest.MonkeyPatch
) -> None:
    mesh = make()
    inner = mesh.interior
    some = np.stack([inner.owner[::5], inner.owner_side[::5]])
    corners = np.array(mesh.reference.facets)[some[1]]
    facets = np.take_along_axis(mesh.cells.numpy()[some[0]], corners, 1)
    mesh = make_mesh(
        mesh.points,
        mesh.cells,
        mesh.cell,
        facet_tags={"inside": facets, "left": mesh.facets[mesh.facet_tags["left"]]},
    )
    rng = np.random.default_rng(2)
    whole = again(mesh, rng)
    monkeypatch.setattr(topology, "_RUN", 11)
    monkeypatch.setattr(checks, "_RUN", 11)
    in_runs = again(mesh, rng)
    assert len(list(topology.facet_runs(mesh.vertices.numpy(), mesh.reference, mesh.n_points))) > 3
    for name in (f.name for f in dataclasses.fields(Mesh)):
        a, b = getattr(whole, name), getattr(in_runs, name)
        if isinstance(a, torch.Tensor):
            assert torch.equal(a, b)
    assert all(torch.equal(whole.facet_tags[k], t) for k, t in in_runs.facet_tags.items())
    for name in (f.name for f in dataclasses.fields(topology.InteriorFacets)):
        assert np.array_equal(getattr(mesh.interior, name), getattr(in_runs.interior, name))


def test_rows_in_runs_have_the_numbers_of_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(5).integers(0, 9, (300, 3))
    expected = topology.number_rows(rows, 9)
    monkeypatch.setattr(topology, "_RUN", 16)
    found = topology.number_rows(rows, 9)
    assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))


def test_what_is_wrong_is_found_in_runs_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topology, "_RUN", 8)
    corners = np.array([[0.0, 0], [1, 0], [0, 1]])
    apart = np.concatenate([corners + np.array([2.0 * k, 0.0]) for k in range(10)])
    cells = np.arange(30).reshape(10, 3)
    with pytest.raises(MeshError, match=r"cells 7 and 10 lie on the same side .*\(3 such facets"):
        trusted_mesh(apart, np.concatenate([cells, cells[7:8]]), "triangle", {}, {})
    mesh = rectangle_mesh((9, 9))
    cells, points = mesh.cells.numpy(), mesh.points.numpy()
    with pytest.raises(MeshError, match=r"share the facet"):
        trusted_mesh(points, np.concatenate([cells, cells[70:71]]), "triangle", {}, {})


def traced(work: Callable[[], object]) -> float:
    """Most bytes that NumPy takes beyond those at the beginning; what is imported on the way is there before."""
    work()
    tracemalloc.start()
    work()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


def test_little_is_taken_beside_the_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = box_mesh((20, 20, 20), cell="tetra")
    points, cells = mesh.points.numpy(), mesh.cells.numpy()
    for module in (topology, checks):
        monkeypatch.setattr(module, "_RUN", 1 << 12)
    # 32 bytes of each cell are its vertices.
    assert traced(lambda: make_mesh(points, cells, "tetra")) < 120 * len(cells)
    half = torch.arange(len(cells)) < len(cells) // 2
    assert traced(lambda: submesh(mesh, half)) < 130 * len(cells)
    pytest.importorskip("pymetis")
    assert traced(lambda: parts.partition_cells(mesh, 4, "metis")) < 100 * len(cells)
