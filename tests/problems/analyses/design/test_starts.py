"""Where a search may start."""

from __future__ import annotations

import pytest
import torch

from torch_sla import (
    MMA,
    DesignProblem,
    Dirichlet,
    Integral,
    IntervalMesh,
    Measured,
    Parameter,
    PoissonProblem,
    Scipy,
    SweepProblem,
    TransientProblem,
    Variable,
)
from torch_sla.errors import ArgumentError, SpecError


def rod(**variable: object) -> DesignProblem:
    return DesignProblem(
        of=PoissonProblem(
            mesh=IntervalMesh(cells=4),
            diffusivity=Parameter("k", on="nodes", default=1.5),
            source=1.0,
            boundary=[Dirichlet("left", 0.0)],
            outputs=[Integral("mean", "u")],
        ),
        variables=[Variable("k", **variable)],
        objective="(mean - 0.2)**2",
    )


@pytest.mark.parametrize("transform", [[], ["log"]])
def test_a_start_lies_inside_the_bounds(transform: list[str]) -> None:
    with pytest.raises(SpecError, match="start lies outside the bounds") as caught:
        rod(bounds=(1.0, 2.0), initial=3.0, transform=transform).oracle()
    assert caught.value.path == "variables.0.initial"
    with pytest.raises(SpecError, match="outside the bounds"):
        rod(bounds=(1.0, 1.2), transform=transform).solve()  # the default of the parameter
    assert float(rod(bounds=(1.0, 2.0), initial=2.0, transform=transform).oracle().start.max()) > 0


@pytest.mark.parametrize("field", ["initial", "bounds"])
def test_expressions_see_the_coordinates_of_the_mesh(field: str) -> None:
    given = {"initial": "1 + y"} if field == "initial" else {"bounds": (0.1, "3 + y")}
    with pytest.raises(SpecError, match="unknown name 'y'") as caught:
        rod(**given).oracle()
    assert caught.value.path.startswith(f"variables.0.{field}")


def test_values_at_times_start_from_one_for_all_of_them() -> None:
    problem = PoissonProblem(
        mesh=IntervalMesh(cells=4),
        source="q*v[0]*x",
        parameters=[
            Parameter("q", default=1.0),
            Parameter("v", time="steps", shape=(2,), default=[1.0, 2.0]),
        ],
        boundary=[Dirichlet("left", "v[1]*t")],
    )
    march = TransientProblem(of=problem, end=1.0, steps=2)
    for of in (march, SweepProblem(of=march, cases={"q": [1.0, 2.0]})):
        search = DesignProblem(
            of=of,
            variables=[Variable("v", bounds=([0.0, -5.0], 9.0))],
            objective="sum((u - 1)**2)",
        )
        oracle = search.oracle()
        assert oracle.start.tolist() == [1.0, 2.0] * 3
        assert oracle.lower.tolist() == [0.0, -5.0] * 3
        x, way, h = oracle.start, torch.linspace(-1, 1, 6, dtype=torch.float64), 1e-5
        rise = oracle.value_and_grad(x + h * way).value - oracle.value_and_grad(x - h * way).value
        slope = float(oracle.value_and_grad(x).gradient @ way)
        assert abs(rise / (2 * h) - slope) < 1e-8 * abs(slope)


@pytest.mark.parametrize(
    "optimizer",
    [MMA(), MMA(globally_convergent=True), Scipy(method="SLSQP", gradient_tolerance=1e-9)],
    ids=lambda o: f"{o.type}{getattr(o, 'globally_convergent', '')}",
)
def test_a_start_at_the_minimum_but_for_the_constraints(optimizer) -> None:
    problem = DesignProblem(
        of=PoissonProblem(
            mesh=IntervalMesh(cells=2),
            parameters=[Parameter("a", default=1.0), Parameter("b", default=1.0)],
            source="a + b",
            boundary=[Dirichlet("left", 0.0)],
        ),
        variables=[Variable("a", bounds=(-5.0, 5.0)), Variable("b", bounds=(-5.0, 5.0))],
        objective="(a - 1)**2 + 4*(b - 1)**2",
        constraints=["a + b >= 4"],
        optimizer=optimizer,
    )
    found = problem.solve()
    assert found.converged
    # 2 (a - 1) = 8 (b - 1) is the multiplier
    assert float(found.design["a"]) == pytest.approx(2.6, abs=1e-3)
    assert float(found.design["b"]) == pytest.approx(1.4, abs=1e-3)


@pytest.mark.parametrize("noise", [0.01, [0.01]])
def test_data_of_one_number(noise: object) -> None:
    problem = rod(bounds=(0.1, 5.0)).updated(
        objective="misfit(mean)", data={"mean": Measured([0.3], noise=noise)}
    )
    found = problem.solve()
    assert float(found.solution["mean"].detach()) == pytest.approx(0.3, rel=1e-6)
    with pytest.raises(ArgumentError, match=r"data.mean is of shape \[2\]"):
        problem.updated(data={"mean": Measured([0.3, 0.4])}).solve()


@pytest.mark.parametrize("objective", ["sqrt(mean - 100)", "log(mean - 100)", "mean/0"])
def test_a_start_without_a_value_is_blamed_on_the_objective(objective: str) -> None:
    with pytest.raises(ArgumentError, match="at the start the objective or a constraint is not"):
        rod().updated(objective=objective).solve()
