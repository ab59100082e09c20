"""What every optimizer must do: find known minima, go on from any iteration to the same bits, survive rejections."""

from __future__ import annotations

import itertools
import json
import math

import pytest
import torch

from tests.helpers.minima import MINIMA, FailedError, Minimum, hs71, quadratic, rosenbrock, row
from torch_sla.errors import ArgumentError
from torch_sla.problems.design.optimizers import (
    LBFGS,
    MMA,
    OPTIMIZERS,
    Adam,
    FunctionOracle,
    GaussNewton,
    LevenbergMarquardt,
    NewtonCG,
    OptimalityCriteria,
    Quantities,
    Scipy,
    State,
    TorchOptim,
)
from torch_sla.problems.design.optimizers.oracle import RejectedPoint
from torch_sla.problems.design.optimizers.scipy import BOUNDED, METHODS

INF = math.inf


FREE = ("quadratic", "rosenbrock")
INEQUALITY = ("cantilever", "two_bars", "rosen_suzuki", "resource")
TIGHT = {"gradient_tolerance": 1e-7}

RUNS = {
    "lbfgs": (LBFGS(**TIGHT), (*FREE, "decay")),
    "lbfgs_restarted": (LBFGS(restart=25, **TIGHT), (*FREE, "decay")),
    "newton_cg": (NewtonCG(**TIGHT), (*FREE, "decay")),
    "gauss_newton": (GaussNewton(**TIGHT), ("squares", "decay")),
    "levenberg_marquardt": (LevenbergMarquardt(**TIGHT), ("squares", "decay")),
    "mma": (MMA(**TIGHT), INEQUALITY),
    "gcmma": (MMA(globally_convergent=True, **TIGHT), ("quadratic", *INEQUALITY)),
    "optimality_criteria": (OptimalityCriteria(step_tolerance=1e-9, damping=0.3), ("resource",)),
    "adam": (Adam(learning_rate=0.05, gradient_tolerance=1e-4), ("quadratic",)),
    "sgd": (
        TorchOptim(name="SGD", options={"lr": 0.1, "momentum": 0.5}, gradient_tolerance=1e-6),
        ("quadratic",),
    ),
    "torch_lbfgs": (
        TorchOptim(
            name="LBFGS",
            options={"line_search_fn": "strong_wolfe", "max_iter": 4, "tolerance_change": 1e-14},
            gradient_tolerance=1e-4,
        ),
        ("rosenbrock",),
    ),
    "slsqp": (Scipy(method="SLSQP", options={"ftol": 1e-10}), (*FREE, *INEQUALITY[:3], "hs71")),
    "trust_constr": (
        Scipy(method="trust-constr", options={"gtol": 1e-9, "xtol": 1e-12, "barrier_tol": 1e-10}),
        ("quadratic", "cantilever", "hs71"),
    ),
    "tnc": (Scipy(method="TNC"), ("quadratic",)),
    "nelder_mead": (
        Scipy(method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12}),
        ("rosenbrock",),
    ),
}
PAIRS = [(name, case) for name, (_, cases) in RUNS.items() for case in cases]


def travelled(optimizer, case, oracle=None):
    oracle = oracle or case.oracle()
    states = [optimizer.start(oracle, case.start, case.lower, case.upper)]
    states.extend(optimizer.iterate(states[0], oracle))
    return states


def same(a: State, b: State):
    (s, t), (u, v) = a.pack(), b.pack()
    assert t == v
    assert s.keys() == u.keys()
    assert all(torch.equal(s[name], u[name]) for name in s)


def reread(state: State) -> State:
    tensors, data = state.pack()
    return State.unpack({n: t.clone() for n, t in tensors.items()}, json.loads(json.dumps(data)))


def test_every_optimizer_has_runs():
    assert {type(o) for o, _ in RUNS.values()} == set(OPTIMIZERS)
    assert len({kind.type for kind in OPTIMIZERS}) == len(OPTIMIZERS)


