"""What is left to gain at a point, and the multipliers behind it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from torch_sla import DesignProblem, Dirichlet, IntervalMesh, Parameter, PoissonProblem, Variable
from torch_sla.problems.design.optimizers import (
    LBFGS,
    Evaluation,
    FunctionOracle,
    NewtonCG,
    Quantities,
    Scipy,
)
from torch_sla.problems.design.optimizers.optimality import gap, multipliers, ranges


def test_nothing_is_left_to_gain_at_a_minimum() -> None:
    # Gradients are made of multipliers of all sizes, so that points are minima of convex problems by construction.
    rng = np.random.default_rng(0)
    for _ in range(60):
        n, m = int(rng.integers(2, 30)), int(rng.integers(2, 12))
        jacobian = rng.normal(size=(m, n)) * 10.0 ** rng.uniform(-3, 3, (m, 1))
        jacobian[1] = jacobian[0]  # the same constraint, with room to spare
        active = rng.random(m) < 0.4
        active[:2] = True, False
        equal = active & (rng.random(m) < 0.2)
        size = 10.0 ** rng.uniform(-3, 3, m) / np.abs(jacobian).max(1)
        given = np.where(active, np.where(equal, -size, size), 0.0)
        room = np.where(active, 0.0, 10.0 ** rng.uniform(-6, 2, m))
        x = torch.from_numpy(rng.uniform(0.1, 0.9, n))
        gradient, rows = torch.from_numpy(-given @ jacobian), torch.from_numpy(jacobian)
        lower, upper, equalities = torch.zeros_like(x), torch.ones_like(x), torch.from_numpy(equal)
        lengths = ranges(x, lower, upper)
        at = Evaluation(0.0, gradient, torch.from_numpy(-room), rows)
        found = multipliers(x, at, lower, upper, lengths, equalities)
        assert bool((found[~equalities] >= 0).all())
        left = gap(x, gradient + found @ rows, lower, upper, lengths)
        idle = float((found * torch.from_numpy(room)).sum())
        assert left + idle <= 1e-8 * float((gradient.abs() * lengths).sum())


METHODS = [
    LBFGS(),
    NewtonCG(),
    *(
        Scipy(method=method, max_iterations=60)
        for method in ("SLSQP", "BFGS", "CG", "Newton-CG", "trust-ncg")
    ),
]
FALLING = {
    "linear": lambda x: 100 - x[0] + (x[1] - 3) ** 2,
    "cubic": lambda x: x[0] ** 3 + x[1] ** 2,
    "concave": lambda x: -(x[0] ** 2) - torch.log(1 + x[1] ** 2),
    "logarithmic": lambda x: -torch.log(1 + x.square().sum()),
}


def searched(function, x, optimizer, lower=-torch.inf, upper=torch.inf):
    oracle = FunctionOracle(lambda x: Quantities(function(x)), second_order=True)
    x = torch.as_tensor(x, dtype=torch.float64)
    bounds = torch.full_like(x, lower), torch.full_like(x, upper)
    *_, last = optimizer.iterate(optimizer.start(oracle, x, *bounds), oracle)
    return last


@pytest.mark.parametrize("optimizer", METHODS, ids=lambda o: getattr(o, "method", o.type))
@pytest.mark.parametrize("kind", FALLING)
def test_nothing_that_falls_for_ever_has_a_minimum(kind: str, optimizer) -> None:
    """The slope is little beside the value in the end, whatever the power of the variable."""
    assert not searched(FALLING[kind], [-1.0, 0.5], optimizer).converged


def test_a_variable_that_nothing_bounds_is_named() -> None:
    rod = PoissonProblem(
        mesh=IntervalMesh(cells=2),
        source="q + f",
        parameters=[Parameter("q", default=1.0), Parameter("f", on="cells", default=0.0)],
        boundary=[Dirichlet("left", 0.0), Dirichlet("right", 0.0)],
    )
    problem = DesignProblem(
        of=rod,
        variables=[Variable("q", bounds=(0.0, 1.0)), Variable("f")],
        objective="sum(u)",
        optimizer=NewtonCG(),
    )
    found = problem.solve()
    assert not found.converged
    assert "of 'f' went to -" in found.reason
    assert "nothing bounds it; give it a bound or a constraint" in found.reason
    # More steps would not be of use.
    assert found.iterations < problem.optimizer.max_iterations
    held = problem.updated(
        variables=[Variable("q", bounds=(0.0, 1.0)), Variable("f", bounds=(-1e9, None))]
    )
    found = held.solve()
    assert found.converged, found.reason
    assert found.design["f"].tolist() == [-1e9, -1e9]


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_variable_may_go_to_a_bound_that_is_far_away(sign: float) -> None:
    """That it has none on the other side says nothing."""
    sides = sorted([-1e13 * sign, torch.inf * sign])
    found = searched(lambda x: sign * x.sum(), [0.0, 0.0], NewtonCG(), *sides)
    assert found.converged, found.reason
    assert found.x.tolist() == [-1e13 * sign] * 2


@pytest.mark.parametrize("optimizer", [LBFGS(), NewtonCG()], ids=lambda o: o.type)
@pytest.mark.parametrize("length", [1e-6, 1e-3, 1.0, 1e4, 1e7])
def test_a_minimum_is_found_at_any_length(length: float, optimizer) -> None:
    function = lambda x: 1 + ((x / length - torch.tensor([1.0, 3.0])) ** 2).sum()  # noqa: E731
    for lower in (-torch.inf, 0.0):
        found = searched(function, [0.0, 0.0], optimizer, lower)
        assert found.converged, found.reason
        # What is left to gain is 1e-6 of the value at most.
        assert found.value - 1 < 1e-6
        assert (found.x / length).tolist() == pytest.approx([1.0, 3.0], abs=1e-3)
