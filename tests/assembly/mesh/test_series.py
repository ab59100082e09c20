"""Series of fields in files, read back by others where they can, and by the format where not."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import meshio
import numpy as np
import pytest
import torch

from torch_sla.assembly.mesh import box_mesh, interval_mesh, rectangle_mesh, write_series
from torch_sla.errors import MeshError

MESHES = {
    "line": interval_mesh(3),
    "quad": rectangle_mesh((2, 3), cell="quad"),
    "triangle": rectangle_mesh((2, 3)),
    "hexahedron": box_mesh((2, 1, 1), cell="hexahedron"),
    "tetra": box_mesh((2, 1, 1)),
}


def frames(mesh) -> list:
    rng = torch.Generator().manual_seed(3)
    found = []
    for t in (0.0, 0.1 + 0.2, 1e-9 + 1.0):
        u = torch.rand(mesh.n_points, generator=rng, dtype=torch.float64)
        v = torch.rand(mesh.n_points, 2, generator=rng, dtype=torch.float64)
        c = torch.rand(mesh.n_cells, generator=rng, dtype=torch.float64)
        found.append((t, {"u": u, "v": v}, {"c": c}))
    return found


@pytest.mark.parametrize("kind", MESHES)
def test_a_collection_is_read_back(tmp_path, kind: str) -> None:
    mesh = MESHES[kind]
    given = frames(mesh)
    write_series(tmp_path / "run.pvd", mesh, given)
    sets = ET.parse(tmp_path / "run.pvd").getroot().findall("Collection/DataSet")
    assert [float(entry.get("timestep")) for entry in sets] == [t for t, _, _ in given]
    for entry, (_, nodal, cellwise) in zip(sets, given, strict=True):
        read = meshio.read(tmp_path / entry.get("file"))
        assert np.array_equal(read.point_data["u"], nodal["u"])
        assert np.array_equal(read.point_data["v"][:, :2], nodal["v"])
        assert np.array_equal(read.cell_data["c"][0], cellwise["c"])
        assert np.array_equal(read.cells[0].data, mesh.cells)


def items(path):
    """Every array of an XDMF file, as its format says where it lies."""
    for grid in ET.parse(path).getroot().findall("Domain/Grid/Grid"):
        found = {"t": float(grid.find("Time").get("Value"))}
        for parent in (grid.find("Topology"), grid.find("Geometry"), *grid.findall("Attribute")):
            item = parent.find("DataItem")
            size = int(item.get("Precision"))
            kind = {"Int": "i", "UInt": "u", "Float": "f"}[item.get("NumberType")]
            order = {"Little": "<", "Big": ">"}[item.get("Endian")]
            shape = tuple(map(int, item.get("Dimensions").split()))
            array = np.fromfile(
                path.parent / item.text,
                dtype=f"{order}{kind}{size}",
                count=int(np.prod(shape)),
                offset=int(item.get("Seek")),
            )
            found[parent.get("Name") or parent.tag] = array.reshape(shape)
        yield found


@pytest.mark.parametrize("kind", MESHES)
def test_an_xdmf_file_says_where_its_numbers_lie(tmp_path, kind: str) -> None:
    mesh = MESHES[kind]
    given = frames(mesh)
    moved = mesh.points + 1.0
    write_series(tmp_path / "run.xdmf", mesh, given, points=moved)
    read = list(items(tmp_path / "run.xdmf"))
    assert len(read) == 3
    for found, (t, nodal, cellwise) in zip(read, given, strict=True):
        assert found["t"] == t
        assert np.array_equal(found["Topology"], mesh.cells)
        assert np.array_equal(found["Geometry"][:, : mesh.dim], moved)
        assert np.array_equal(found["u"], nodal["u"])
        assert np.array_equal(found["v"][:, :2], nodal["v"])
        assert np.array_equal(found["c"], cellwise["c"])
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["run.bin", "run.xdmf"]


@pytest.mark.parametrize(
    "dtype", [torch.bool, torch.uint8, torch.int8, torch.int64, torch.half, torch.float]
)
def test_numbers_of_all_kinds(tmp_path, dtype) -> None:
    mesh = MESHES["quad"]
    given = (torch.arange(mesh.n_points) % 3 % 2).to(dtype)
    for name in ("run.xdmf", "run.pvd"):
        write_series(tmp_path / name, mesh, [(0.0, {"u": given}, {})])
    (found,) = items(tmp_path / "run.xdmf")
    assert found["u"].tolist() == given.tolist()
    assert found["u"].dtype.itemsize >= 4 or found["u"].dtype.kind != "f"
    read = meshio.read(tmp_path / "run/run_00000.vtu")
    assert read.point_data["u"].tolist() == given.tolist()


def test_what_cannot_be_written_is_refused(tmp_path) -> None:
    mesh = MESHES["quad"]
    with pytest.raises(MeshError, match=r"\.pvd or \.xdmf"):
        write_series(tmp_path / "run.vtk", mesh, frames(mesh))
    with pytest.raises(MeshError, match="must be 12"):
        write_series(tmp_path / "run.xdmf", mesh, [(0.0, {"u": torch.ones(3)}, {})])