@pytest.mark.parametrize(("name", "case"), PAIRS)
def test_finds_the_minimum(name, case):
    problem = MINIMA[case]()
    states = travelled(RUNS[name][0], problem)
    last = states[-1]
    assert last.done, last.reason
    assert last.converged, last.reason
    assert [s.iteration for s in states[:-1]] == list(range(len(states) - 1))
    rtol = 1e-5 if name == "trust_constr" else 1e-6  # its barrier keeps away from bounds
    assert abs(last.value - problem.value) <= rtol * max(1.0, abs(problem.value))
    assert float((last.x - problem.best).abs().max()) <= 2e-3
    assert bool(((last.x >= problem.lower) & (last.x <= problem.upper)).all())
    assert last.figures["violation"] <= 1e-6


@pytest.mark.parametrize("name", RUNS)
def test_goes_on_from_every_iteration_to_the_same_bits(name):
    optimizer, cases = RUNS[name]
    problem = MINIMA[cases[-1]]()
    states = travelled(optimizer, problem)
    chosen = range(len(states) - 1) if len(states) < 30 else range(0, len(states) - 1, 17)
    for k in chosen:
        same(optimizer.step(reread(states[k]), problem.oracle()), states[k + 1])
    middle = len(states) // 2
    again = list(optimizer.iterate(reread(states[middle]), problem.oracle()))
    assert len(again) == len(states) - 1 - middle
    same(again[-1], states[-1])
    assert optimizer.step(states[-1], problem.oracle()) is states[-1]


REJECTING = {
    **{n: o for n, (o, _) in RUNS.items() if n not in ("nelder_mead", "sgd", "torch_lbfgs")},
    "adam": Adam(learning_rate=0.5, gradient_tolerance=1e-4),
    "optimality_criteria": OptimalityCriteria(step_tolerance=1e-9, move=1.0, damping=0.8),
}


@pytest.mark.parametrize("name", REJECTING)
def test_a_point_without_a_value_shortens_the_step(name):
    """Minima are near the edge of where there are values, and first steps lead beyond it."""
    optimizer = REJECTING[name]
    a = row(1.0, 10.0, 100.0)
    bare = name not in ("mma", "gcmma", "optimality_criteria")
    best = 1 / a if bare else torch.sqrt(a) * 3 / torch.sqrt(a).sum()
    count = 0

    def evaluate(x):
        nonlocal count
        if bool((x <= (0.0 if bare else 0.205)).any()):
            count += 1
            raise FailedError
        if not bare:
            return Quantities((a / x).sum(), constraints=(x.sum() - 3).reshape(1))
        if optimizer.needs_least_squares:
            return Quantities(residual=torch.sqrt(a * x) - 1)
        return Quantities((a * x - torch.log(a * x)).sum())

    first = torch.full((3,), 0.9).double()
    lower = -2 + 0 * a if bare else 0.01 + 0 * a
    case = Minimum(evaluate, first, lower, 3 + 0 * a, best, 0.0, () if bare else (False,), True)
    states = travelled(optimizer, case)
    assert count > 0
    assert all(math.isfinite(s.value) for s in states)
    assert torch.allclose(states[-1].x, best, atol=1e-3)
    assert states[-1].converged
    assert sum(s.figures.get("rejected", 0) for s in states) > 0
    for k in range(0, len(states) - 1, max(1, len(states) // 5)):
        same(optimizer.step(reread(states[k]), case.oracle()), states[k + 1])


def test_a_first_point_without_a_value_is_said():
    def evaluate(x):
        raise FailedError("no convergence")

    case = rosenbrock()
    with pytest.raises(RejectedPoint, match="no convergence"):
        travelled(LBFGS(), case, case.oracle(evaluate))


@pytest.mark.parametrize("name", RUNS)
def test_what_a_method_cannot_do_it_refuses(name):
    optimizer = RUNS[name][0]
    problem = hs71()
    if name in ("slsqp", "trust_constr"):
        return
    with pytest.raises(ArgumentError, match=r"equality constraints|cannot impose constraints"):
        optimizer.start(problem.oracle(), problem.start, problem.lower, problem.upper)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_of_scipy_runs(method):
    bounded = method in BOUNDED
    case = rosenbrock()
    if not bounded:
        case.lower, case.upper = torch.full((2,), -INF).double(), torch.full((2,), INF).double()
    states = travelled(Scipy(method=method, max_iterations=400), case)
    assert states[-1].value < (1.0 if method == "COBYLA" else 1e-3)  # it began at 24
    assert len(states) > 3
    same(Scipy(method=method, max_iterations=400).step(reread(states[2]), case.oracle()), states[3])


def test_errors_of_the_function_reach_the_caller():
    case = rosenbrock()
    seen = 0

    def evaluate(x):
        nonlocal seen
        seen += 1
        if seen > 3:
            raise KeyError("not a failed solve")
        return case.evaluate(x)

    with pytest.raises(KeyError, match="not a failed solve"):
        travelled(LBFGS(), case, case.oracle(evaluate))


def test_a_replay_that_differs_is_refused():
    case = rosenbrock()
    states = travelled(LBFGS(), case)
    with pytest.raises(ArgumentError, match="other questions"):
        LBFGS(memory=1).step(reread(states[8]), case.oracle())


def test_replay_solves_nothing_again():
    case = rosenbrock()
    states = travelled(LBFGS(), case)
    oracle = case.oracle()
    LBFGS().step(reread(states[10]), oracle)
    assert oracle.evaluations <= 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LBFGS(memory=0), "`memory` must be a whole number >= 1, got 0"),
        (lambda: LBFGS(max_iterations=0), "`max_iterations`"),
        (lambda: MMA(move=0.0), "`move` must be > 0.0, got 0.0"),
        (lambda: MMA(asymptote_shrink=1.5), "`asymptote_shrink` must be <= 1"),
        (lambda: Adam(betas=(1.0, 0.5)), "`betas`"),
        (lambda: TorchOptim(name="SGD", options={"mass": 1}), "refuses `options`"),
        (
            lambda: NewtonCG(gradient_tolerance=-1.0),
            "`gradient_tolerance` must be >= 0.0, got -1.0",
        ),
    ],
)
def test_bad_options_are_named(make, message):
    with pytest.raises(ArgumentError, match=message.replace("(", r"\(")):
        make()


