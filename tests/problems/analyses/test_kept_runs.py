"""Runs that are kept on disk: stopped anywhere, they go on to the same bits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

import torch_sla
from tests.helpers.kept_runs import fin, kill, same
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
    Neumann,
    Parameter,
    PoissonProblem,
    Probe,
    RectangleMesh,
    Solver,
    TransientProblem,
)
from torch_sla.errors import ArgumentError
from torch_sla.problems import identity

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch_sla.problems.progress import Progress


class StopError(Exception):
    pass


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
