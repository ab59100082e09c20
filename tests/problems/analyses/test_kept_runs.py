"""Runs that are kept on disk: stopped anywhere, they go on to the same bits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

import torch_sla
from tests.helpers.devices import ON_CUDA
from torch_sla import (
    Adaptive,
    Dirichlet,
    EigenProblem,
    ElasticityProblem,
    Energy,
    Event,
    Flux,
    HyperelasticityProblem,
    IntervalMesh,
    Maximum,
    Neumann,
    Newton,
    Parameter,
    PoissonProblem,
    Probe,
    RectangleMesh,
    Solver,
    SweepProblem,
    TransientProblem,
)
from torch_sla.errors import ArgumentError, SolveError
from torch_sla.problems import identity
from torch_sla.problems.analyses import sweep as sweeps

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch_sla.problems.progress import Progress


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


def fin(**more: object) -> PoissonProblem:
    return PoissonProblem(
        mesh=IntervalMesh(cells=10, size=0.05),
        diffusivity=0.4,
        reaction="2*h",
        parameters=[Parameter("h", default=10.0), Parameter("T", default=60.0)],
        boundary=[Dirichlet("left", "T")],
        outputs=[Flux("heat", "left"), Probe("tip", at=[(0.05,)])],
        **more,
    )


def cases() -> SweepProblem:
    return SweepProblem(of=fin(), cases={"h": [1.0 + i / 3 for i in range(9)]})


def same(a: object, b: object) -> None:
    for kind in ("fields", "outputs"):
        one, other = getattr(a, kind), getattr(b, kind)
        assert list(one) == list(other)
        for name, value in one.items():
            assert torch.equal(value, other[name]), name


class StopError(Exception):
    pass


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


@pytest.mark.parametrize("library", ["torch_sla", "torch", "numpy", "scipy"])
def test_a_run_does_not_go_on_under_other_libraries(tmp_path, monkeypatch, library: str) -> None:
    """Any of them may change the last bits."""
    problem = heating()
    problem.solve(folder=tmp_path)
    there = {"torch_sla": torch_sla, "torch": torch, "numpy": np}
    if library in there:
        monkeypatch.setattr(there[library], "__version__", "0.9")
    else:
        monkeypatch.setattr(identity, "version", lambda name: "0.9")
    with pytest.raises(ArgumentError, match=rf"versions\.{library} was .* is '0\.9'"):
        problem.solve(resume=tmp_path)


def kill(tmp_path: Path, problem: object, at: int, name: str) -> int:
    """Run in another process that kills itself without warning after a part; return the last step on disk."""
    problem.to_yaml(tmp_path / f"{name}.yaml")
    script = """
    import os, signal, sys
    from torch_sla import load_problem
    from torch_sla.problems.analyses import sweep
    from torch_sla.problems.checkpoint import Checkpoints
    Checkpoints.patience = 0.0
    sweep._MOST = 2

    def die(progress):
        if progress.done == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)

    load_problem(sys.argv[1]).solve(folder=sys.argv[2], progress=die)
    """
    folder = tmp_path / f"{name}-{at}"
    command = [sys.executable, "-c", textwrap.dedent(script)]
    arguments = [str(tmp_path / f"{name}.yaml"), str(folder), str(at)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run([*command, *arguments], check=False, env=environment, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    return max(int(path.stem.partition("-")[2]) for path in folder.glob("state-*"))


def heating(**more: object) -> TransientProblem:
    plate = PoissonProblem(
        mesh=RectangleMesh(cells=(5, 4)),
        capacity=2.0,
        source="sin(3*t)*x",
        parameters=[Parameter("q", default=1.0)],
        boundary=[Dirichlet("left", "t"), Neumann("right", flux="q")],
        outputs=[Probe("T", at=[(0.3, 0.6)]), Flux("out", "left")],
    )
    return TransientProblem(
        of=plate, initial="x*y", **{"end": 1.0, "steps": 9, "save": ["u"]} | more
    )


def swinging(**more: object) -> TransientProblem:
    beam = ElasticityProblem(
        mesh=RectangleMesh(cells=(6, 1), size=(3.0, 0.5), cell="quad"),
        model="plane_stress",
        young_modulus=50.0,
        boundary=[Dirichlet("left", 0.0)],
        outputs=[Probe("tip", at=[(3.0, 0.25)]), Energy("stored")],
    )
    return TransientProblem(of=beam, initial_velocity=["0", "x"], end=1.5, steps=8, **more)


def glowing(**more: object) -> TransientProblem:
    body = PoissonProblem(
        mesh=IntervalMesh(cells=6),
        diffusivity="1 + u**2",
        source=3.0,
        boundary=[Dirichlet("left", 0.0)],
        outputs=[Probe("T", at=[(0.9,)])],
    )
    return TransientProblem(of=body, end=0.5, steps=6, **more)


MARCHES = {
    "bdf2": heating,
    "crank_nicolson": lambda: heating(scheme="crank_nicolson"),
    "newmark": swinging,
    "generalized_alpha": lambda: swinging(scheme="generalized_alpha"),
    "nonlinear": glowing,
    "adaptive": lambda: glowing(adaptive=Adaptive(rtol=1e-3, atol=1e-6)),
    "with an event": lambda: heating(
        events=[Event("hot", of="T", level=0.35, direction="up", stop=True)]
    ),
    "at some times": lambda: heating(times=[0.05, 0.5, 1.0]),
}


def same_march(a: object, b: object) -> None:
    same(a, b)
    assert a.info.plain() == b.info.plain()
    for name in ("times", "step_times", "velocity"):
        assert torch.equal(getattr(a, name), getattr(b, name))
    for kind in ("history", "events"):
        one, other = getattr(a, kind), getattr(b, kind)
        assert list(one) == list(other)
        assert all(torch.equal(value, other[name]) for name, value in one.items())
    if a.acceleration is not None:
        assert torch.equal(a.acceleration, b.acceleration)


@pytest.mark.parametrize("kind", MARCHES)
def test_a_march_goes_on_from_every_step(tmp_path, monkeypatch, kind: str) -> None:
    problem = MARCHES[kind]()
    seen: list[int] = []
    plain = problem.solve(progress=lambda p: seen.append(p.done))
    total = len(seen)
    assert (total < problem.steps) == (kind == "with an event")
    same_march(plain, problem.solve(folder=tmp_path / "whole"))
    everywhere = kind in ("bdf2", "newmark")
    for at in range(1, total + 1) if everywhere else {1, total // 2, total}:
        monkeypatch.setattr("torch_sla.problems.checkpoint.Checkpoints.patience", 1e9 * (at % 2))

        def stop(progress: object, at: int = at) -> None:
            assert progress.total == problem.steps or kind == "at some times"
            if progress.done == at:
                raise StopError

        folder = tmp_path / str(at)
        with pytest.raises(StopError):
            problem.solve(folder=folder, progress=stop)
        same_march(plain, problem.solve(resume=folder))


@pytest.mark.parametrize(("kind", "at"), [("bdf2", 5), ("newmark", 3)])
def test_a_march_goes_on_after_a_kill(tmp_path, kind: str, at: int) -> None:
    problem = MARCHES[kind]()
    assert kill(tmp_path, problem, at, kind) == at
    same_march(problem.solve(), problem.solve(resume=tmp_path / f"{kind}-{at}"))


def test_a_march_that_was_killed_twice_and_damaged_goes_on(tmp_path) -> None:
    problem = heating()

    def stop(progress: object) -> None:
        if progress.done == 4:
            raise StopError

    with pytest.raises(StopError):
        problem.solve(folder=tmp_path, progress=stop)
    with pytest.raises(StopError):
        problem.solve(resume=tmp_path, progress=lambda p: stop(replace(p, done=p.done - 2)))
    newest = max(tmp_path.glob("state-*"))
    assert newest.name == "state-000000006.ckpt"
    newest.write_bytes(newest.read_bytes()[:100])
    told: list[int] = []
    found = problem.solve(resume=tmp_path, progress=lambda p: told.append(p.done))
    assert told[0] in (
        5,
        6,
    )  # the damaged state is skipped; after step 5 one is saved if there was time
    same_march(problem.solve(), found)


@pytest.mark.parametrize("gone", ["records-000000003.ckpt", "state-*.ckpt"])
def test_a_folder_that_lost_files_gives_no_other_numbers(tmp_path, monkeypatch, gone: str) -> None:
    """Rows of records that were gone were left out, and those of a run without states came twice."""
    problem, folder = heating(), tmp_path / "run"

    def stopped_at(step: int) -> Callable[[Progress], None]:
        def stop(progress: Progress) -> None:
            if progress.done == step:
                raise StopError

        return stop

    monkeypatch.setattr("torch_sla.problems.checkpoint.Checkpoints.patience", 0.0)
    with pytest.raises(StopError):
        problem.solve(folder=folder, progress=stopped_at(4))
    for path in folder.glob(gone):
        path.unlink()
    if gone.startswith("records"):
        with pytest.raises(ArgumentError, match="is damaged, so there is nothing to go on from"):
            problem.solve(resume=folder)
        return
    monkeypatch.setattr("torch_sla.problems.checkpoint.Checkpoints.patience", 1e9)
    with pytest.raises(StopError):
        problem.solve(resume=folder, progress=stopped_at(6))
    same_march(problem.solve(), problem.solve(resume=folder))


def test_a_folder_is_given_back_whatever_ends_a_run(tmp_path) -> None:
    problem, folder = heating(), tmp_path / "run"

    def meanwhile(progress: Progress) -> None:
        for how in ({"folder": folder}, {"resume": folder}):
            with pytest.raises(ArgumentError, match="is at work in"):
                problem.solve(**how)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as held:
        problem.solve(folder=folder, progress=meanwhile)
    same_march(problem.solve(), problem.solve(resume=folder))
    assert held.value.__traceback__ is not None  # whoever holds on to it does not hold the folder
    with pytest.raises(ArgumentError, match="is no parameter"):
        problem.solve(folder=tmp_path / "other", nothing=1.0)
    assert not (tmp_path / "other").exists()


def test_gradients_and_a_folder_exclude_each_other(tmp_path) -> None:
    q = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    with pytest.raises(ArgumentError, match="'q' requires grad"):
        heating().solve(folder=tmp_path / "run", q=q)
    with torch.no_grad():
        heating().solve(folder=tmp_path / "run", q=q)
    told: list[float] = []
    heating().solve(q=q, progress=lambda p: told.append(p.figures["t"])).u.sum().backward()
    assert float(q.grad) != 0.0
    assert told == pytest.approx([i / 9 for i in range(1, 10)])


@pytest.mark.usefixtures("by_twos")
def test_a_sweep_goes_on_after_a_kill(tmp_path) -> None:
    at = 6
    assert kill(tmp_path, cases(), at, "cases") == at
    whole = cases().solve(folder=tmp_path / "whole")
    same(whole, cases().solve(resume=tmp_path / f"cases-{at}"))


def test_modes_and_load_steps_tell_how_far_they_are() -> None:
    plate = PoissonProblem(
        mesh=RectangleMesh(cells=(12, 12)),
        boundary=[Dirichlet("left", 0.0)],
        solver=Solver(method="cg", preconditioner="multigrid"),
    )
    told: list[object] = []
    EigenProblem(of=plate, k=2).solve(progress=told.append)
    assert {p.task for p in told} == {"LOBPCG"}
    assert [p.done for p in told] == list(range(len(told)))
    body = HyperelasticityProblem(
        mesh=RectangleMesh(cells=(2, 2), cell="quad"),
        model="plane_strain",
        constants={"young_modulus": 3.0, "poisson_ratio": 0.3},
        load_steps=4,
        boundary=[Dirichlet("left", 0.0), Dirichlet("right", [0.2, 0.0])],
    )
    loads: list[object] = []
    body.solve(progress=loads.append)
    assert [(p.task, p.done, p.total) for p in loads] == [
        ("load steps", i, 4) for i in (1, 2, 3, 4)
    ]
    assert loads[-1].figures == {"load": 1.0}


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


def test_a_search_that_goes_on_writes_its_history_anew(tmp_path) -> None:
    search = torch_sla.DesignProblem(
        of=fin(),
        variables=[torch_sla.Variable("h", bounds=(1.0, 20.0), initial=10.0)],
        objective="tip",
        optimizer=torch_sla.LBFGS(max_iterations=2),
    )
    search.solve(folder=tmp_path)
    written = {f: (tmp_path / f"history.{f}").read_bytes() for f in ("csv", "json")}
    for ending in written:  # as a kill before the last row leaves it
        (tmp_path / f"history.{ending}").unlink()
    search.solve(resume=tmp_path)
    assert {f: (tmp_path / f"history.{f}").read_bytes() for f in written} == written
