"""Marches that several processes keep in a folder, and that another number of them goes on with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

import torch_sla as sla
from tests.problems.distributed.test_transient import flow, heat
from torch_sla import distribute
from torch_sla.cli.together import where_kept
from torch_sla.errors import ArgumentError, SolveError, SpecError
from torch_sla.problems.checkpoint import Checkpoints
from torch_sla.problems.distributed.keeping import _drop

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers.ranks import Ranks

Found = dict[str, torch.Tensor]


class _StoppedError(Exception):
    pass


def stop_at(step: int) -> Any:
    def told(progress: Any) -> None:
        if progress.done == step:
            raise _StoppedError

    return told


def march(kind: str) -> tuple[Any, dict[str, Any]]:
    if kind == "adaptive":
        return heat("crank_nicolson", adaptive=sla.Adaptive(rtol=1e-3))
    if kind == "flow":
        return flow("bdf2", closed=True)
    return heat(kind)


def seen(solution: Any) -> Found:
    names = [n for n in solution if n not in solution.numbers]
    fields = [n for n in solution.numbers if n != "history.u" or solution.history]
    return {**{n: solution[n] for n in names}, **{n: solution.whole(n) for n in fields}}


def same(found: Found, wanted: Found) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert torch.allclose(found[name], value, rtol=1e-9, atol=1e-11), name


@pytest.mark.parametrize("kind", ["bdf2", "adaptive", "flow"])
def test_other_parts_go_on(tmp_path: Path, kind: str) -> None:
    problem, values = march(kind)
    wanted = seen(distribute(problem, 3).solve(values))
    folder = tmp_path / "run"
    with pytest.raises(_StoppedError):
        distribute(problem, 3).solve(values, folder=folder, progress=stop_at(3))
    with pytest.raises(ArgumentError, match="holds a run already"):
        distribute(problem, 3).solve(values, folder=folder)
    done: list[int] = []
    found = distribute(problem, 2).solve(
        values, resume=folder, progress=lambda p: done.append(p.done)
    )
    assert done[0] == 4
    same(seen(found), wanted)


def kept(group: Any, kind: str, how: dict[str, Any]) -> Found:
    problem, values = march(kind)
    patience, Checkpoints.patience = Checkpoints.patience, 0.0
    try:
        return seen(distribute(problem, group=group).solve(values, **how))
    finally:
        Checkpoints.patience = patience


@pytest.mark.distributed
@pytest.mark.parametrize("kind", ["bdf2", "flow"])
def test_another_number_of_processes_goes_on(ranks: Ranks, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "run"
    wanted = ranks.run(3, kept, kind, {"folder": folder})[0]
    states = sorted((folder / "ranks-3").glob("*/state-*.ckpt"))
    assert len(states) == 6  # of each process the two newest
    for path in states:
        if path == sorted(path.parent.glob("state-*.ckpt"))[-1] and path.parent.name != "1":
            path.unlink()  # the last one was not finished everywhere
    for found in ranks.run(2, kept, kind, {"resume": folder}):
        same(found, wanted)
    assert [path.name for path in folder.iterdir()] == ["ranks-2"]


def test_what_cannot_go_on(tmp_path: Path) -> None:
    problem, values = march("bdf2")
    shared = distribute(problem, 2)
    with pytest.raises(ArgumentError, match="there is no folder"):
        shared.solve(values, resume=tmp_path / "none")
    with pytest.raises(_StoppedError):
        shared.solve(values, folder=tmp_path / "run", progress=stop_at(2))
    with pytest.raises(ArgumentError, match="belongs to another run: values"):
        shared.solve({**values, "c": 2.0}, resume=tmp_path / "run")
    with pytest.raises(ArgumentError, match="requires grad"):
        shared.solve(
            {**values, "c": torch.tensor(1.0, requires_grad=True)}, resume=tmp_path / "run"
        )
    steady = problem.of.updated(source=1.0, parameters=[])
    sweep = sla.SweepProblem(of=problem, cases={"c": [1.0, 2.0]})
    for other, why in ((steady, "solved in one go"), (sweep, "case after case")):
        with pytest.raises(ArgumentError, match=why):
            distribute(other, 2).solve(folder=tmp_path / "other")
        with pytest.raises(ArgumentError, match="in one process with sweeps"):
            where_kept(distribute(other, 2), tmp_path / "other", resume=True)


def test_a_run_is_not_begun_anew_in_silence(tmp_path: Path) -> None:
    """Of what a folder holds, nothing may be overwritten by who cannot go on with it."""
    problem, values = march("bdf2")
    shared, one, many = distribute(problem, 2), tmp_path / "one", tmp_path / "many"
    for solve, folder in ((problem.solve, one), (shared.solve, many)):
        with pytest.raises(_StoppedError):
            solve(values, folder=folder, progress=stop_at(2))
    for solve, folder in ((shared.solve, one), (problem.solve, many)):
        with pytest.raises(ArgumentError, match="holds a run already"):
            solve(values, folder=folder)
    with pytest.raises(ArgumentError, match="none that all processes of a run kept"):
        shared.solve(values, resume=one)
    with pytest.raises(ArgumentError, match="a run that several processes share"):
        problem.solve(values, resume=many)
    states = sorted(many.glob("ranks-1/0/state-*"))
    for path in states:
        path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ArgumentError, match=r"every state in .* is damaged"):
        shared.solve(values, resume=many)
    (many / "ranks-1").rename(many / "ranks-3")  # of which two are missing
    with pytest.raises(ArgumentError, match="none that all processes of a run kept"):
        shared.solve(values, resume=many)


def test_what_is_called_like_the_folder_of_a_run_is_somebodys(tmp_path: Path) -> None:
    problem, values = march("bdf2")
    folder = tmp_path / "run"
    for name in ("ranks-foo", "ranks-0", "ranks-03"):
        (folder / name).mkdir(parents=True)
    (folder / "ranks-foo" / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(_StoppedError):
        distribute(problem, 2).solve(values, folder=folder, progress=stop_at(3))
    done: list[int] = []
    distribute(problem, 2).solve(values, resume=folder, progress=lambda p: done.append(p.done))
    assert done[0] == 4
    _drop(folder, but=folder / "ranks-2")
    left = ["ranks-0", "ranks-03", "ranks-foo"]
    assert sorted(path.name for path in folder.iterdir()) == left
    assert (folder / "ranks-foo" / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_cases_of_marches_that_end_early_are_refused_or_named() -> None:
    rod = sla.PoissonProblem(
        mesh=sla.IntervalMesh(cells=8),
        capacity=1.0,
        source="f*exp(u)",
        parameters=[sla.Parameter("f", default=1.0)],
        boundary=[sla.Dirichlet("left", 0.0)],
        outputs=[sla.Maximum("most", "u")],
    )
    march = sla.TransientProblem(of=rod, end=2.0, steps=20)
    cases = {"f": [0.1, 5.0]}
    shared = distribute(sla.SweepProblem(of=march, cases=cases), 2)
    with pytest.raises(SolveError, match=r"case 1 ends at another time.*failed after t = "):
        shared.solve(throw=False)
    event = sla.Event("hot", of="most", level=0.1, stop=True)
    stopped = sla.SweepProblem(of=march.updated(events=[event]), cases=cases)
    with pytest.raises(SpecError, match="sweep: in parts each case goes alone"):
        distribute(stopped, 2)
