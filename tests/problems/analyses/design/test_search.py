"""The loop: what it finds, what it records, and what it costs."""

from __future__ import annotations

import csv
import json

import pytest
import torch

from tests.helpers.designs import GROUND, cantilever, conductivity, loads, rod
from tests.helpers.garbage import left_over
from torch_sla import (
    LBFGS,
    MMA,
    DesignProblem,
    Dirichlet,
    GaussNewton,
    Integral,
    IntervalMesh,
    Measured,
    NewtonCG,
    Parameter,
    PoissonProblem,
    Probe,
    RectangleMesh,
    Solver,
    SweepProblem,
    Variable,
    clear_cache,
    load_problem,
)
from torch_sla.errors import ArgumentError, SolveError, SpecError
from torch_sla.linalg import cache_counters


def counted(run) -> dict[str, int]:
    before = cache_counters()
    run()
    after = cache_counters()
    return {name: after[name] - before.get(name, 0) for name in after}


def test_methods_agree_where_there_is_one_minimum() -> None:
    found = [
        conductivity(method(gradient_tolerance=3e-8)).solve()
        for method in (LBFGS, GaussNewton, NewtonCG)
    ]
    for solution in found:
        assert solution.converged
        assert torch.allclose(solution.design["kappa"], found[0].design["kappa"], rtol=1e-5)
    # The result is the forward solution at the design, and the design is ready for the forward problem.
    first = found[0]
    plain = rod().solve(first.design)
    assert torch.equal(plain["T"], first.solution["T"])
    assert torch.equal(first["T"], first.solution["T"])
    assert first.fields["u"].shape == (7,)


def test_a_search_by_values_ends_in_their_rounding() -> None:
    """No gradient is small enough for it; whether a line search fails there depends on the processor."""
    solution = conductivity(LBFGS(gradient_tolerance=1e-20, max_iterations=200)).solve()
    assert solution.converged
    exact = conductivity(NewtonCG(gradient_tolerance=1e-12)).solve().design["kappa"]
    assert torch.allclose(solution.design["kappa"], exact, rtol=1e-6)


def test_everything_that_a_run_leaves(tmp_path) -> None:
    seen = []
    solution = cantilever(MMA(max_iterations=4)).solve(
        folder=tmp_path / "run", progress=seen.append, pictures=2
    )
    assert [p.done for p in seen] == list(range(len(solution.history)))
    assert {p.task for p in seen} == {"design"}
    assert {"objective", "optimality", "violation", "seconds"} <= set(seen[-1].figures)
    rows = list(csv.DictReader((tmp_path / "run/history.csv").read_text().splitlines()))
    assert [float(r["objective"]) for r in rows] == solution.history["objective"]
    assert json.loads((tmp_path / "run/history.json").read_text()) == solution.history.rows
    assert {"iteration", "objective", "gradient", "constraint_0", "solves", "seconds"} <= set(
        rows[0]
    )
    drawn = sorted(p.name for p in (tmp_path / "run/pictures").iterdir())
    assert drawn == ["rho-00000.png", "rho-00002.png", "rho-00004.png"]
    for ending in solution.endings:
        solution.save(tmp_path / f"d{ending}")
    told = json.loads((tmp_path / "d.json").read_text())
    assert told["search"]["objective"] == solution.objective
    assert told["spec_hash"] == solution.spec_hash
    solution.plot(tmp_path / "convergence.png")
    assert (tmp_path / "convergence.png").stat().st_size > 1000
    assert not list(tmp_path.rglob("*.part"))
    assert "4 iterations" in repr(solution)
    with pytest.raises(ArgumentError, match=r"\.xyz"):
        solution.save(tmp_path / "d.xyz")
    with pytest.raises(KeyError, match="no column"):
        solution.history["nothing"]


