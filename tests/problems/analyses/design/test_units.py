"""Searches do not depend on units: of the objective, of the variables, of bounds of constraints."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from torch_sla import (
    Compliance,
    DesignProblem,
    Dirichlet,
    IntervalMesh,
    Measured,
    Parameter,
    PoissonProblem,
    Probe,
    Solver,
    Variable,
)
from torch_sla.problems.design.optimizers import FunctionOracle, Quantities, Scipy

SLSQP = {"type": "scipy", "method": "SLSQP"}

EDGES = np.linspace(0.0, 1.0, 5)
LOADS = (1 - (EDGES[:-1] + EDGES[1:]) / 2) ** 2 / 4
"""Squares of the fluxes over lengths: the compliance is the sum of these over k."""
BEST = LOADS**0.5 / (LOADS**0.5).mean()


def rod(unit: float = 1.0, dtype: str = "float64", **changes) -> DesignProblem:
    """The stiffest rod of a mean conductivity of one unit, whose optimum is known."""
    body = PoissonProblem(
        mesh=IntervalMesh(cells=4),
        diffusivity=Parameter("k", on="cells", default=unit),
        source=1.0,
        boundary=[Dirichlet("left", 0.0)],
        outputs=[Compliance("c")],
        solver=Solver(dtype=dtype),
    )
    search = {
        "variables": [Variable("k", bounds=(0.05 * unit, 5.0 * unit))],
        "objective": "c",
        "constraints": [f"mean(k) <= {unit}"],
    }
    return DesignProblem(of=body, **{**search, **changes})


@pytest.mark.parametrize(
    "optimizer",
    [
        {"type": "mma"},
        {"type": "mma", "globally_convergent": True},
        {"type": "scipy", "method": "SLSQP"},
    ],
    ids=lambda o: "-".join(map(str, o.values())),
)
def test_an_objective_in_a_small_unit_has_the_same_minimum(optimizer) -> None:
    found = rod(objective="1e-9*c", optimizer=optimizer).solve()
    assert found.converged
    assert found.design["k"].numpy() == pytest.approx(BEST, rel=2e-2)
    assert float(found.solution["c"]) == pytest.approx((LOADS / BEST).sum(), rel=1e-4)


@pytest.mark.parametrize("kind", ["mma", "optimality_criteria"])
def test_variables_in_a_small_unit_have_the_same_minimum(kind: str) -> None:
    found = rod(1e-3, optimizer=kind).solve()
    assert found.converged
    assert 1e3 * found.design["k"].numpy() == pytest.approx(BEST, rel=1e-2)


@pytest.mark.parametrize("bound", ["-c >= -2e-9", "-c/1e-9 >= -4/2", "c <= 2e-9", "-2e-9 <= -c"])
def test_bounds_that_are_computed_measure_their_violation(bound: str) -> None:
    problem = rod(1e8, objective="mean(k)", constraints=[bound], optimizer="mma")
    found = problem.solve()
    assert found.converged
    assert float(found.solution["c"]) == pytest.approx(2e-9, rel=1e-3)


@pytest.mark.parametrize("unit", [1e-9, 1e9])
@pytest.mark.parametrize(
    ("kind", "optimizer"),
    [("text", SLSQP), ("sum", SLSQP), ("function", SLSQP), ("function", {"type": "mma"})],
    ids=str,
)
def test_constraints_without_a_bound_have_no_units(kind: str, optimizer: dict, unit: float) -> None:
    """Compared with each other or with 0, or functions: they hold by the same share in any unit."""
    text = {
        "text": f"{unit}*k[0] <= {unit}*k[3]/2",
        "sum": f"{unit}*mean(k) - {unit} <= 0",
    }
    function = lambda s, v: unit * (v["k"][0] - v["k"][3] / 2)  # noqa: E731
    found = rod(constraints=[text.get(kind, function)], optimizer=optimizer).solve()
    assert found.converged, found.reason
    k = found.design["k"]
    held = float(k[0] - k[3] / 2) if kind != "sum" else float(k.mean()) - 1
    assert abs(held) < 1e-5
    # The conductivities are at their upper bounds but for what the constraint says.
    best = BEST if kind == "sum" else np.array([2.5, 5.0, 5.0, 5.0])
    assert found.objective == pytest.approx((LOADS / best).sum(), rel=1e-5)
    # The values that are told are those of the function; numbers of a text measure it.
    size = 1.0 if kind == "sum" else unit
    assert float(found.constraints[0]) == pytest.approx(size * held, rel=1e-9, abs=1e-14 * size)


@pytest.mark.parametrize("bounds", [(1e-3, 1e3), (1e-3, None)])
def test_wide_bounds_do_not_loosen_a_constraint(bounds) -> None:
    """Over its bounds 1/k changes by 1e9, to first order at the lower one."""
    found = rod(
        objective="mean(k)",
        variables=[Variable("k", bounds=bounds, initial=1e-2)],
        constraints=[lambda s: s["c"] - 0.25],
        optimizer=SLSQP,
    ).solve()
    assert float(found.solution["c"]) == pytest.approx(0.25, rel=1e-3)
    assert found.objective == pytest.approx(1.0, rel=1e-3)


def test_a_constraint_that_begins_huge_is_judged_where_the_search_ends() -> None:
    """Where a search may end early, it holds by 1e-6 of what it was, and not of what it is."""
    search = {"objective": "mean(k)", "constraints": [lambda s: s["c"] - 0.25]}
    body = rod(variables=[Variable("k", bounds=(1e-5, 5.0), initial=1e-4)], **search)
    early = body.updated(optimizer={**SLSQP, "gradient_tolerance": 0.01}).solve()
    assert float(early.constraints[0]) > 1e-6
    assert not early.converged
    assert early.reason.endswith("start again from this design")
    found = body.updated(optimizer=SLSQP).solve()
    assert found.converged
    assert float(found.constraints[0]) < 1e-7
    assert found.objective == pytest.approx(1.0, rel=1e-6)


def test_single_precision_is_not_taken_for_curvature() -> None:
    found = rod(dtype="float32", optimizer={"type": "mma", "globally_convergent": True}).solve()
    assert found.iterations < 60
    assert float(found.solution["c"]) == pytest.approx((LOADS / BEST).sum(), rel=1e-4)
    assert found.design["k"].dtype == torch.float64


FOUND = [
    "lbfgs",
    "gauss_newton",
    "newton_cg",
    {"type": "scipy", "method": "BFGS"},
]


@pytest.mark.parametrize("optimizer", FOUND, ids=str)
def test_a_large_unknown_is_found_from_zero(optimizer) -> None:
    """A slope that one unit of the variable makes nothing of is one of 1e8 units all the same."""
    body = PoissonProblem(
        mesh=IntervalMesh(cells=4),
        diffusivity=1e5,
        source=Parameter("q"),
        boundary=[Dirichlet("left", "Ta"), Dirichlet("right", "Ta")],
        parameters=[Parameter("Ta")],
        outputs=[Probe("T", at=[(0.0,), (0.5,)])],
    )
    problem = DesignProblem(
        of=body,
        variables=[Variable("Ta", initial=10.0), Variable("q", initial=0.0)],
        objective="misfit(T)",
        data={"T": Measured([20.0, 120.0])},
        optimizer=optimizer,
    )
    found = problem.solve()
    # The middle is q/8k above the ends.
    assert float(found.design["Ta"]) == pytest.approx(20.0, rel=1e-3)
    assert float(found.design["q"]) == pytest.approx(8e7, rel=1e-3)
    assert found.converged


@pytest.mark.parametrize("method", ["SLSQP", "BFGS"])
def test_a_routine_with_tolerances_of_its_own_sees_no_units(method: str) -> None:
    """It compares steps and slopes with fixed numbers, which a conductivity of 1e6 is far from."""
    unit = 1e6
    problem = rod(
        unit,
        objective=f"c + mean(k)/{unit}/{unit}",
        variables=[Variable("k")],
        constraints=[],
        optimizer={"type": "scipy", "method": method},
    )
    found = problem.solve()
    # Of L/k + k/4 the least is at 2 L^(1/2).
    assert found.design["k"].numpy() / unit == pytest.approx(2 * LOADS**0.5, rel=2e-2)
    assert found.converged


def test_a_routine_that_ends_far_from_a_minimum_has_not_converged() -> None:
    """Fixed numbers of its own end it at once where variables are far below 1 and nothing says so."""

    def valley(x: torch.Tensor) -> Quantities:
        a, b = 1e6 * x
        return Quantities(1e-12 * (100 * (b - a**2) ** 2 + (1 - a) ** 2 + 0.5))

    x = torch.tensor([-1.2e-6, 1e-6], dtype=torch.float64)
    far = torch.full_like(x, torch.inf)
    for method in ("SLSQP", "Nelder-Mead"):
        oracle, optimizer = FunctionOracle(valley), Scipy(method=method)
        *_, last = optimizer.iterate(optimizer.start(oracle, x, -far, far), oracle)
        assert float((last.x - 1e-6).abs().max()) > 1e-6
        assert not last.converged
        assert "times the objective is left to gain" in last.reason


def test_a_routine_that_ends_early_tells_what_is_left() -> None:
    """Of a convex function with a linear constraint, what the slope leaves to gain is at least what is."""
    best = (LOADS / BEST).sum()
    early, late = (
        rod(optimizer={**SLSQP, "options": options}).solve() for options in ({}, {"ftol": 1e-14})
    )
    told = re.search(r"by its slope, (\S+) times the objective is left to gain", early.reason)
    assert early.converged
    assert told
    assert 1e-6 < early.objective / best - 1 <= float(told[1]) < 5e-2
    assert late.converged
    assert late.objective == pytest.approx(best, rel=1e-7)


@pytest.mark.parametrize("unit", [1.0, 1e-6])
@pytest.mark.parametrize("width", [1e6, torch.inf])
def test_a_routine_with_a_least_step_goes_on_in_small_variables(unit: float, width: float) -> None:
    """TNC takes a step of 1e-8 for the last one, which is much of a length of 1e-6."""

    def valley(x: torch.Tensor) -> Quantities:
        a, b = x / unit
        return Quantities(100 * (b - a**2) ** 2 + (1 - a) ** 2 + 0.5)

    x = torch.tensor([-1.2, 1.0], dtype=torch.float64) * unit
    far = torch.full_like(x, width * unit)
    oracle, optimizer = FunctionOracle(valley), Scipy(method="TNC")
    *_, last = optimizer.iterate(optimizer.start(oracle, x, -far, far), oracle)
    assert last.converged
    assert float((last.x / unit - 1).abs().max()) < 2e-2


def test_the_default_search_takes_steps_whatever_the_unit_of_the_objective() -> None:
    """Its routine takes no step longer than 1e10 gradients."""
    free = {"variables": [Variable("k", bounds=(0.05, 5.0))], "constraints": []}
    there, here = (
        rod(objective=f"{unit}*(c + mean(k))", **free).solve() for unit in (2.0**-66, 1.0)
    )
    assert there.converged
    assert there.design["k"].numpy() == pytest.approx(2 * LOADS**0.5, rel=1e-2)
    assert there.design["k"].numpy() == pytest.approx(here.design["k"].numpy(), rel=1e-9)


@pytest.mark.parametrize("number", [1e-15, 1e-12, 1e-3])
def test_a_number_beside_several_terms_is_no_measure_of_them(number: float) -> None:
    """The search stayed where a violation of 1e-6 of the number was told from none, in the rounding of the terms."""
    links = [
        f"k[0] <= k[3] + {number}",
        f"{number} + k[3] - k[0] >= 0",
        f"-{number} <= k[3] - k[0]",
    ]
    told = [rod(constraints=[link]).oracle() for link in links]
    for oracle, size in zip(told, (1.0, 1.0, number), strict=True):
        # A bound that stands alone is a measure.
        assert float(oracle.value_and_grad(oracle.start).constraints[0]) == pytest.approx(
            -number / size
        )
    found = rod(
        constraints=[links[0], "mean(k) <= 1"],
        optimizer={"type": "scipy", "method": "trust-constr"},
    ).solve()
    assert found.converged, found.reason
    # k falls along the rod where nothing holds it, so that the first and the last are equal, but for the number.
    shift = np.array([number / 2, 0.0, 0.0, -number / 2])
    pair = np.sqrt((LOADS[0] + LOADS[3]) / 2)
    best = np.array([pair, *np.sqrt(LOADS[1:3]), pair])
    best = best / best.mean() + shift
    assert found.design["k"].numpy() == pytest.approx(best, abs=2e-3)
    assert found.objective == pytest.approx((LOADS / best).sum(), rel=1e-5)


def test_a_routine_that_ends_at_a_limit_of_its_own_tells_to_raise_it() -> None:
    """Nothing is wrong with its gradients."""
    x = torch.tensor([3.0, 4.0], dtype=torch.float64)
    far = torch.full_like(x, torch.inf)
    oracle = FunctionOracle(lambda x: Quantities(1.0 + (x**4).sum()))
    optimizer = Scipy(method="BFGS", options={"maxiter": 2})
    *_, last = optimizer.iterate(optimizer.start(oracle, x, -far, far), oracle)
    assert not last.converged
    assert last.iteration == 2
    assert "is left to gain; raise maxiter = 2 where that ended it, else see" in last.reason


def test_a_routine_that_fails_tells_what_is_left_and_what_to_do() -> None:
    """Its own words, "ABNORMAL: ", are of no use."""

    def wrong(x: torch.Tensor) -> Quantities:
        return Quantities(1.0 + (x + (x - x.detach()) * (-3.0 / x.detach() - 1.0)).sum())

    x = torch.ones(1, dtype=torch.float64)  # the gradient says that 1 + x falls with x
    for method in ("L-BFGS-B", "BFGS"):
        oracle, optimizer = FunctionOracle(wrong), Scipy(method=method)
        far = torch.full_like(x, torch.inf)
        *_, last = optimizer.iterate(optimizer.start(oracle, x, -far, far), oracle)
        assert not last.converged
        assert re.search(
            r"ended: .*[A-Za-z.]; by its slope, 1.5 times the objective is left to gain; see whether check_gradients",
            last.reason,
        )
