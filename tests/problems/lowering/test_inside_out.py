"""Equilibria with cells turned inside out satisfy the equations of most laws; they are not taken for solutions."""

from __future__ import annotations

import pytest
import torch

from torch_sla import Dirichlet, HyperelasticityProblem, Minimum, Neumann, Probe, RectangleMesh
from torch_sla.errors import SolveError

GRADIENT = torch.tensor([[0.15, 0.05, 0.0], [0.03, -0.1, 0.0], [0.0, 0.0, 0.0]]).double()


@pytest.mark.parametrize(
    ("law", "constants", "cell"),
    [
        ("mooney_rivlin", {"c1": 0.5, "c2": 0.3, "kappa": 4.0}, "triangle"),
        (
            "a*(I1 - 3) + b*(I2 - 3) + c*(I3 - 1) - (a + 2*b + c)*log(I3)",
            {"a": 0.4, "b": 0.2, "c": 0.3},
            "quad",
        ),
    ],
)
def test_a_homogeneous_state_is_found_on_distorted_cells(
    law: str, constants: dict[str, float], cell: str
) -> None:
    # Newton's method from rest, all at once, ends with det F = -0.4 and -0.6 in some corners.
    def problem(**more: object) -> HyperelasticityProblem:
        return HyperelasticityProblem(
            mesh=RectangleMesh(cells=(2, 2), cell=cell),
            order=2,
            law=law,
            constants=constants,
            boundary=[Dirichlet("left", ["0.05*y", "-0.1*y"]), *more.pop("loads", [])],
            outputs=[Minimum("J", "J"), Probe("P", at=[(0.5, 0.4)], quantity="piola")],
            **more,
        )

    # The stress of the homogeneous state, from a body held all around.
    held = problem(
        loads=[Dirichlet(["right", "bottom", "top"], ["0.15*x + 0.05*y", "0.03*x - 0.1*y"])]
    )
    P = held.solve()["P"][0]
    loads = [
        Neumann(tag, traction=(sign * P[:2, axis]).tolist())
        for tag, axis, sign in (("right", 0, 1), ("top", 1, 1), ("bottom", 1, -1))
    ]
    free = problem(
        loads=[*loads, Dirichlet("left", ["0.05*y", "-0.1*y"])],
    )
    points = free.mesh_data().points
    bump = torch.sin(torch.pi * points[:, :1]) * torch.sin(torch.pi * points[:, 1:])
    wave = 1 + 0.5 * torch.cos(3 * points.sum(1, keepdim=True))
    points = points + 0.05 * bump * wave * torch.tensor([1.0, -0.7]).double()
    solution = free.solve(points=points)
    assert float(solution["J"]) == pytest.approx(
        float(torch.det(torch.eye(3) + GRADIENT)), rel=1e-8
    )
    torch.testing.assert_close(solution["P"][0], P, rtol=1e-8, atol=1e-8)


def test_a_body_that_is_pulled_through_itself_is_refused() -> None:
    block = HyperelasticityProblem(
        mesh=RectangleMesh(cells=(1, 1), cell="quad"),
        law="saint_venant_kirchhoff",
        constants={"mu": 1.0, "lam": 1.0},
        boundary=[Dirichlet("left", 0.0), Dirichlet("right", [-1.5, 0.0])],
    )
    with pytest.raises(SolveError, match="inside out"):
        block.solve()
    assert not block.solve(throw=False, info=True).info.converged
