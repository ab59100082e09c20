"""Same inputs, same bits: nothing is summed by operations whose order the device or the threads decide."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.helpers.devices import ON_CUDA
from torch_sla import (
    BoxMesh,
    Dirichlet,
    Field,
    Parameter,
    PoissonProblem,
    Probe,
    Reaction,
    Robin,
    Solver,
)

aten = torch.ops.aten
ADDED = {aten.index_add, aten.index_add_, aten.scatter_add, aten.scatter_add_}
PUT = {aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index_put}


class Ordered(TorchDispatchMode):
    """Refuses sums of floats in which a place comes twice: by `index_add` on CUDA, by `index_put` on the CPU."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.refused = PUT if device == "cpu" else ADDED

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {
            **dict(zip((a.name for a in func._schema.arguments), args, strict=False)),
            **(kwargs or {}),
        }
        if (
            func.overloadpacket in self.refused
            and args[0].is_floating_point()
            and given.get("accumulate", func.overloadpacket in ADDED)
        ):
            at = given["index"] if "index" in given else given["indices"]
            index = (
                at
                if isinstance(at, torch.Tensor)
                else torch.stack([i for i in at if i is not None], -1)
            )
            index = index.flatten(0, -2) if index.ndim > 1 else index
            assert len(index.unique(dim=0)) == len(index), func
        return func(*args, **kwargs or {})


@pytest.mark.parametrize("device", ["cpu", ON_CUDA])
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("cell", ["tetra", "hexahedron"])
def test_outputs_and_gradients_have_one_order(cell: str, order: int, device: str) -> None:
    problem = PoissonProblem(
        mesh=BoxMesh(cells=(3, 3, 3), cell=cell),
        order=order,
        solver=Solver(device=device),
        diffusivity=Parameter("k", on="nodes"),
        boundary=[
            Dirichlet("left", 0.0),
            Dirichlet("bottom", 1.0),
            Robin(["right", "front", "top"], coefficient=Parameter("h", on="cells"), ambient=1.0),
        ],
        outputs=[
            Probe("sensors", at=[(0.51, 0.52, 0.53), (0.52, 0.51, 0.54)]),
            Probe("weights", at=[(0.51, 0.52, 0.53), (0.52, 0.51, 0.54)], quantity="h"),
            Probe("slopes", at=[(0.51, 0.52, 0.53)], quantity="grad(u)"),
            Field("means", "k*grad(u)", on="nodes"),
            Reaction("left", "left"),
            Reaction("bottom", "bottom"),
        ],
    )
    points = problem.mesh_data().points.to(device, copy=True).requires_grad_()
    k, h = (
        torch.rand(n, dtype=torch.float64).add(1).to(device).requires_grad_()
        for n in (64, problem.mesh_data().n_cells)
    )
    with Ordered(device):
        solution = problem.solve(k=k, h=h, points=points)
        total = sum((solution[name] ** 2).sum() for name in solution.outputs)
        total.backward()
    assert all(t.grad is not None for t in (k, h, points))
