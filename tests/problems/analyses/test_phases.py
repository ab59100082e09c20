"""Loads that change in time are added up from pieces, linear outputs read off by fixed rows: same results."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

import torch_sla.problems.analyses.grid as grids
import torch_sla.problems.analyses.taking as taking
import torch_sla.problems.analyses.transient as marches
from torch_sla import (
    Dirichlet,
    ElasticityProblem,
    Energy,
    Flux,
    Integral,
    Maximum,
    Neumann,
    Parameter,
    PointLoad,
    PoissonProblem,
    Probe,
    Reaction,
    RectangleMesh,
    Robin,
    Table,
    TransientProblem,
)
from torch_sla.errors import ArgumentError
from torch_sla.problems.lowering.phases import phases_of

if TYPE_CHECKING:
    from torch_sla.problems.specs.field_problem import FieldProblem

RAMP = Table(of="t", at=[0.0, 0.3, 1.0], values=[0.0, 1.0, 0.5])
MESH = RectangleMesh(cells=(5, 4))


def plate(**more: object) -> PoissonProblem:
    return PoissonProblem(
        **{
            "mesh": MESH,
            "source": "x*sin(w*t)*t + y",
            "parameters": [
                Parameter("w", default=2.0),
                Parameter("v", shape=(2,), time="steps"),
            ],
            "boundary": [
                Dirichlet("left", "w*t*y + 1"),
                Neumann("right", flux=RAMP),
                Robin("top", coefficient=2.0, ambient="where(t < 0.4, t, 0.4)*x"),
            ],
            "outputs": [
                Probe("p", at=[(0.7, 0.4), (0.2, 0.9)], quantity="2*u + x"),
                Integral("mean", "u + y*grad(u)[0]"),
                Integral("over", "u", on="right"),
                Maximum("top", "u"),
                Flux("in", on="left"),
            ],
            **more,
        }
    )


def panel(**more: object) -> ElasticityProblem:
    return ElasticityProblem(
        **{
            "mesh": MESH,
            "model": "plane_stress",
            "young_modulus": 2.0,
            "body_force": ["0.1*t", "exp(-t)"],
            "boundary": [
                Dirichlet("left", 0.0),
                Neumann("right", traction=["t", 0.1]),
                PointLoad(at=[(1.0, 1.0)], value=[0.0, RAMP]),
            ],
            "outputs": [
                Probe("p", at=[(0.7, 0.4)]),
                Reaction("r", "left"),
                Energy("e"),
                Integral("d", "div(u)"),
            ],
            **more,
        }
    )


CASES: list[tuple[FieldProblem, int, str]] = [
    (plate(), 4, "backward_euler"),
    (plate(), 4, "crank_nicolson"),
    (panel(), 4, "newmark"),
    (panel(body_force=[0.0, -1.0], boundary=[Dirichlet("left", 0.0)]), 0, "generalized_alpha"),
    (plate(source=1.0, boundary=[Dirichlet("left", Parameter("s", time="steps"))]), 1, "bdf2"),
]


@pytest.mark.parametrize(("of", "numbers", "method"), CASES)
def test_the_same_march_as_with_loads_assembled_at_each_time(
    monkeypatch: pytest.MonkeyPatch, of: FieldProblem, numbers: int, method: str
) -> None:
    monkeypatch.setattr(taking, "WORTH", 1)
    phases = phases_of(of.compile())
    assert phases is not None
    assert len(phases.parts) == numbers
    problem = TransientProblem(of=of, scheme=method, end=1.0, steps=12)
    given = {"s": torch.linspace(0, 1, 13).double() ** 2} if "s" in of.declared else {}
    fast = problem.solve(**given)
    monkeypatch.setattr(grids, "phases_of", lambda model: None)
    monkeypatch.setattr(marches, "readable", lambda model, scene: frozenset())
    slow = problem.solve(**given)
    torch.testing.assert_close(fast.u, slow.u, rtol=1e-9, atol=1e-11)
    assert fast.outputs.keys() == slow.outputs.keys()
    for name, value in slow.outputs.items():
        torch.testing.assert_close(fast[name], value, rtol=1e-9, atol=1e-10, msg=name)


@pytest.mark.parametrize(
    "source", ["sin(x - t)", "v[1]*x", "exp(-t)*(x + t*y)", Parameter("f", on="cells")]
)
def test_other_laws_are_assembled_at_each_time(source: object) -> None:
    if isinstance(source, Parameter):
        source = source.updated(time="steps")
    assert phases_of(plate(source=source).compile()) is None


def test_gradients_reach_numbers_of_time_and_places() -> None:
    problem = TransientProblem(of=plate(source="x*sin(w*t)*t + y*w"), end=1.0, steps=5)
    w = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)

    def total(w: torch.Tensor) -> torch.Tensor:
        found = problem.solve(w=w)
        return found["mean"][-1] ** 3 + found["p"].sum() + found["in"][-1]

    assert torch.autograd.gradcheck(total, (w,))


def test_batches_share_rows_where_their_coefficients_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taking, "WORTH", 1)
    of = plate(
        diffusivity=Parameter("k"),
        outputs=[Probe("p", at=[(0.7, 0.4)]), Integral("flow", "k*grad(u)[0]")],
    )
    problem = TransientProblem(of=of, end=1.0, steps=8)
    k = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
    every = problem.solve(k=k)
    for i, one in enumerate(k):
        alone = problem.solve(k=one)
        for name in ("p", "flow"):
            torch.testing.assert_close(every[name][i], alone[name], rtol=1e-8, atol=1e-10)


def test_a_number_of_time_that_is_not_finite_is_named() -> None:
    problem = TransientProblem(of=plate(source="x/(t - 0.5)"), end=1.0, steps=4)
    with pytest.raises(ArgumentError, match=r"NaN or infinite at t = 0\.5"):
        problem.solve()
