"""Results do not depend on which corner of a cell comes first, nor on a rotation of the mesh."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from torch_sla import (
    BoxMesh,
    Dirichlet,
    Flux,
    Integral,
    MeshArrays,
    PoissonProblem,
    RectangleMesh,
)

MESHES = {
    "triangle": (RectangleMesh(cells=(4, 3), size=(2.0, 1.0)), [1, 2, 0]),
    "quad": (RectangleMesh(cells=(4, 3), size=(2.0, 1.0), cell="quad"), [1, 2, 3, 0]),
    "tetra": (BoxMesh(cells=(3, 2, 2), size=(2.0, 1.0, 1.0)), [1, 2, 0, 3]),
}


def carried(cell: str, points: np.ndarray, cells: np.ndarray, flow: list[float], wall: str):
    """A flow that carries heat, stabilised along it."""
    return PoissonProblem(
        mesh=MeshArrays(points=points, cells=cells, cell=cell),
        diffusivity=0.01,
        advection=flow,
        source=1.0,
        boundary=[Dirichlet(wall, 0.0)],
        outputs=[Integral("heat", "u**2"), Flux("out", wall)],
    ).solve()


@pytest.mark.parametrize("cell", MESHES)
def test_stabilised_flows(cell: str) -> None:
    mesh, turned = MESHES[cell]
    data = PoissonProblem(mesh=mesh).mesh_data()
    points, cells = data.points.numpy(), data.cells.numpy()
    flow = [1.0, 0.5, 0.2][: points.shape[1]]
    found = carried(cell, points, cells, flow, "abs(x) < 1e-9")
    other = carried(cell, points, cells[:, turned], flow, "abs(x) < 1e-9")
    c, s = math.cos(0.7), math.sin(0.7)
    turn = np.eye(len(flow))
    turn[:2, :2] = [[c, -s], [s, c]]
    wall = f"abs({c}*x + {s}*y) < 1e-9"
    rotated = carried(cell, points @ turn.T, cells, (turn @ flow).tolist(), wall)
    for name in ("heat", "out"):
        assert torch.allclose(other[name], found[name], rtol=1e-11)
        assert torch.allclose(rotated[name], found[name], rtol=1e-10)
