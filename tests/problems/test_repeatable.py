"""Same inputs, same bits, on CUDA too: nothing is summed by operations whose order the device decides."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from torch_sla import (
    BoxMesh,
    Dirichlet,
    Field,
    Parameter,
    PoissonProblem,
    Probe,
    Reaction,
    Robin,
)

aten = torch.ops.aten
SUMS = {aten.index_add, aten.index_add_, aten.scatter_add, aten.scatter_add_}


class Ordered(TorchDispatchMode):
    """Refuses sums of floats by index in which an index comes twice; sums by `index_put` are sorted on CUDA."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in SUMS and args[3].is_floating_point():
            index = args[2].flatten()
            assert len(index.unique()) == len(index), func
        return func(*args, **kwargs or {})


@pytest.mark.parametrize("order", [1, 2])
def test_outputs_and_gradients_have_one_order(order: int) -> None:
    problem = PoissonProblem(
        mesh=BoxMesh(cells=(3, 3, 3), cell="tetra"),
        order=order,
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
    points = problem.mesh_data().points.clone().requires_grad_()
    k, h = (torch.rand(n, dtype=torch.float64).add(1).requires_grad_() for n in (64, 162))
    with Ordered():
        solution = problem.solve(k=k, h=h, points=points)
        total = sum((solution[name] ** 2).sum() for name in solution.outputs)
        total.backward()
    assert all(t.grad is not None for t in (k, h, points))