def test_a_folder_belongs_to_one_run(tmp_path) -> None:
    problem = conductivity(LBFGS(max_iterations=2))
    problem.solve(folder=tmp_path)
    with pytest.raises(ArgumentError, match="holds a run already"):
        problem.solve(folder=tmp_path)
    with pytest.raises(ArgumentError, match="belongs to another run"):
        conductivity(LBFGS(max_iterations=2, memory=3)).solve(resume=tmp_path)
    with pytest.raises(ArgumentError, match="belongs to another run"):
        problem.solve(resume=tmp_path, f=2.0)


def test_a_limit_may_be_raised(tmp_path) -> None:
    conductivity(LBFGS(max_iterations=3)).solve(folder=tmp_path)
    longer = conductivity(LBFGS(max_iterations=6))
    assert torch.equal(longer.solve(resume=tmp_path).unknowns, longer.solve().unknowns)


def test_each_evaluation_is_one_factor_and_no_analysis() -> None:
    problem = conductivity(LBFGS(max_iterations=3))
    oracle = problem.oracle()
    oracle.value_and_grad(oracle.start)
    counts = counted(lambda: oracle.value_and_grad(oracle.start + 0.1))
    # One factor serves the solve and its adjoint.
    assert counts["analyze"] == 0
    assert counts.get("factorize", 0) + counts.get("refactorize", 0) == 1
    assert counts["solve"] == 2


@pytest.mark.parametrize("method", [GaussNewton, NewtonCG])
def test_products_use_the_factor_of_the_solve(method) -> None:
    oracle = conductivity(method()).oracle()
    x = oracle.start + 0.1
    oracle.value_and_grad(x)
    v = torch.ones_like(x)
    oracle.gauss_newton(x, v) if method is GaussNewton else oracle.hvp(x, v)
    product = oracle.gauss_newton if method is GaussNewton else oracle.hvp
    counts = counted(lambda: product(x, 2 * v))
    assert counts.get("factorize", 0) + counts.get("refactorize", 0) + counts["analyze"] == 0
    assert counts["solve"] == 2
    assert oracle.evaluations == 1


@pytest.mark.parametrize("method", ["gauss_newton", "lbfgs"])
def test_a_search_leaves_nothing_to_the_garbage_collector(method) -> None:
    assert left_over(conductivity(method).solve) == []


def test_products_are_those_of_the_objective() -> None:
    newton = conductivity(NewtonCG()).oracle()
    x = newton.start + 0.05 * torch.arange(6, dtype=torch.float64)
    v = torch.linspace(-1.0, 1.0, 6, dtype=torch.float64)
    h = 1e-5
    plus, minus = (newton.value_and_grad(x + s * h * v).gradient for s in (1, -1))
    assert torch.allclose(newton.hvp(x, v), (plus - minus) / (2 * h), rtol=1e-6, atol=1e-8)
    gauss = conductivity(GaussNewton()).oracle()
    w = torch.linspace(1.0, 2.0, gauss.residual_jvp(x, v).numel(), dtype=torch.float64)
    left, right = gauss.residual_jvp(x, v) @ w, v @ gauss.residual_vjp(x, w)
    assert float((left - right).abs()) < 1e-10 * float(left.abs())


def test_cases_share_one_factor() -> None:
    clear_cache()
    problem = DesignProblem(
        of=SweepProblem(of=rod(), cases={"f": [0.1 * i for i in range(20)]}),
        variables=[Variable("kappa", transform=["log"])],
        objective="sum((T - 0.1)**2)",
    )
    oracle = problem.oracle()
    counts = counted(lambda: oracle.value_and_grad(oracle.start))
    assert counts.get("factorize", 0) + counts.get("refactorize", 0) == 1
    assert counts["solve"] == 2


def test_problems_of_one_matrix_share_its_factor() -> None:
    clear_cache()
    of = {"a": rod(source=1.0), "b": rod(source="x"), "c": rod(source="sin(x)")}
    problem = DesignProblem(
        of=of,
        variables=[Variable("kappa", transform=["log"])],
        objective="sum(a_T**2) + sum(b_T**2) + sum(c_T**2)",
    )
    oracle = problem.oracle()
    counts = counted(lambda: oracle.value_and_grad(oracle.start))
    assert counts.get("factorize", 0) + counts.get("refactorize", 0) == 1
    assert counts["analyze"] == 1


