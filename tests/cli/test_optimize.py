"""``optimize`` and ``check-gradients`` from the shell."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.helpers.designs import conductivity, loads, rod
from tests.helpers.shell import run
from torch_sla import (
    LBFGS,
    Dirichlet,
    EigenProblem,
    Parameter,
    PoissonProblem,
    RectangleMesh,
    SweepProblem,
    load_problem,
)
from torch_sla.errors import ArgumentError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def file(tmp_path) -> Path:
    conductivity(LBFGS(max_iterations=3)).to_yaml(tmp_path / "rod.yaml")
    return tmp_path / "rod.yaml"


def test_it_tells_the_same_as_python(file: Path, tmp_path) -> None:
    done = run("optimize", file, "-o", tmp_path / "run", "--json", "--pictures", 2)
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    found = load_problem(file).solve()
    assert report["search"]["objective"] == found.objective
    assert report["design"]["kappa"] == found.design["kappa"].tolist()
    assert report["spec_hash"] == found.spec_hash
    assert {p.rpartition(".")[2] for p in report["files"]} >= {"npz", "csv", "json", "vtu", "png"}
    for path in report["files"]:
        assert (tmp_path / path).exists()
    assert (tmp_path / "run/pictures/kappa-00002.png").exists()


def test_it_goes_on(file: Path, tmp_path) -> None:
    assert run("optimize", file, "-o", tmp_path / "run").exit_code == 0
    again = run("optimize", file, "-o", tmp_path / "run")
    assert again.exit_code == 2
    assert "holds a run already: --resume" in again.output
    longer = ["--set", "optimizer.max_iterations=8", "--json"]
    done = run("optimize", file, "-o", tmp_path / "run", "--resume", *longer)
    assert done.exit_code == 0, done.output
    whole = run("optimize", file, "-o", tmp_path / "whole", "--resume", *longer)
    assert "whole holds no run that was stopped; starting anew" in whole.stderr
    a, b = (json.loads(r.stdout) for r in (done, whole))
    assert a["search"]["objective"] == b["search"]["objective"]
    assert a["design"] == b["design"]


def test_without_matplotlib_a_search_has_no_picture(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    done = run("optimize", file, "-o", tmp_path / "run")
    assert done.exit_code == 0, done.output
    assert "no convergence.png: plotting needs matplotlib" in " ".join(done.stderr.split())
    assert {path.suffix for path in (tmp_path / "run").iterdir()} >= {".npz", ".json", ".html"}
    assert not list((tmp_path / "run").glob("*.png"))


def test_words(file: Path, tmp_path) -> None:
    done = run("optimize", file, "-o", tmp_path / "run")
    for words in ("3 iterations", "kappa", "objective", "wrote"):
        assert words in done.output
    assert "variable" in run("explain", file).output
    assert "is valid: design" in run("validate", file).output


def test_several_problems_and_a_device(tmp_path) -> None:
    loads(LBFGS(max_iterations=1)).to_yaml(tmp_path / "d.yaml")
    done = run("optimize", tmp_path / "d.yaml", "-o", tmp_path / "run", "--device", "cpu", "--json")
    assert done.exit_code == 0, done.output
    assert "mean" in json.loads(done.stdout)["outputs"]


def test_only_designs_are_optimized_and_only_others_solved(file: Path, tmp_path) -> None:
    rod().to_yaml(tmp_path / "plain.yaml")
    wrong = run("optimize", tmp_path / "plain.yaml", "-o", tmp_path / "run")
    assert wrong.exit_code == 2
    assert "only those of type design are optimized" in wrong.output
    wrong = run("solve", file)
    assert wrong.exit_code == 2
    assert "torch-sla optimize" in wrong.output


def test_check_gradients(file: Path, tmp_path) -> None:
    done = run("check-gradients", file)
    assert done.exit_code == 0, done.output
    assert "objective by kappa" in done.output
    rod().to_yaml(tmp_path / "plain.yaml")
    done = run("check-gradients", tmp_path / "plain.yaml", "--param", "f=2.0")
    assert done.exit_code == 0, done.output
    assert "kappa" in done.output
    assert "<- wrong" not in done.output


def test_a_start_that_fails(file: Path, tmp_path) -> None:
    text = (
        file.read_text()
        .replace("transform: [{type: log}]", "")
        .replace("bounds:", "initial: -1.0\n  bounds:")
    )
    (tmp_path / "bad.yaml").write_text(text)
    done = run("optimize", tmp_path / "bad.yaml", "-o", tmp_path / "run")
    assert done.exit_code == 2, done.output


def test_set_an_option_of_the_optimizer(file: Path, tmp_path) -> None:
    """Of the default one where the file names none, of the bare type where it names that alone."""
    whole = file.read_text("utf-8")
    start = whole.index("optimizer:")
    end = whole.index("\n", start) + 1
    while whole[end : end + 1] == " ":
        end = whole.index("\n", end) + 1
    changed = ("--set", "optimizer.max_iterations=2", "--json")
    for name, text in (("default", ""), ("bare", "optimizer: mma\n")):
        file.write_text(whole[:start] + text + whole[end:], "utf-8")
        done = run("optimize", file, "-o", tmp_path / name, *changed)
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["search"]["iterations"] == 2
    done = run("optimize", file, "-o", tmp_path / "wrong", "--set", "optimizer.memry=2")
    assert done.exit_code == 2


def test_what_nothing_depends_on_is_left_out_of_the_test_of_gradients(tmp_path) -> None:
    problem = PoissonProblem(
        mesh=RectangleMesh(cells=(3, 3)),
        capacity=Parameter("c", default=2.0),
        source=Parameter("f", default=1.0),
        parameters=[Parameter("idle", default=1.0)],
        boundary=[Dirichlet("left", 0.0)],
    )
    problem.to_yaml(tmp_path / "plain.yaml")
    EigenProblem(of=problem, k=2).to_yaml(tmp_path / "modes.yaml")
    for name, idle, tested in (("plain", ("c", "idle"), "f"), ("modes", ("f", "idle"), "c")):
        done = run("check-gradients", tmp_path / f"{name}.yaml")
        assert done.exit_code == 0, done.output
        for other in idle:
            assert f"{other} is left out" in done.output
        assert f"\n{tested} " in done.output
    done = run("check-gradients", tmp_path / "plain.yaml", "--param", "idle=2.0")
    assert (done.exit_code, "'idle' requires grad" in done.output) == (2, True)
    np.save(tmp_path / "f.npy", np.array(3))
    done = run("check-gradients", tmp_path / "plain.yaml", "--param", f"f={tmp_path / 'f.npy'}")
    assert done.exit_code == 0, done.output


def test_a_sweep_asks_for_no_value_of_what_its_cases_vary(tmp_path) -> None:
    rod().to_yaml(tmp_path / "rod.yaml")
    every = {name: [1.0, 2.0] for name in rod().declared}
    SweepProblem(of=rod(), cases=every).to_yaml(tmp_path / "all.yaml")
    done = run("check-gradients", tmp_path / "all.yaml")
    assert done.exit_code == 2
    assert "the cases vary every parameter" in done.stderr
    for varied, left in (("f", "kappa"), ("kappa", "f")):
        sweep = SweepProblem(of=rod(), cases={varied: [1.0, 2.0]})
        with pytest.raises(ArgumentError, match=rf"\(there are: {left}\)"):
            sweep.check_gradients()


def test_a_search_ends_without_a_plotting_library(file: Path, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    done = run("optimize", file, "-o", tmp_path / "run")
    assert done.exit_code == 0, done.output
    assert "no convergence.png" in done.stderr
    assert "objective" in done.stdout
    done = run("optimize", file, "-o", tmp_path / "other", "--pictures", 1)
    assert (done.exit_code, "pip install matplotlib" in done.stderr) == (2, True)
