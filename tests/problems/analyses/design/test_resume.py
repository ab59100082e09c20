"""Runs that stop anywhere, and go on to the result they would have had."""

from __future__ import annotations

import copy
import functools
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.helpers.designs import cantilever, conductivity, rod
from torch_sla import (
    LBFGS,
    MMA,
    DesignProblem,
    Effort,
    RectangleMesh,
    Scipy,
    Solver,
    Variable,
)
from torch_sla.errors import ArgumentError, SpecError
from torch_sla.problems.checkpoint import Checkpoints

ROOT = Path(__file__).parents[4]


def stopped_at(n: int):
    def tell(progress) -> None:
        if progress.done == n:
            raise InterruptedError

    return tell


def test_stopped_after_any_iteration(tmp_path) -> None:
    problem = cantilever(MMA(max_iterations=6))
    whole = problem.solve()
    for n in range(7):
        folder = tmp_path / str(n)
        with pytest.raises(InterruptedError):
            problem.solve(folder=folder, progress=stopped_at(n))
        again = problem.solve(resume=folder)
        assert torch.equal(again.unknowns, whole.unknowns), n
        assert again.history["objective"] == whole.history["objective"]
        assert again.history["iteration"] == list(range(7))


@pytest.mark.parametrize("kind", [MMA, LBFGS])
def test_a_lower_limit_than_the_steps_taken_takes_none(kind, tmp_path) -> None:
    make = cantilever if kind is MMA else conductivity
    whole = make(kind(max_iterations=6))
    with pytest.raises(InterruptedError):
        whole.solve(folder=tmp_path / "run", progress=stopped_at(4))
    for limit in (2, 4):
        less = make(kind(max_iterations=limit)).solve(resume=tmp_path / "run")
        assert less.iterations == 4
        assert not less.converged
        assert f"max_iterations = {limit}" in less.reason
        assert "is left to gain" in less.reason
        assert "had taken 4 steps" in less.reason
        assert less.history["iteration"] == list(range(5))
    again = whole.solve(resume=tmp_path / "run")
    assert torch.equal(again.unknowns, whole.solve().unknowns)


SCRIPT = """
import sys, time
import torch
from tests.helpers.designs import cantilever
from torch_sla import MMA
last = int(sys.argv[2])
torch.set_num_threads(int(sys.argv[3]))
cantilever(MMA(max_iterations=12)).solve(
    folder=sys.argv[1], progress=lambda p: time.sleep(100.0 if p.done > last else 0.0)
)
"""


@pytest.mark.parametrize("after", [1, 6])
def test_killed(after: int, tmp_path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            SCRIPT,
            str(tmp_path / "run"),
            str(after),
            str(torch.get_num_threads()),
        ],
        env=environment,
        cwd=ROOT,
    )
    wanted = tmp_path / "run" / f"state-{after:09d}.ckpt"
    deadline = time.monotonic() + 90
    while not wanted.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    problem = cantilever(MMA(max_iterations=12))
    again = problem.solve(resume=tmp_path / "run")
    assert torch.equal(again.unknowns, problem.solve().unknowns)


LIBRARIES = {
    "lbfgs": LBFGS(max_iterations=8),
    "scipy": Scipy(method="Newton-CG", max_iterations=4),
}


@pytest.mark.parametrize("name", LIBRARIES)
def test_checkpoints_of_a_library_hold_what_is_new(name: str, tmp_path) -> None:
    """The answers it was given are kept once each, whatever the number of iterations."""
    variables = [Variable("kappa", transform=["log"])]
    problem = conductivity(LIBRARIES[name], variables=variables)
    states, records = {}, {}

    def tell(progress) -> None:
        for path in tmp_path.glob("whole/*.ckpt"):
            sizes = states if path.stem.startswith("state") else records
            sizes.setdefault(path.name, path.stat().st_size)

    whole = problem.solve(folder=tmp_path / "whole", progress=tell)
    n = whole.unknowns.numel()
    entries = [int(w) for w in whole.history["evaluations"][1:]]
    # A state holds a few vectors; all others are in records, each once.
    assert max(states.values()) < 8 * n * 12 + 6000, states
    assert sum(records.values()) < 8 * (n + 10) * (3 * entries[-1] + 40) + 1500 * len(records)
    for stop in range(1, whole.iterations + 1):
        folder = tmp_path / str(stop)
        with pytest.raises(InterruptedError):
            problem.solve(folder=folder, progress=stopped_at(stop))
        again = problem.solve(resume=folder)
        assert torch.equal(again.unknowns, whole.unknowns), stop
        assert again.history["solves"][-1] >= 0


@pytest.mark.parametrize("method", ["L-BFGS-B", "CG"])
def test_a_library_that_begins_anew_keeps_few_answers(method: str, tmp_path) -> None:
    """Memory, files and the way on from any iteration are bounded by ``restart``."""
    variables = [Variable("kappa", transform=["log"])]
    optimizer = Scipy(method=method, max_iterations=24, gradient_tolerance=1e-12, restart=4)
    problem = conductivity(optimizer, variables=variables)
    kept = []

    def tell(progress) -> None:
        files = sorted(path.name for path in tmp_path.glob("whole/records-*.ckpt"))
        kept.append(len(files))

    whole = problem.solve(folder=tmp_path / "whole", progress=tell)
    asked = whole.history["evaluations"][1:]
    assert asked == sorted(asked)
    assert asked[-1] > 24
    assert max(kept) <= 9  # those of two kept states, which began apart
    assert whole.objective < whole.history["objective"][0]
    for stop in range(1, whole.iterations, 3):
        folder = tmp_path / str(stop)
        with pytest.raises(InterruptedError):
            problem.solve(folder=folder, progress=stopped_at(stop))
        again = problem.solve(resume=folder)
        assert torch.equal(again.unknowns, whole.unknowns), stop
        assert again.history["evaluations"] == whole.history["evaluations"]


