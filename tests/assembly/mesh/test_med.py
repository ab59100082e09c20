"""Files of Salome against the mesh and the groups that they were made of."""

from __future__ import annotations

import meshio
import numpy as np
import pytest
import torch

import torch_sla.assembly as fem
from torch_sla.errors import MeshError

h5py = pytest.importorskip("h5py")

MESHES = {
    "triangle": fem.rectangle_mesh((2, 2)),
    "triangle6": fem.curved(fem.rectangle_mesh((2, 2))),
    "quad": fem.rectangle_mesh((2, 2), cell="quad"),
    "tetra": fem.box_mesh((2, 2, 1)),
    "tetra10": fem.curved(fem.box_mesh((2, 2, 1))),
    "hexahedron": fem.box_mesh((2, 2, 1), cell="hexahedron"),
}
FACETS = {"tri": "line", "qua": "line", "tet": "triangle", "hex": "quad"}
# The format turns cells of three dimensions the other way round than VTK.
TURNED = {
    "tetra": [0, 2, 1, 3],
    "tetra10": [0, 2, 1, 3, 6, 5, 4, 7, 9, 8],
    "hexahedron": [0, 3, 2, 1, 4, 7, 6, 5],
}
FAMILIES = {-1: ["left"], -2: ["right", "hot"], -3: ["steel", "all"], -4: ["all"], -5: []}


def write(path, mesh) -> None:
    sides = [mesh.facets[mesh.facet_tags[name]].numpy() for name in ("left", "right")]
    turned = TURNED.get(mesh.cell, slice(None))
    odd = np.arange(mesh.n_cells) % 2 == 1
    raw = meshio.Mesh(
        mesh.points.numpy(),
        [
            (FACETS[mesh.cell[:3]], np.concatenate(sides)),
            (mesh.cell, mesh.cells.numpy()[:, turned]),
        ],
        cell_data={
            "cell_tags": [
                np.repeat([-1, -2], [len(side) for side in sides]),
                np.where(odd, -3, -4),
            ]
        },
    )
    raw.cell_tags = FAMILIES
    meshio.write(path, raw)


def kinds(file):
    (step,) = file["ENS_MAA/mesh"].values()
    return step["MAI"]


@pytest.mark.parametrize("cell", MESHES)
def test_groups_become_tags_by_name(tmp_path, cell) -> None:
    mesh, path = MESHES[cell], tmp_path / "part.med"
    write(path, mesh)
    again = fem.read_mesh(path)
    assert torch.equal(again.points, mesh.points)
    assert {name: index.tolist() for name, index in again.cell_tags.items()} == {
        "steel": list(range(1, mesh.n_cells, 2)),
        "all": list(range(mesh.n_cells)),
    }
    assert set(again.facet_tags) == {"left", "right", "hot"}
    for name, x in (("left", 0.0), ("right", 1.0), ("hot", 1.0)):
        at = again.points[again.facets[again.facet_tags[name]]]
        assert bool((at[..., 0] == x).all())
    basis = fem.CellBasis(again, again.geometry, degree=4)
    assert basis.dx.sum().item() == pytest.approx(1.0)


@pytest.mark.parametrize("kind", ["TE4", "TR3"])
def test_cells_without_families_are_in_no_group(tmp_path, kind) -> None:
    path = tmp_path / "part.med"
    write(path, MESHES["tetra"])
    with h5py.File(path, "r+") as file:
        del kinds(file)[kind]["FAM"]
    mesh = fem.read_mesh(path)
    assert set(mesh.cell_tags) == (set() if kind == "TE4" else {"steel", "all"})
    assert set(mesh.facet_tags) == (set() if kind == "TR3" else {"left", "right", "hot"})


def test_cells_that_meshio_does_not_know_are_named(tmp_path) -> None:
    path = tmp_path / "part.med"
    write(path, MESHES["hexahedron"])
    with h5py.File(path, "r+") as file:
        kinds(file).move("HE8", "H27")
    with pytest.raises(MeshError, match=r"part\.med has cells of the kind H27, which are not read"):
        fem.read_mesh(path)
