"""Outputs that one process alone cannot evaluate: all end with its error, and go on with other work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import torch_sla as sla
from torch_sla import distribute
from torch_sla.problems.specs.arrays import Array

if TYPE_CHECKING:
    from tests.helpers.ranks import Ranks

LAW = "sqrt(0.6 - x)*u"
"""Without a value on the right, which belongs to the second process."""

KINDS: dict[str, Any] = {
    "integral": sla.Integral("I", LAW),
    "maximum": sla.Maximum("I", LAW),
    "mean": sla.Maximum("I", LAW, p=4.0),
    "field": sla.Field("I", LAW, on="cells"),
    "probe": sla.Probe("I", at=[(0.2, 0.2), (0.9, 0.9)], quantity=LAW),
}


def refused(group: Any) -> dict[str, str]:
    """Solve with each output, and catch what is said; sums over the processes are as before."""
    said = {}
    for name, output in KINDS.items():
        plate = sla.PoissonProblem(
            mesh=sla.RectangleMesh(cells=(4, 4)),
            source=1.0,
            boundary=[sla.Dirichlet("left", 0.0)],
            outputs=[output],
        )
        shared = distribute(plate, group=group)
        try:
            shared.solve()
        except sla.TorchSlaError as error:
            said[name] = str(error)
        assert shared.comm.reduce(torch.ones(3)).tolist() == [2.0] * 3
    return said


@pytest.mark.distributed
def test_a_law_without_a_value_on_one_process_ends_all(ranks: Ranks) -> None:
    first, second = ranks.run(2, refused)
    assert first.keys() == second.keys() == KINDS.keys()
    for name, said in second.items():
        assert "the law is NaN or infinite at (0." in said
        # A maximum is evaluated at all nodes that a process sees, those of its neighbours included.
        told = said if name == "maximum" else f"process 1 cannot do its part: {said}"
        assert first[name] == told, name


def test_an_integral_over_a_cell_that_other_parts_do_not_have_uses_laws_by_tags() -> None:
    plain = sla.RectangleMesh(cells=(5, 2), cell="quad")
    mesh = sla.PoissonProblem(mesh=plain).mesh_data()
    plate = sla.ElasticityProblem(
        mesh=sla.MeshArrays(
            points=Array(mesh.points.numpy()),
            cells=Array(mesh.cells.numpy()),
            cell="quad",
            cell_tags={"insert": Array(np.array([9]))},
        ),
        model="plane_stress",
        young_modulus={"insert": sla.Parameter("E"), "*": 1.0},
        poisson_ratio=0.3,
        boundary=[
            sla.Dirichlet("x < 1e-9", 0.0),
            sla.Neumann("x > 0.999", traction=(0.1, 0.2)),
        ],
        outputs=[sla.Integral("I", "stress[0, 0]", on="insert")],
        solver=sla.Solver(rtol=1e-13),
    )
    found = {}
    for name, problem in (("one", plate), ("parts", distribute(plate, 4))):
        E = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
        value = problem.solve(E=E)["I"]
        value.backward()
        found[name] = torch.stack([value.detach(), E.grad])
    torch.testing.assert_close(found["parts"], found["one"], rtol=1e-9, atol=0.0)


class _Half(torch.autograd.Function):
    """A number whose derivative fails right of the middle."""

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        ctx.right = bool((seen[..., 0] > 0.6).any())
        return weight * torch.ones_like(seen[..., 0])

    @staticmethod
    def backward(ctx: Any, *slopes: torch.Tensor) -> tuple[torch.Tensor, None]:
        if ctx.right:
            raise ValueError("no derivative here")
        return slopes[0].sum(), None


class Weighing(torch.nn.Module):
    """A law of place and solution, which each process evaluates in its own part."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = _Half.apply(self.weight, seen)
        return found


def not_differentiated(group: Any) -> str:
    plate = sla.PoissonProblem(
        mesh=sla.RectangleMesh(cells=(4, 4)),
        source=1.0,
        parameters=[sla.Parameter("w", on="quadrature", of=("x", "u"))],
        boundary=[sla.Dirichlet("left", 0.0)],
        outputs=[sla.Integral("I", "w*u")],
    )
    shared = distribute(plate, group=group)
    solution = shared.solve(w=Weighing())
    said = "nothing"
    try:
        solution["I"].backward()
    except (ValueError, sla.TorchSlaError) as error:
        said = f"{type(error).__name__}: {error}"
    assert shared.comm.reduce(torch.ones(3)).tolist() == [2.0] * 3
    return said


@pytest.mark.distributed
def test_a_derivative_that_fails_on_one_process_ends_all(ranks: Ranks) -> None:
    assert ranks.run(2, not_differentiated) == [
        "RankError: process 1 cannot do its part: no derivative here",
        "ValueError: no derivative here",
    ]


@pytest.mark.parametrize("home", ["nodes", "cells"])
@pytest.mark.parametrize("parts", [2, 3, 7])
def test_those_that_share_an_extreme_have_equal_shares_of_its_gradient(
    home: str, parts: int
) -> None:
    """Nodes between parts are seen by several of them, and cells by one."""
    plate = sla.PoissonProblem(
        mesh=sla.RectangleMesh(cells=(4, 4), cell="quad"),
        source=1.0,
        parameters=[sla.Parameter("p", on=home)],
        boundary=[sla.Dirichlet("left", 0.0)],
        outputs=[sla.Maximum("most", "p**2 + 0*u"), sla.Minimum("least", "-p + 0*u")],
    )
    p = torch.ones(25 if home == "nodes" else 16, dtype=torch.float64)
    p[[3, 7, 12]] = 0.5
    p.requires_grad_()
    found = distribute(plate, parts).solve(p=p)
    top = (p.detach() == 1.0).double()
    for name, slope in (("most", 2.0), ("least", -1.0)):
        (grad,) = torch.autograd.grad(found[name], p, retain_graph=True)
        assert torch.allclose(grad, slope * top / top.sum(), rtol=1e-12, atol=0.0)
