"""Derivatives of what Newton's method solved: tangents are found without the adjoint."""

from __future__ import annotations

import pytest
import torch

from torch_sla import (
    Dirichlet,
    HyperelasticityProblem,
    Integral,
    Neumann,
    NonlinearProblem,
    Parameter,
    PoissonProblem,
    RectangleMesh,
    Root,
)
from torch_sla.linalg.nonlinear import problem as linalg_nonlinear
from torch_sla.problems.lowering.newton import Equation
from torch_sla.problems.lowering.roots import _Equations


def bent() -> HyperelasticityProblem:
    return HyperelasticityProblem(
        mesh=RectangleMesh(cells=(3, 2)),
        model="plane_strain",
        law="neo_hookean",
        constants={"mu": Parameter("f", default=1.0), "lam": 2.0},
        boundary=[
            Dirichlet("left", 0.0),
            Neumann("right", traction=[0.0, Parameter("k", default=0.1)]),
        ],
        outputs=[Integral("i", "energy_density")],
    )


def warm() -> PoissonProblem:
    return PoissonProblem(
        mesh=RectangleMesh(cells=(4, 4)),
        diffusivity="f*(1 + k*u**2)",
        parameters=[Parameter("f", default=1.0), Parameter("k", default=0.1)],
        source=1.0,
        boundary=[Dirichlet("left", 0.5)],
        outputs=[Integral("i", "u")],
    )


def roots(size: int | None = None) -> NonlinearProblem:
    return NonlinearProblem(
        unknowns=[Root("x", start=1.0, size=size)],
        residual=["f*x + k*x**3 - 1"],
        parameters=[Parameter("f", default=1.0), Parameter("k", default=0.1)],
    )


NEWTON = {"bent": bent, "warm": warm, "one root": roots, "sparse roots": lambda: roots(100)}


@pytest.mark.parametrize("name", NEWTON)
def test_tangents_of_newton_do_not_come_from_the_adjoint(name: str, monkeypatch) -> None:
    problem = NEWTON[name]()
    values = {n: torch.tensor(v, dtype=torch.float64) for n, v in (("f", 1.0), ("k", 0.1))}
    way = {"f": torch.tensor(0.3).double(), "k": torch.tensor(-0.2).double()}
    key, h = ("x" if "root" in name else "i"), 1e-5
    expected = [
        problem.solve({n: v + s * h * way[n] for n, v in values.items()})[key] for s in (1, -1)
    ]
    for owner in (Equation, _Equations, linalg_nonlinear.NonlinearProblem):

        def wrong(self, u, leaves, g, right=owner.adjoint):
            return 1.001 * right(self, u, leaves, g)

        monkeypatch.setattr(owner, "adjoint", wrong)
    found = problem.jvp(way, values)[key]
    torch.testing.assert_close(found, (expected[0] - expected[1]) / (2 * h), rtol=1e-7, atol=1e-9)
    # So that a wrong adjoint is seen.
    check = problem.check_gradients(values, second=False)
    assert check.mismatch > 1e-6
    assert not check.passed
