"""Sweeps that are kept on disk: stopped anywhere, they go on to the same bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from tests.helpers.devices import ON_CUDA
from tests.helpers.kept_runs import fin, kill, same
from torch_sla import (
    Dirichlet,
    Event,
    IntervalMesh,
    Maximum,
    Newton,
    Parameter,
    PoissonProblem,
    Solver,
    SweepProblem,
    TransientProblem,
)
from torch_sla.errors import ArgumentError, SolveError
from torch_sla.problems.analyses import sweep as sweeps

if TYPE_CHECKING:
    from pathlib import Path


def bratu() -> SweepProblem:
    """−u″ = λ exp(u): a low and a high solution for each λ below 3.51."""
    problem = PoissonProblem(
        mesh=IntervalMesh(cells=16),
        source="lam*exp(u)",
        parameters=[Parameter("lam")],
        boundary=[Dirichlet("left", 0.0), Dirichlet("right", 0.0)],
        outputs=[Maximum("top", "u")],
    )
    return SweepProblem(of=problem, cases={"lam": [1.0, 1.1, 1.2]})


def cases() -> SweepProblem:
    return SweepProblem(of=fin(), cases={"h": [1.0 + i / 3 for i in range(9)]})


@pytest.fixture
def by_twos(monkeypatch) -> None:
    monkeypatch.setattr(sweeps, "_MOST", 2)


@pytest.mark.usefixtures("by_twos")
@pytest.mark.parametrize("at", [2, 4, 8, 9])
def test_a_sweep_goes_on_after_an_interrupt(tmp_path, at: int) -> None:
    whole = cases().solve(folder=tmp_path / "whole")
    same(whole, cases().solve(folder=tmp_path / "again"))

    def stop(progress: object) -> None:
        if progress.done == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cases().solve(folder=tmp_path / "run", progress=stop)
    told: list[int] = []
    found = cases().solve(resume=tmp_path / "run", progress=lambda p: told.append(p.done))
    assert told == [n for n in (2, 4, 6, 8, 9) if n > at]
    same(whole, found)
    assert found.table == whole.table
    assert found.info.result is whole.info.result


def test_a_grid_in_another_order_is_another_sweep(tmp_path) -> None:
    """Its cases are others in each row; what was kept of the one is no result of the other."""
    grid = {"h": [5.0, 10.0], "T": [40.0, 60.0]}
    SweepProblem(of=fin(), cases=grid).solve(folder=tmp_path / "run")
    other = SweepProblem(of=fin(), cases=dict(reversed(grid.items())))
    with pytest.raises(ArgumentError, match="another run: spec_hash"):
        other.solve(resume=tmp_path / "run")


@pytest.mark.usefixtures("by_twos")
@pytest.mark.parametrize("device", ["cpu", ON_CUDA])
@pytest.mark.parametrize("at", [4, 9])
def test_a_sweep_that_goes_on_returns_to_where_it_was_given(tmp_path, at: int, device: str) -> None:
    T = torch.tensor(60.0, device=device)

    def stop(progress: object) -> None:
        if progress.done == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cases().solve(folder=tmp_path / "run", T=T, progress=stop)
    found = cases().solve(resume=tmp_path / "run", T=T)
    every = [*found.fields.values(), *found.outputs.values()]
    assert {value.device.type for value in every} == {device}
    same(cases().solve(folder=tmp_path / "whole", T=T), found)


@pytest.mark.usefixtures("by_twos")
def test_parts_of_a_sweep_are_the_whole_to_rounding(tmp_path) -> None:
    at_once, parts = cases().solve(), cases().solve(folder=tmp_path / "run")
    for name, value in at_once.outputs.items():
        assert torch.allclose(value, parts[name], rtol=1e-12)
    with pytest.raises(ArgumentError, match="solve without folder"):
        _ = parts.solution
    parts.save(tmp_path / "all.npz")
    parts.save(tmp_path / "all.csv")
    parts.report(tmp_path / "all.html")


def heated(source: object, **more: object) -> TransientProblem:
    rod = PoissonProblem(
        mesh=IntervalMesh(cells=4),
        capacity=1.0,
        source=source,
        parameters=[Parameter("f", default=1.0)],
        boundary=[Dirichlet("left", 0.0)],
        outputs=[Maximum("most", "u")],
    )
    return TransientProblem(of=rod, end=2.0, steps=20, **more)


@pytest.mark.usefixtures("by_twos")
def test_marches_that_an_event_stops_end_together(tmp_path) -> None:
    """Parts of other lengths ended in a message of torch, when all work was done."""
    march = heated("f", events=[Event("hot", of="most", level=0.1, stop=True)])
    sweep = SweepProblem(of=march, cases={"f": [8.0, 4.0, 2.0, 1.0, 0.5]})
    at_once, kept = sweep.solve(), sweep.solve(folder=tmp_path / "run")
    assert at_once["most"].shape[1] < 21
    assert torch.isfinite(at_once["hot"]).all()
    for name, value in at_once.outputs.items():
        assert torch.allclose(value, kept[name], rtol=1e-12), name


@pytest.mark.usefixtures("by_twos")
def test_a_march_that_fails_before_others_is_named(tmp_path) -> None:
    sweep = SweepProblem(of=heated("f*exp(u)"), cases={"f": [0.1, 0.2, 0.1, 5.0, 0.1]})
    assert not sweep.solve(throw=False).info.converged
    with pytest.raises(SolveError, match=r"cases 2 to 3 end at another time.*failed after t = "):
        sweep.solve(folder=tmp_path / "run", throw=False)


@pytest.mark.usefixtures("by_twos")
def test_kept_cases_that_failed_are_no_results_of_a_run_that_raises(tmp_path) -> None:
    law = bratu().of.updated(solver=Solver(nonlinear=Newton(maxiter=4)))
    sweep = SweepProblem(of=law, cases={"lam": [0.1, 3.4, 0.2]})
    with pytest.raises(SolveError, match="maxiter"):
        sweep.solve()
    found = sweep.solve(folder=tmp_path / "r", throw=False, info=True)
    assert not found.info.converged
    with pytest.raises(SolveError, match="cases 0 to 2, which were kept by a run with throw=False"):
        sweep.solve(resume=tmp_path / "r")
    again = sweep.solve(resume=tmp_path / "r", throw=False, info=True)
    assert again.info.result is found.info.result
    assert torch.equal(again.u, found.u)


@pytest.mark.usefixtures("by_twos")
def test_a_sweep_that_was_finished_is_read_back(tmp_path) -> None:
    whole = cases().solve(folder=tmp_path / "run")

    def never(progress: object) -> None:
        raise AssertionError

    same(whole, cases().solve(resume=tmp_path / "run", progress=never))


@pytest.mark.usefixtures("by_twos")
def test_other_runs_values_and_kinds_are_refused(tmp_path) -> None:
    cases().solve(folder=tmp_path / "run")
    with pytest.raises(ArgumentError, match="holds a run already"):
        cases().solve(folder=tmp_path / "run")
    with pytest.raises(ArgumentError, match=r"values\.T"):
        cases().solve(resume=tmp_path / "run", T=70.0)
    other = SweepProblem(of=fin(), cases={"h": [1.0, 2.0]})
    with pytest.raises(ArgumentError, match="spec_hash"):
        other.solve(resume=tmp_path / "run")
    T = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    with pytest.raises(ArgumentError, match="no_grad"):
        cases().solve(folder=tmp_path / "other", T=T)
    with pytest.raises(ArgumentError, match="solved in one go"):
        fin().solve(folder=tmp_path / "other")


@pytest.mark.usefixtures("by_twos")
def test_a_sweep_goes_on_after_a_kill(tmp_path) -> None:
    at = 6
    assert kill(tmp_path, cases(), at, "cases") == at
    whole = cases().solve(folder=tmp_path / "whole")
    same(whole, cases().solve(resume=tmp_path / f"cases-{at}"))


@pytest.mark.parametrize("width", [1, 2, 64])
def test_each_case_of_a_kept_sweep_begins_at_its_own_start(
    width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps, "_MOST", width)
    sweep = bratu()
    x = sweep.of.dof_points()[:, 0]
    high = 16 * x * (1 - x)
    start = torch.stack([high, 0 * high, high])
    tops = [
        sweep.of.solve(lam=lam, start=u)["top"]
        for lam, u in zip([1.0, 1.1, 1.2], start, strict=True)
    ]
    assert tops[1] < 1 < 3 < min(tops[0], tops[2])  # those of one case after the other
    kept = sweep.solve(start=start, folder=tmp_path)
    torch.testing.assert_close(kept.outputs["top"], torch.stack(tops))
    with pytest.raises(ArgumentError, match=r"start .* \[2\]; .* the cases, and there are 3"):
        sweep.solve(start=start[:2])


def test_a_kept_sweep_does_not_go_on_from_another_start(tmp_path: Path) -> None:
    sweep = bratu()
    x = sweep.of.dof_points()[:, 0]
    low = sweep.solve(folder=tmp_path).outputs["top"]
    assert torch.equal(sweep.solve(resume=tmp_path).outputs["top"], low)
    with pytest.raises(ArgumentError, match="start"):
        sweep.solve(resume=tmp_path, start=16 * x * (1 - x))