def test_mma_needs_bounds():
    case = quadratic()
    upper = case.upper.clone()
    upper[2] = INF
    with pytest.raises(ArgumentError, match="entry 2 of x has"):
        MMA().start(case.oracle(), case.start, case.lower, upper)


def test_bounds_are_not_empty():
    case = quadratic()
    with pytest.raises(ArgumentError, match="must not be empty; entry 0"):
        LBFGS().start(case.oracle(), case.start, case.upper, case.lower)


def test_a_fixed_variable_stays():
    case = quadratic()
    lower, upper = case.lower.clone(), case.upper.clone()
    lower[3] = upper[3] = 0.4
    values = []
    for optimizer in (LBFGS(**TIGHT), RUNS["gcmma"][0], NewtonCG(**TIGHT)):
        first = optimizer.start(case.oracle(), case.start, lower, upper)
        *_, last = optimizer.iterate(first, case.oracle())
        assert float(last.x[3]) == 0.4
        assert last.converged
        values.append(last.value)
    assert max(values) - min(values) < 1e-10


def test_gcmma_never_rises():
    states = travelled(RUNS["gcmma"][0], quadratic())
    values = [s.value for s in states]
    assert all(b <= a + 1e-10 for a, b in itertools.pairwise(values))


def test_optimality_criteria_keep_a_constraint_that_bends():
    """Behind a steep projection a step that is right for the linearised volume overshoots."""
    c = torch.linspace(1, 3, 30, dtype=torch.float64)

    def evaluate(x):
        density = 0.01 + torch.sigmoid(20 * (x - 0.5))
        return Quantities((c / density).sum(), constraints=(density.mean() - 0.4).reshape(1))

    start = torch.full((30,), 0.45).double()
    case = Minimum(evaluate, start, 0 * start, 1 + 0 * start, start, 0.0, (False,))
    states = travelled(OptimalityCriteria(max_iterations=60), case)
    assert states[-1].figures["violation"] < 2e-3
    assert states[-1].value < states[0].value
    assert max(s.figures["violation"] for s in states[1:]) < 0.02
    same(OptimalityCriteria(max_iterations=60).step(reread(states[5]), case.oracle()), states[6])