@pytest.mark.parametrize("stop", [4, 5])
def test_a_limit_that_is_raised_where_a_library_begins_anew(stop: int, tmp_path) -> None:
    """One of these steps is the last of a routine; another begins there, whether the limit ends the run or not."""
    problem = conductivity(LBFGS(max_iterations=12, gradient_tolerance=1e-12, restart=3))
    whole = problem.solve()
    problem.updated(optimizer=replace(problem.optimizer, max_iterations=stop)).solve(
        folder=tmp_path / "run"
    )
    again = problem.solve(resume=tmp_path / "run")
    assert again.history["objective"] == whole.history["objective"]
    assert torch.equal(again.unknowns, whole.unknowns)


def test_a_library_goes_on_twice_and_through_stages(tmp_path) -> None:
    problem = conductivity(LBFGS(max_iterations=4)).updated(
        stages=[{"optimizer.max_iterations": 5}]
    )
    whole = problem.solve()
    for stop in (2, 6, 9):
        folder = tmp_path / str(stop)
        with pytest.raises(InterruptedError):
            problem.solve(folder=folder, progress=stopped_at(stop))
        if stop > 2:
            # Once more in the middle: what was heard again is not lost.
            with pytest.raises(InterruptedError):
                problem.solve(resume=folder, progress=stopped_at(stop + 1))
        assert torch.equal(problem.solve(resume=folder).unknowns, whole.unknowns), stop


def test_a_damaged_state_is_skipped(tmp_path) -> None:
    problem = conductivity(LBFGS(max_iterations=5))
    whole = problem.solve(folder=tmp_path)
    newest = sorted(tmp_path.glob("state-*.ckpt"))[-1]
    newest.write_bytes(newest.read_bytes()[:-40])
    assert torch.equal(problem.solve(resume=tmp_path).unknowns, whole.unknowns)


MISSING = ["sizes", "first", "state.value", "state.memory.slope", "x", "memory.lengths"]


@pytest.mark.parametrize("name", MISSING)
def test_a_state_that_lacks_something_is_of_another_version(
    name: str, tmp_path, monkeypatch
) -> None:
    problem = conductivity(LBFGS(max_iterations=2))
    save = Checkpoints.save

    def less(self, step, tensors, data, *rest) -> None:
        tensors, data = dict(tensors), copy.deepcopy(data)
        if name in tensors:
            del tensors[name]
        else:
            *path, last = name.split(".")
            del functools.reduce(dict.__getitem__, path, data)[last]
        save(self, step, tensors, data, *rest)

    monkeypatch.setattr(Checkpoints, "save", less)
    problem.solve(folder=tmp_path)
    last = name.removeprefix("state.").removeprefix("memory.")
    match = rf"state of step 2 has no '{last}', so another version .* start again in another folder"
    with pytest.raises(ArgumentError, match=match):
        problem.solve(resume=tmp_path)


def plate(effort: Effort, steps: int = 6) -> DesignProblem:
    """A problem that is solved iteratively."""
    of = rod(
        mesh=RectangleMesh(cells=(12, 12), cell="quad"),
        outputs=[{"type": "probe", "name": "T", "at": [(0.2, 0.3), (0.45, 0.5), (0.8, 0.6)]}],
        solver=Solver(method="cg", backend="pytorch", preconditioner="multigrid", rtol=1e-10),
    )
    return conductivity(
        MMA(max_iterations=steps, globally_convergent=True),
        of=of,
        variables=[Variable("kappa", bounds=(0.1, 10.0), transform=["log"])],
        effort=effort,
    )


EFFORTS = {
    "tolerance": Effort(first_rtol=1e-3),
    "warm": Effort(warm_start=True),
    "hierarchy": Effort(multigrid="hierarchy"),
    "all": Effort(first_rtol=1e-3, warm_start=True, multigrid="aggregates"),
}


@pytest.mark.parametrize("name", EFFORTS)
def test_what_depends_on_history_goes_on_to_the_same_bits(name: str, tmp_path) -> None:
    problem = plate(EFFORTS[name])
    whole = problem.solve(folder=tmp_path / "whole")
    with pytest.raises(InterruptedError):
        problem.solve(folder=tmp_path / "part", progress=stopped_at(3))
    again = problem.solve(resume=tmp_path / "part")
    assert torch.equal(again.unknowns, whole.unknowns)
    assert again.history["objective"] == whole.history["objective"]


@pytest.fixture(scope="module")
def exact():
    return plate(Effort(), 15).solve()


@pytest.mark.parametrize("name", EFFORTS)
def test_less_effort_finds_the_same(name: str, exact) -> None:
    found = plate(EFFORTS[name], 15).solve()
    assert torch.allclose(found.design["kappa"], exact.design["kappa"], rtol=2e-2)
    # The result is solved to the tolerance of the problem, whatever the search took.
    assert found.solution.info.residual <= 1e-10
    if EFFORTS[name].first_rtol is not None:
        used = found.history["rtol"]
        assert used[0] == 1e-3
        assert used[-1] < 1e-3


def test_multigrid_of_another_preconditioner_is_refused() -> None:
    problem = conductivity(
        LBFGS(),
        of=rod(solver=Solver(method="cg", preconditioner="jacobi")),
        effort=Effort(multigrid="hierarchy"),
    )
    with pytest.raises(SpecError, match=r"effort.multigrid.*'jacobi', which is no multigrid"):
        problem.solve()