def test_several_problems_are_the_sum_of_each() -> None:
    oracle = loads("lbfgs").oracle()
    kappa = oracle.start + 0.1
    T = torch.stack([rod().solve(kappa=kappa, f=f)["T"] for f in (1.0, 2.0)])
    still = rod(source=0.5, outputs=[Integral("mean", "u")]).solve(kappa=kappa)["mean"]
    wanted = ((T - 0.1) ** 2).sum() + still**2
    regular = 0.001 * 0.5 * ((kappa - 1) ** 2).mean()
    assert oracle.value_and_grad(kappa).value == pytest.approx(float(wanted + regular), rel=1e-12)


def test_a_solve_that_fails_is_a_shorter_step() -> None:
    # Without a transform or bounds, long steps reach conductivities below zero, which have no solution.
    problem = conductivity(
        LBFGS(),
        variables=[Variable("kappa", initial=0.5)],
        objective="misfit(T) + 0.05*tikhonov(kappa, 1.0)",
        data={"T": Measured([0.5, 1.0, 0.9], noise=0.1)},
    )
    oracle = problem.oracle()
    failures = []
    evaluate = oracle.evaluate

    def watched(x):
        try:
            return evaluate(x)
        except (ArgumentError, SolveError) as error:
            failures.append(str(error))
            raise

    oracle.evaluate = watched
    oracle.begin(oracle.start)
    first = problem.optimizer.start(oracle, oracle.start, oracle.lower, oracle.upper)
    *_, state = problem.optimizer.iterate(first, oracle)
    assert any("diffusivity must be positive" in text for text in failures)
    assert state.converged
    assert float(state.x.min()) > 0
    assert problem.solve().converged


def test_at_the_start_it_is_an_error() -> None:
    problem = conductivity(
        LBFGS(), variables=[Variable("kappa", initial=-1.0)], objective="misfit(T)"
    )
    with pytest.raises(ArgumentError, match="diffusivity must be positive"):
        problem.solve()


def test_functions_in_python() -> None:
    text = conductivity(LBFGS(), objective="sum(T**2) + mean(kappa)", data={})
    live = conductivity(
        LBFGS(),
        objective=lambda s, values: s["T"].square().sum() + values["kappa"].mean(),
        data={},
    )
    assert live.solve().objective == pytest.approx(text.solve().objective, rel=1e-12)
    both = conductivity(
        MMA(),
        variables=[Variable("kappa", bounds=(0.1, 2.0))],
        objective=lambda s: s["T"].sum(),
        constraints=[lambda s, v: v["kappa"].mean() - 1.2, "mean(kappa) >= 0.5"],
        data={},
    ).solve()
    # Written ones come first, relative to their bound: (0.5 - 1.2)/0.5.
    assert both.constraints.tolist() == pytest.approx([-1.4, 0.0], abs=1e-3)
    assert float(both.design["kappa"].mean()) == pytest.approx(1.2, abs=1e-4)
    with pytest.raises(ArgumentError, match="one number is needed"):
        conductivity(LBFGS(), objective=lambda s: s["T"], data={}).solve()


def test_bounds_and_starts_by_place() -> None:
    problem = DesignProblem(
        of=PoissonProblem(
            mesh=IntervalMesh(cells=4),
            diffusivity=Parameter("kappa", on="cells", default="1 + x"),
            source=1.0,
            boundary=GROUND,
            outputs=[Probe("T", at=[(0.5,)])],
        ),
        variables=[Variable("kappa", bounds=("where(x < 0.5, 1.0, 0.5)", "2 + x"))],
        objective="-T[0]",
        optimizer="lbfgs",
    )
    oracle = problem.oracle()
    assert oracle.start.tolist() == [1.125, 1.375, 1.625, 1.875]
    assert oracle.lower.tolist() == [1.0, 1.0, 0.5, 0.5]
    assert oracle.upper.tolist() == [2.125, 2.375, 2.625, 2.875]
    # Less conductivity anywhere makes the middle warmer.
    assert torch.allclose(problem.solve().design["kappa"], oracle.lower)


