"""Constraints that see the state: one adjoint solve for all of them, with the objective."""

from __future__ import annotations

import pytest
import torch

from torch_sla import (
    MMA,
    DesignProblem,
    Dirichlet,
    Integral,
    Parameter,
    PoissonProblem,
    Probe,
    RectangleMesh,
    Scipy,
    Solver,
    Variable,
)
from torch_sla.errors import SpecError
from torch_sla.linalg import cache_counters

WAYS = {
    "direct": {"solver": Solver(backend="native", method="cholesky")},
    "iterative": {"solver": Solver(method="cg", preconditioner="multigrid", rtol=1e-10)},
    "newton": {"diffusivity": "k*(1 + u**2)"},
}


def plate(way: str = "direct", **changes) -> DesignProblem:
    """Least material for readings that stay below their bounds."""
    fields = {
        "mesh": RectangleMesh(cells=(6, 5)),
        "diffusivity": "k",
        "parameters": [Parameter("k", on="cells", default=1.0)],
        "source": 1.0,
        "boundary": [Dirichlet(on=["left", "right", "bottom", "top"], value=0.0)],
        "outputs": [
            Probe("readings", at=[[0.3, 0.4], [0.6, 0.7], [0.2, 0.8]]),
            Integral("heat", "u"),
            Integral("material", "k"),
        ],
    }
    search = {
        "variables": [Variable("k", bounds=(0.2, 5.0))],
        "objective": "heat",
        "constraints": [
            "readings[0] <= 0.06",
            "readings[1] <= 0.05",
            "material <= 1.2",
            "p_norm(readings, 8) <= 0.07",
        ],
        "optimizer": MMA(max_iterations=3),
    }
    return DesignProblem(of=PoissonProblem(**{**fields, **WAYS[way]}), **{**search, **changes})


def counted(run):
    before = cache_counters()
    found = run()
    after = cache_counters()
    return {n: after[n] - before[n] for n in ("factorize", "solve")}, found


@pytest.mark.parametrize("way", WAYS)
def test_one_adjoint_solve_for_objective_and_constraints(way: str) -> None:
    problem = plate(way)
    oracle = problem.oracle()
    x = oracle.start + 0.1 * torch.sin(torch.arange(len(oracle.start), dtype=torch.float64))
    with torch.no_grad():
        forward, _ = counted(lambda: problem.of.solve(k=x))
    work, found = counted(lambda: oracle.value_and_grad(x))
    assert work["solve"] == forward["solve"] + 1
    assert found.jacobian.shape == (4, len(x))
    for i in range(-1, 4):

        def value(at, i=i):
            e = oracle.value_and_grad(at)
            return e.value if i < 0 else float(e.constraints[i])

        step = torch.cos(torch.arange(len(x), dtype=torch.float64))
        slope = (value(x + 1e-5 * step) - value(x - 1e-5 * step)) / 2e-5
        gradient = found.gradient if i < 0 else found.jacobian[i]
        assert float(gradient @ step) == pytest.approx(slope, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize(
    "optimizer", [MMA(max_iterations=12), Scipy(method="SLSQP", max_iterations=12)]
)
def test_searches_need_two_solves_for_each_point(optimizer) -> None:
    work, found = counted(lambda: plate(optimizer=optimizer).solve())
    points = sum(found.history["solves"])
    assert work["factorize"] <= points  # a factor that is asked for again is still there
    assert work["solve"] == 2 * points + 1
    assert found.history[-1]["violation"] <= 1e-3
    assert found.objective < found.history[0]["objective"]


def test_functions_in_python_go_together_too() -> None:
    problem = plate(
        constraints=[lambda s: s["readings"] - 0.07, "material <= 1.2"],
        objective=lambda s: s["heat"],
    )
    oracle = problem.oracle()
    oracle.begin(oracle.start)
    x = 1.3 * oracle.start
    work, found = counted(lambda: oracle.value_and_grad(x))
    assert work == {"factorize": 1, "solve": 2}
    one = plate(constraints=["readings[1] <= 0.07"]).oracle().value_and_grad(x)
    # What is declared comes first, and is relative to its bound.
    expected = 0.07 * one.jacobian[0]
    torch.testing.assert_close(found.jacobian[2], expected, rtol=1e-10, atol=1e-14)


def test_what_the_design_violates_is_said_with_the_reason() -> None:
    found = plate(constraints=["material <= 0.1"]).solve()  # bounds leave 0.2 at least
    assert not found.converged
    violated = float(found.constraints.max())
    assert violated > 0.5
    assert found.reason.endswith(f"constraints are violated by up to {violated:.3g}")
    assert found.reason in repr(found)
    assert "violated" not in plate(constraints=["material <= 5.0"]).solve().reason


BOX = [Variable("k", bounds=(0.2, 5.0))]


def square(**changes) -> DesignProblem:
    """A search over two conductivities."""
    fields = {"mesh": RectangleMesh(cells=(1, 1)), "outputs": [Integral("material", "k")]}
    search = {"objective": "k[0]", "variables": BOX, "constraints": []}
    return DesignProblem(of=plate().of.updated(**fields), **{**search, **changes})


@pytest.mark.parametrize("constraints", [["mean(k) <= 1.0"], ["mean(k) == 1.0", "k[0] <= 2*k[1]"]])
def test_a_linear_goal_is_nothing_to_warn_of(constraints: list[str]) -> None:
    """Its gradient never changes, which the routine that estimates second derivatives takes for a mistake."""
    found = square(
        objective="-k[0] - 3*k[1]",
        constraints=constraints,
        optimizer=Scipy(method="trust-constr"),
    ).solve()
    assert found.converged, found.reason
    assert found.design["k"].tolist() == pytest.approx([0.2, 1.8], abs=2e-3)


REFUSED = {
    "constraints": ({"constraints": ["mean(k) <= 1.0"], "optimizer": "lbfgs"}, "only bounds"),
    "function": ({"constraints": [lambda s: s["material"] - 1], "optimizer": "lbfgs"}, "only bou"),
    "equalities": ({"constraints": ["mean(k) == 1.0"], "optimizer": "mma"}, "equality constr"),
    "one": ({"optimizer": "optimality_criteria"}, "exactly one inequality constraint.* got 0"),
    "squares": ({"optimizer": "gauss_newton"}, "a sum of squares; take LBFGS"),
    "bounds": (
        {"variables": [Variable("k", bounds=(0.2, None))], "optimizer": "mma"},
        r"finite bounds for every variable; unknown 0 of 'k' has \[0.2, inf\]",
    ),
    "no bounds": ({"optimizer": Scipy(method="BFGS")}, "BFGS knows no bounds; one of Nelder-Mead"),
    "stage": (
        {
            "constraints": ["mean(k) <= 1.0"],
            "optimizer": "mma",
            "stages": [{"optimizer": {"type": "lbfgs"}}],
        },
        "cannot impose constraints",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_method_that_cannot_is_refused_before_any_solve(kind: str) -> None:
    changes, message = REFUSED[kind]
    problem = square(**changes)
    path = "stages.0.optimizer" if kind == "stage" else "optimizer"
    with pytest.raises(SpecError, match=message) as caught:
        problem.check()
    assert caught.value.path == path
    before = cache_counters()["solve"]
    with pytest.raises(SpecError, match=message):
        problem.solve()
    assert cache_counters()["solve"] == before