@pytest.mark.parametrize("bound", [None, 0.05], ids=["free", "constrained"])
def test_the_best_feasible_design_of_all_steps_is_told(bound):
    def evaluate(x):
        limit = None if bound is None else (bound - x[:1])
        return Quantities((x - 0.1).abs().sum(), constraints=limit)

    oracle = FunctionOracle(
        evaluate, equalities=torch.zeros(int(bound is not None), dtype=torch.bool)
    )
    optimizer = MMA(max_iterations=6, asymptote_shrink=1.0, gradient_tolerance=0.0)
    ends = (torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64))
    first = optimizer.start(oracle, torch.tensor([0.15, 0.3], dtype=torch.float64), *ends)
    states = [first, *optimizer.iterate(first, oracle)]
    feasible = [s for s in states if s.figures["violation"] <= optimizer.constraint_tolerance]
    least = min(reversed(feasible), key=lambda s: s.value)
    last = reread(states[-1])
    assert least.value < last.value
    found = optimizer.best(last, oracle)
    assert found.value == least.value
    assert torch.equal(found.x, least.x)
    assert torch.equal(found.constraints, least.constraints)
    assert f"step {least.iteration}" in found.reason
    assert found.figures == least.figures
    assert optimizer.best(least, oracle) is least


def test_a_design_that_is_not_feasible_does_not_hide_a_better_one():
    def evaluate(x):
        return Quantities(x.sum(), constraints=1.0 - x[:1])

    oracle = FunctionOracle(evaluate, equalities=torch.zeros(1, dtype=torch.bool))
    optimizer = MMA(max_iterations=2, move=0.01)
    ends = (torch.zeros(1, dtype=torch.float64), 3 * torch.ones(1, dtype=torch.float64))
    state = optimizer.start(oracle, 0.5 * ends[1], *ends)
    below = torch.tensor([0.9], dtype=torch.float64)
    left = State(below, *ends, oracle.value_and_grad(below), 1, memory=state.memory)
    left = optimizer.judged(left, state, oracle)
    assert left.figures["violation"] > optimizer.constraint_tolerance
    assert optimizer.best(left, oracle) is left  # cheaper than the last feasible one


@pytest.mark.parametrize("first", [False, True])
def test_products_are_right_where_the_graph_was_not_kept(first):
    def evaluate(x):
        return Quantities((x**4).sum(), residual=x**2)

    x, v = torch.tensor([[1.0, 2.0], [3.0, -1.0]], dtype=torch.float64)
    oracle = FunctionOracle(evaluate)
    if first:
        oracle.value_and_grad(x)
    torch.testing.assert_close(oracle.hvp(x, v), 18 * x**2 * v)
    torch.testing.assert_close(oracle.residual_vjp(x, oracle.residual_jvp(x, v)), 4 * x**2 * v)
    torch.testing.assert_close(oracle.gauss_newton(x, v), 16 * x**2 * v)
    assert oracle.evaluations == 1 + first


@pytest.mark.parametrize("globally", [False, True])
def test_room_to_constraints_counts_as_left_to_gain(globally: bool) -> None:
    # min -x - 2 y under x + y <= 1 and x + 3 y <= 2, convex: f - (-1.5) is at most what is left.
    oracle = FunctionOracle(
        lambda x: Quantities(
            objective=-x[0] - 2 * x[1],
            constraints=torch.stack([x[0] + x[1] - 1, x[0] + 3 * x[1] - 2]),
        ),
        equalities=torch.zeros(2, dtype=torch.bool),
    )
    zero = torch.zeros(2, dtype=torch.float64)
    optimizer = MMA(globally_convergent=globally, constraint_tolerance=0.0)
    state = first = optimizer.start(oracle, zero, zero, zero + 1)
    slope = float(first.memory["slope"])
    for state in optimizer.iterate(first, oracle):
        if state.figures["violation"] == 0:
            assert state.value + 1.5 <= state.figures["optimality"] * slope + 1e-12
    assert state.converged
    assert state.value + 1.5 <= 2 * optimizer.gradient_tolerance
