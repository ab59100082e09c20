"""Searches over problems in parts: the steps of one process, kept and gone on with by any number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

import torch_sla as sla
from tests.helpers.designs import cantilever, conductivity
from torch_sla import LBFGS, MMA, GaussNewton, NewtonCG, Solver, distribute
from torch_sla.errors import ArgumentError, RankError, Result, SolveError, SpecError
from torch_sla.problems.distributed.design import _SharedDesign
from torch_sla.problems.specs.variable import Effort

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers.ranks import Ranks


def tight(problem: Any, **changes: Any) -> Any:
    of = problem.of.model_copy(update={"solver": Solver(rtol=1e-13)})
    of.forget()
    return problem.updated(of=of, **changes)


@pytest.mark.parametrize("make", [cantilever, conductivity])
def test_the_same_search(make: Any) -> None:
    optimizer = MMA(max_iterations=8) if make is cantilever else LBFGS(max_iterations=8)
    problem = tight(make(optimizer))
    one, parts = problem.solve(), distribute(problem, 3).solve()
    assert parts.iterations == one.iterations
    assert parts.objective == pytest.approx(one.objective, rel=1e-8)
    for name, value in one.design.items():
        assert torch.allclose(parts.design[name], value, rtol=1e-7, atol=1e-9)


def test_stages_are_lowered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    lower = _SharedDesign.__init__

    def counted(self: Any, spec: Any, *rest: Any) -> None:
        made.append(spec.optimizer)
        lower(self, spec, *rest)

    monkeypatch.setattr(_SharedDesign, "__init__", counted)
    stages = [{"optimizer.max_iterations": 3}]
    problem = tight(conductivity(LBFGS(max_iterations=2)), stages=stages)
    parts = distribute(problem, 2)
    one, found = problem.solve(), parts.solve()
    assert found.objective == pytest.approx(one.objective, rel=1e-8)
    assert torch.equal(parts.solve().unknowns, found.unknowns)
    assert made == [LBFGS(max_iterations=2), LBFGS(max_iterations=3)]
    late = problem.updated(stages=[{"optimizer": {"type": "newton_cg"}}])
    with pytest.raises(SpecError, match="derivatives of derivatives") as caught:
        distribute(late, 2).solve()
    assert caught.value.path == "stages.0.optimizer"


def test_a_run_goes_on_with_another_number_of_parts(tmp_path: Path) -> None:
    problem = tight(cantilever(MMA(max_iterations=8)))
    whole = distribute(problem, 2).solve()
    distribute(tight(cantilever(MMA(max_iterations=3))), 2).solve(folder=tmp_path / "run")
    rest = distribute(problem, 5).solve(resume=tmp_path / "run")
    assert rest.iterations == 8
    assert [row["iteration"] for row in rest.history.rows] == list(range(9))
    assert torch.allclose(rest.design["rho"], whole.design["rho"], rtol=1e-7, atol=1e-9)
    with pytest.raises(ArgumentError, match="holds a run already"):
        distribute(problem, 2).solve(folder=tmp_path / "run")


def test_a_run_of_one_process_is_not_gone_on_with_in_parts(tmp_path: Path) -> None:
    rod = conductivity(LBFGS(max_iterations=2))
    for solve, other, folder in (
        (rod.solve, distribute(rod, 2).solve, tmp_path / "one"),
        (distribute(rod, 2).solve, rod.solve, tmp_path / "many"),
    ):
        solve(folder=folder)
        before = sorted(path.name for path in folder.iterdir())
        with pytest.raises(ArgumentError, match=r"another run: device was .*several processes"):
            other(resume=folder)
        assert sorted(path.name for path in folder.iterdir()) == before


def begun(group: Any, folder: str) -> float:
    problem = tight(cantilever(MMA(max_iterations=3)))
    return float(distribute(problem, group=group).solve(folder=folder).objective)


def gone_on(group: Any, folder: str) -> tuple[float, torch.Tensor]:
    problem = tight(cantilever(MMA(max_iterations=6)))
    found = distribute(problem, group=group).solve(resume=folder)
    return float(found.objective), found.design["rho"]


@pytest.mark.distributed
def test_two_processes_begin_and_three_go_on(ranks: Ranks, tmp_path: Path) -> None:
    folder = str(tmp_path / "run")
    assert len(set(ranks.run(2, begun, folder))) == 1
    found = ranks.run(3, gone_on, folder)
    whole = tight(cantilever(MMA(max_iterations=6))).solve()
    for objective, rho in found:
        assert objective == pytest.approx(whole.objective, rel=1e-8)
        assert torch.equal(rho, found[0][1])
        assert torch.allclose(rho, whole.design["rho"], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("kind", ["modes", "march"])
def test_searches_over_analyses(kind: str) -> None:
    of = sla.PoissonProblem(
        mesh=sla.RectangleMesh(cells=(4, 3)),
        diffusivity=sla.Parameter("k", on="cells", default=1.0),
        source=1.0,
        boundary=[sla.Dirichlet("left", 0.0)],
        outputs=[sla.Integral("heat", "u")] if kind == "march" else [],
        solver=Solver(rtol=1e-13),
    )
    low = [sla.Component("low", index=[0])]
    if kind == "march":
        analysis: Any = sla.TransientProblem(of=of, end=0.2, steps=3)
    else:
        analysis = sla.EigenProblem(of=of, k=1, outputs=low)
    problem = sla.DesignProblem(
        of=analysis,
        variables=[sla.Variable("k", bounds=(0.5, 2.0))],
        objective="heat[3]" if kind == "march" else "low",
        optimizer=LBFGS(max_iterations=3),
    )
    one, parts = problem.solve(), distribute(problem, 2).solve()
    assert parts.objective == pytest.approx(one.objective, rel=1e-9)


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"optimizer": NewtonCG()}, "optimizer"),
        ({"optimizer": GaussNewton()}, "optimizer"),
        ({"effort": Effort(warm_start=True)}, "effort"),
    ],
)
def test_what_a_shared_search_cannot_do_is_refused(changes: dict[str, Any], path: str) -> None:
    problem = conductivity(LBFGS()).updated(**changes)
    with pytest.raises(SpecError, match=path):
        distribute(problem, 2)


def snapping() -> sla.DesignProblem:
    """u³ - u = q: the branch below 0 ends at q = 0.385, and the one above 0 at -0.385."""
    body = sla.PoissonProblem(
        mesh=sla.IntervalMesh(cells=5),
        source="q + u - u**3",
        parameters=[sla.Parameter("q", default=0.0)],
        boundary=[sla.Robin("left", coefficient=1e-9)],
        outputs=[sla.Integral("mean", "u")],
    )
    return sla.DesignProblem(
        of=body,
        variables=[sla.Variable("q", bounds=(-0.3, 0.36), initial=0.0)],
        objective="(mean + 0.7)**2",
        optimizer=LBFGS(max_iterations=15),
    )


def below(group: Any, folder: str, verb: str) -> tuple[float, float]:
    shared = distribute(snapping(), group=group)
    here = distribute(snapping().of, group=group).solve().u
    found = shared.solve(start=torch.full_like(here, -1.0), **{verb: folder})
    return float(found.design["q"]), float(found.solution["mean"])


@pytest.mark.distributed
def test_a_start_of_its_own_unknowns_chooses_the_branch(ranks: Ranks, tmp_path: Path) -> None:
    folder, best = str(tmp_path / "run"), 0.7 - 0.7**3
    found = ranks.run(2, below, folder, "folder")
    assert found[0] == found[1]
    assert found[0] == pytest.approx((best, -0.7), abs=1e-6)
    # The same start, whoever has which of it.
    again = ranks.run(3, below, folder, "resume")
    assert again[0] == pytest.approx(found[0], abs=1e-9)
    parts = distribute(snapping(), 3)
    above = parts.solve(start=torch.ones(6, dtype=torch.float64))
    assert float(above.design["q"]) == pytest.approx(-0.3, abs=1e-6)
    with pytest.raises(ArgumentError, match="another run: values"):
        parts.solve(start=torch.ones(6, dtype=torch.float64), resume=folder)
    with pytest.raises(ArgumentError, match=r"start .*6"):
        parts.solve(start=torch.ones(5, dtype=torch.float64))


def failing_alone(group: Any) -> str:
    """The third solve fails on one process, where the others have been through it."""
    shared = distribute(tight(conductivity(LBFGS(max_iterations=8))), group=group)
    model: Any = shared._lowered.models[""]
    solve, calls = model.solve, []

    def solved(*args: Any, **named: Any) -> Any:
        found = solve(*args, **named)
        calls.append(found)
        if shared.comm.rank and len(calls) == 3:
            raise SolveError(Result.OUT_OF_MEMORY, "here alone")
        return found

    model.solve = solved
    try:
        shared.solve()
    except RankError as error:
        return f"{error} after {len(calls)}"
    return "no error"


@pytest.mark.distributed
def test_a_solve_that_fails_on_one_process_ends_the_search(ranks: Ranks) -> None:
    for said in ranks.run(2, failing_alone):
        assert "process 1 cannot do its part" in said or said.startswith("the goals cannot")
        assert "here alone" in said
        assert said.endswith("after 3")