def test_points_without_a_transform() -> None:
    of = PoissonProblem(
        mesh=IntervalMesh(cells=3),
        source=1.0,
        boundary=[Dirichlet("left", 0.0)],
        outputs=[Integral("length", "1.0"), Integral("heat", "u")],
    )
    problem = DesignProblem(
        of=of,
        variables=[Variable("points")],
        objective="(length - 1.5)**2 + (heat - 1.0)**2",
        optimizer=LBFGS(gradient_tolerance=1e-9),
    )
    found = problem.solve()
    assert found.objective < 0.03
    assert found.design["points"].shape == (4, 1)
    assert problem.check_gradients().passed


def test_stages_follow_each_other(tmp_path) -> None:
    stages = [
        {"variables.0.transform.1.beta": 4.0},
        {"variables.0.transform.1.beta": 8.0, "optimizer.max_iterations": 3},
    ]
    chain = [{"type": "cone_filter", "radius": 0.5}, {"type": "projection", "beta": 1.0}]
    rho = Variable("rho", bounds=(0.0, 1.0), transform=chain)
    problem = cantilever(MMA(max_iterations=4), variables=[rho], stages=stages)
    whole = problem.solve()
    assert whole.history["stage"] == [0] * 5 + [1] * 5 + [2] * 4
    assert whole.history["iteration"] == list(range(14))
    assert whole.iterations == 13
    # Each stage is the search that a person would start there.
    first = cantilever(MMA(max_iterations=4), variables=[rho]).solve()
    assert whole.history["objective"][:5] == first.history["objective"]
    sharper = cantilever(
        MMA(max_iterations=4),
        variables=[rho.updated(transform=[chain[0], {"type": "projection", "beta": 4.0}])],
    ).oracle()
    there = sharper.value_and_grad(first.unknowns).value
    assert whole.history["objective"][5] == pytest.approx(there, rel=1e-12)
    assert torch.equal(whole["volume"], whole.solution["volume"])

    def stop(progress) -> None:
        if progress.done == at:
            raise InterruptedError

    for at in (4, 5, 11):
        with pytest.raises(InterruptedError):
            problem.solve(folder=tmp_path / str(at), progress=stop)
        again = problem.solve(resume=tmp_path / str(at))
        assert torch.equal(again.unknowns, whole.unknowns)
        assert again.history["objective"] == whole.history["objective"]


def test_stages_are_checked_when_declared(tmp_path) -> None:
    def staged(**stage):
        return conductivity(LBFGS(max_iterations=2), stages=[{"optimizer.memory": 5}, stage])

    problem = staged(objective="misfit(T) + 0.1*tikhonov(log(kappa))")
    problem.to_yaml(tmp_path / "d.yaml")
    assert load_problem(tmp_path / "d.yaml").spec_hash == problem.spec_hash
    assert staged(objective="misfit(T)").spec_hash != problem.spec_hash
    wrong = {
        "optimizer.memry": (
            3,
            r"stages.1.optimizer.memry: there is no field 'memry' \(did you mean",
        ),
        "optimizer.memory": (0, r"stages.1.optimizer.memory: .*memory"),
        "variables.3.bounds": (
            None,
            r"stages.1.variables.3.bounds: '3' is no index of a list of 1",
        ),
        "objective": ("misfit(S)", r"stages.1.objective: no data is called 'S'"),
        "of.mesh.cells": ("x", r"stages.1.of.mesh.cells"),
        "stages": ([], r"stages.1.stages: this is the same in all stages"),
        "optimizer.memory.x": (1, r"which is a single value"),
    }
    for path, (value, message) in wrong.items():
        with pytest.raises(SpecError, match=message):
            staged(**{path: value})
    with pytest.raises(SpecError, match=r"stages.1: it has 3 unknowns, and the one before 6"):
        staged(**{"of.mesh.cells": 3}).solve()


