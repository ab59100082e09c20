"""What a search says of the design that it returns."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from tests.helpers.minima import quadratic, row
from torch_sla.problems.design.optimizers import (
    LBFGS,
    MMA,
    Adam,
    FunctionOracle,
    NewtonCG,
    Quantities,
    Scipy,
)


def visited(points, evaluate, equalities=()):
    """Return the states of a method that goes from point to point, with the oracle and the method."""
    oracle = FunctionOracle(evaluate, equalities=torch.tensor(equalities, dtype=torch.bool))
    optimizer = Scipy(method="SLSQP") if any(equalities) else MMA()
    first, *later = (row(*point) for point in points)
    states = [optimizer.start(oracle, first, row(-9.0, -9.0), row(9.0, 9.0))]
    for x in later:
        states.append(optimizer.moved(states[-1], oracle, x, oracle.value_and_grad(x), {}))
    return states, oracle, optimizer


def test_an_earlier_design_that_is_lower_by_less_than_the_tolerance_is_not_the_answer():
    """The valley is narrow: a design that is lower by 1e-8 has a slope that leaves half of the value to gain."""
    steep = lambda x: Quantities(1.0 + 1e4 * x[0] ** 2 + 1e-7 * (x[1] - 9.0) ** 2)  # noqa: E731
    (*_, near, last), oracle, optimizer = visited([(1.0, 0.0), (3e-6, 9.0), (0.0, 8.0)], steep)
    assert near.value < last.value < near.value + 1e-6
    assert not near.converged
    assert last.converged
    assert optimizer.best(last, oracle) is last


def test_an_earlier_design_that_is_lower_has_not_converged_where_more_is_left():
    """Two valleys: the search left the lower one, and ends in the other."""

    def valleys(x):
        return Quantities(2.0 + (x[0] ** 2 - 1) ** 2 + 0.2 * x[0] + x[1] ** 2)

    high = max(root.real for root in np.roots([4.0, 0.0, -4.0, 0.2]))
    points = [(3.0, 1.0), (-1.1, 0.1), (float(high), 0.0)]
    (*_, low, last), oracle, optimizer = visited(points, valleys)
    assert last.converged
    found = optimizer.best(last, oracle)
    assert torch.equal(found.x, low.x)
    assert not found.converged
    # To first order, each entry goes all the way to its bound.
    slope = 4 * -1.1 * (1.1**2 - 1) + 0.2
    left = (abs(slope) * 10.1 + 0.2 * 9.1) / low.value
    told = f"; step 1 led to the best design, where by its slope, {left:.2g} times the objective is left to gain"
    assert found.reason.endswith(told)


@pytest.mark.parametrize("equality", [False, True])
def test_what_a_violation_within_the_tolerance_buys_is_no_better_design(equality):
    """A price of 1e3 makes a violation of 9e-7 a fall by 9e-4, far more than the tolerance."""

    def evaluate(x):
        return Quantities(10.0 + 1e3 * x[0] + (x[1] - 1) ** 2, constraints=-x[:1])

    points = [(1.0, 0.0), (-9e-7, 1.001), (0.0, 1.0)]
    (*_, cheap, last), oracle, optimizer = visited(points, evaluate, (equality,))
    assert cheap.figures["violation"] <= optimizer.constraint_tolerance
    assert cheap.value < last.value - 1e-5 * last.value
    assert last.converged
    assert optimizer.best(last, oracle) is last


def test_a_search_that_reached_its_limit_tells_what_is_left_to_gain():
    """Of a convex function, what its slope leaves to gain is at least what is."""
    case = quadratic()
    oracle = quadratic().oracle(lambda x: Quantities(case.evaluate(x).objective + 10))
    for optimizer in (LBFGS(max_iterations=3), NewtonCG(max_iterations=1), Adam(max_iterations=9)):
        *_, last = optimizer.iterate(
            optimizer.start(oracle, case.start, case.lower, case.upper), oracle
        )
        told = re.search(
            r"steps were taken; by its slope, (\S+) times the objective is left to gain$",
            last.reason,
        )
        assert told
        assert 1e-6 < last.value - case.value - 10 <= float(told[1]) * last.value * 1.05
