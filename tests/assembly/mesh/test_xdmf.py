"""Files of XDMF in the three ways that numbers are written, and in those that are not read."""

from __future__ import annotations

import meshio
import numpy as np
import pytest
import torch

import torch_sla.assembly as fem
from torch_sla.assembly.mesh import write_series
from torch_sla.errors import MeshError

SQUARE = fem.rectangle_mesh((2, 2))


def test_a_series_is_refused_with_the_remedy(tmp_path):
    write_series(tmp_path / "run.xdmf", SQUARE, [(0.0, {"u": SQUARE.points[:, 0]}, {})])
    with pytest.raises(MeshError, match=r"run\.xdmf is a series of fields.*write one as \.vtu"):
        fem.read_mesh(tmp_path / "run.xdmf")


@pytest.mark.parametrize("kind", ["XML", "Binary", "HDF"])
@pytest.mark.parametrize("cell", ["line", "triangle6", "quad9", "tetra10", "hexahedron27"])
def test_numbers_lie_beside_the_file(tmp_path, monkeypatch, kind, cell):
    """Wherever the process is, also where another file has the same name."""
    pytest.importorskip("h5py")
    dim = {"line": 1, "triangle6": 2, "quad9": 2}.get(cell, 3)
    shape = {1: fem.interval_mesh, 2: fem.rectangle_mesh, 3: fem.box_mesh}[dim]
    mesh = shape(2) if dim == 1 else shape((2,) * dim, cell=cell.rstrip("0123456789"))
    mesh = mesh if dim == 1 else fem.curved(mesh)
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    points = np.pad(mesh.points.numpy(), ((0, 0), (0, 3 - dim)))
    for name, moved in (("there", 0.0), ("", 5.0)):
        monkeypatch.chdir(tmp_path / name)
        raw = meshio.Mesh(points + moved, [(cell, mesh.cells.numpy())])
        meshio.write("m.xdmf", raw, data_format=kind)
    again = fem.read_mesh(tmp_path / "there" / "m.xdmf")
    assert torch.equal(again.points, mesh.points)
    assert torch.equal(again.cells, mesh.cells)


@pytest.mark.parametrize("how", ['Endian="Big"', 'Seek="8"', 'Compression="Zlib"'])
def test_numbers_that_are_not_read_are_refused(tmp_path, how):
    SQUARE.points.numpy().astype(">f8").tofile(tmp_path / "x.bin")
    (tmp_path / "m.xdmf").write_text(
        f"""<Xdmf Version="3.0"><Domain><Grid><Geometry GeometryType="XY"><DataItem DataType="Float"
        Dimensions="9 2" Format="Binary" Precision="8" {how}>x.bin</DataItem></Geometry></Grid></Domain></Xdmf>"""
    )
    name = how.partition("=")[0]
    with pytest.raises(MeshError, match=rf"has numbers with {name}=.* not read; write them as HDF"):
        fem.read_mesh(tmp_path / "m.xdmf")