def test_a_variable_that_reaches_nothing_is_refused() -> None:
    idle = PoissonProblem(
        mesh=IntervalMesh(cells=4),
        diffusivity=Parameter("kappa", on="cells", default=1.0),
        source=Parameter("f", default=1.0),
        boundary=GROUND,
        outputs=[Integral("heat", "f"), Probe("T", at=[(0.5,)])],
    )
    problem = DesignProblem(
        of=idle, variables=[Variable("f"), Variable("kappa")], objective="(heat - 2)**2"
    )
    with pytest.raises(SpecError, match=r"variables.1: neither the objective nor .* 'kappa'"):
        problem.solve()
    with pytest.raises(SpecError, match="depends on 'kappa'"):
        DesignProblem(of=idle, variables=[Variable("kappa")], objective="heat**2").solve()
    # Where it is zero at the start by value alone, it goes on: a search may begin at a stationary point.
    still = DesignProblem(
        of=idle, variables=[Variable("f", initial=2.0)], objective="(heat - 2)**2"
    )
    assert still.solve().iterations == 0


def test_modes_and_precisions() -> None:
    problem = conductivity(LBFGS(max_iterations=3))
    plain = problem.solve().unknowns
    with torch.inference_mode():
        assert torch.equal(conductivity(LBFGS(max_iterations=3)).solve().unknowns, plain)
    with torch.no_grad():
        assert torch.equal(problem.solve().unknowns, plain)
    single = conductivity(LBFGS(max_iterations=3), of=rod(solver=Solver(dtype="float32"))).solve()
    assert single.unknowns.dtype == torch.float64
    assert torch.allclose(single.unknowns, plain, atol=2e-2)
    with pytest.raises(ArgumentError, match="give folder="):
        problem.solve(pictures=2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_same_on_a_device(tmp_path) -> None:
    method = LBFGS(max_iterations=5)
    here = conductivity(method).solve()
    there = conductivity(method, of=rod(solver=Solver(device="cuda")))
    found = there.solve(folder=tmp_path)
    assert found.design["kappa"].device.type == "cpu"
    assert torch.allclose(found.design["kappa"], here.design["kappa"], rtol=1e-5)
    assert torch.equal(there.solve(resume=tmp_path).unknowns, found.unknowns)


def test_the_best_design_is_returned_and_no_other_run_is_continued(tmp_path) -> None:
    """Moving asymptotes swing about a kink; what goes on is the run, not the best design."""
    problem = DesignProblem(
        of=PoissonProblem(
            mesh=RectangleMesh(cells=(3, 3)),
            source=Parameter("q", default=1.0),
            boundary=[Dirichlet(["left", "right"], 0.0)],
            outputs=[Integral("i", "u")],
        ),
        variables=[Variable("q", bounds=(0.0, 4.0), initial=0.7)],
        objective="abs(i - 0.083)",
        optimizer=MMA(max_iterations=3, asymptote_shrink=1.0),
    )
    found = problem.solve(folder=tmp_path / "a")
    values = found.history["objective"]
    assert found.objective == min(values) < values[-1]
    assert float((found["i"] - 0.083).abs()) == pytest.approx(found.objective, rel=1e-9)
    assert "led to the best design" in found.reason
    longer = problem.updated(optimizer=MMA(max_iterations=5, asymptote_shrink=1.0))
    whole = longer.solve(folder=tmp_path / "b")
    resumed = longer.solve(resume=tmp_path / "a")
    assert resumed.history["objective"] == whole.history["objective"]
    assert resumed.objective == whole.objective
