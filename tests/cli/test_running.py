"""Long work in the shell: bars, logs, stopping, going on."""

from __future__ import annotations

import errno
import logging
import os
import pty
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from torch_sla import (
    Dirichlet,
    Flux,
    IntervalMesh,
    Parameter,
    PoissonProblem,
    RectangleMesh,
    SweepProblem,
)
from torch_sla.cli.app import app
from torch_sla.cli.console import duration
from torch_sla.cli.together import going_on, where_kept
from torch_sla.errors import ArgumentError
from torch_sla.problems.checkpoint import Checkpoints

if TYPE_CHECKING:
    from click.testing import Result


@pytest.fixture
def cases(tmp_path) -> Path:
    fin = PoissonProblem(
        mesh=IntervalMesh(cells=10, size=0.05),
        diffusivity=0.4,
        reaction="2*h",
        parameters=[Parameter("h", default=10.0)],
        boundary=[Dirichlet("left", 60.0)],
        outputs=[Flux("heat", "left")],
    )
    SweepProblem(of=fin, cases={"h": [1.0 + i / 3 for i in range(9)]}).to_yaml(
        tmp_path / "fins.yaml"
    )
    return tmp_path / "fins.yaml"


# One case is a part, and the run asks itself to stop after the fourth, as Ctrl-C does.
SCRIPT = """
import os, signal, sys
from torch_sla.cli import main
from torch_sla.cli.console import Work
from torch_sla.problems.analyses import sweep
from torch_sla.problems.checkpoint import Checkpoints
sweep._MOST = 1
at, Checkpoints.patience = int(sys.argv.pop(1)), float(sys.argv.pop(1))
tell = Work.tell

def stopping(self, progress):
    if progress.done == at:
        os.kill(os.getpid(), signal.SIGINT)
    tell(self, progress)

Work.tell = stopping
main()
"""


def shell(
    *arguments: object, at: int = 0, patience: float = 1e9
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(at), str(patience)]
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120
    )


def test_a_run_that_was_stopped_goes_on_to_the_same_table(
    cases: Path, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def inside(*arguments: object) -> Result:
        return CliRunner().invoke(app, [*map(str, arguments)])

    monkeypatch.setattr("torch_sla.problems.analyses.sweep._MOST", 1)
    options = ("--no-report", "-o", tmp_path / "out")
    stopped = shell("solve", cases, *options, at=4)
    assert stopped.returncode == 130, stopped.stderr
    assert "--resume goes on" in stopped.stderr
    kept = tmp_path / "out" / "fins.run"
    assert any(kept.glob("state-000000004*"))  # though it was not yet time to save
    refused = inside("solve", cases, *options)
    assert refused.exit_code == 2
    assert "holds a run already: --resume" in refused.stderr
    done = shell("solve", cases, *options, "--resume")
    assert done.returncode == 0, done.stderr
    assert not kept.exists()
    whole = inside("solve", cases, "--no-report", "-o", tmp_path / "whole")
    assert whole.exit_code == 0
    assert whole.stderr == ""  # piped, nothing is said of progress
    texts = [(tmp_path / name / "fins.csv").read_bytes() for name in ("out", "whole")]
    assert texts[0] == texts[1]
    again = inside("solve", cases, *options, "--resume")  # of a run that has ended, nothing is kept
    assert again.exit_code == 0
    assert f"{kept} holds no run that was stopped; starting anew" in again.stderr


def test_a_folder_without_a_state_is_no_run(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a kill before the first state leaves it; and where a search finds other files."""
    (tmp_path / "run.lock").write_text("process 1 on here")
    problem = SimpleNamespace(goes_on=True)
    assert where_kept(problem, tmp_path, resume=False) == {"folder": tmp_path}
    assert capsys.readouterr().err == ""
    assert where_kept(problem, tmp_path, resume=True) == {"folder": tmp_path}
    assert going_on(tmp_path, resume=True) == {"folder": tmp_path}
    assert capsys.readouterr().err.count("holds no run that was stopped; starting anew") == 2
    Checkpoints(tmp_path, {}).save(1, {})
    assert going_on(tmp_path, resume=True) == {"resume": tmp_path}
    with pytest.raises(ArgumentError, match="--resume goes on with it"):
        where_kept(problem, tmp_path, resume=False)


def test_what_is_solved_in_one_go_is_not_gone_on_with(tmp_path) -> None:
    file = tmp_path / "plain.yaml"
    file.write_text("version: 2\ntype: poisson\nmesh: {type: rectangle, cells: [2, 2]}\n")
    refused = CliRunner().invoke(app, ["solve", str(file), "--resume"])
    assert refused.exit_code == 2
    assert "--resume goes on with runs in time, and in one process with sweeps" in refused.stderr


def test_on_a_terminal_there_is_a_bar_with_the_time_left(cases: Path, tmp_path) -> None:
    screen, end = pty.openpty()
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), "0", "1e9"]
    arguments = ["solve", str(cases), "--no-report", "-o", str(tmp_path)]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    slow = command[2].replace(
        "tell(self, progress)", "import time; time.sleep(0.15); tell(self, progress)"
    )
    command[2] = slow
    with subprocess.Popen(
        [*command, *arguments], stdout=subprocess.DEVNULL, stderr=end, env=environment
    ) as process:
        os.close(end)
        shown = b""
        while True:
            try:
                more = os.read(screen, 65536)
            except OSError:  # the other end has closed
                break
            if not more:
                break
            shown += more
        assert process.wait(60) == 0
    os.close(screen)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert re.search(r"cases.*[1-8]/9  \d+\.\d s left  residual", text)


def test_logs_are_shown_when_asked_for(tmp_path) -> None:
    PoissonProblem(mesh=RectangleMesh(cells=(3, 3)), boundary=[Dirichlet("left", 1.0)]).to_yaml(
        tmp_path / "p.yaml"
    )
    arguments = [
        "solve",
        str(tmp_path / "p.yaml"),
        "--no-report",
        "--no-picture",
        "-o",
        str(tmp_path),
    ]
    silent = CliRunner().invoke(app, arguments)
    assert "torch_sla." not in silent.stderr
    once = CliRunner().invoke(app, [*arguments, "-v"])
    assert "torch_sla.problems" in once.stderr
    assert "torch_sla.linalg" not in once.stderr
    twice = CliRunner().invoke(app, [*arguments, "-vv"])
    assert "torch_sla.linalg.solve" in twice.stderr
    assert not logging.getLogger("torch_sla").handlers  # the library itself has none


def test_times_are_written_for_people() -> None:
    assert [duration(s) for s in (0.04, 9.96, 61, 3600)] == [
        "0.0 s",
        "10.0 s",
        "1 min 1 s",
        "1 h 0 min",
    ]


def test_a_page_comes_with_a_run(tmp_path) -> None:
    before = signal.getsignal(signal.SIGINT)
    PoissonProblem(mesh=RectangleMesh(cells=(3, 3)), boundary=[Dirichlet("left", 1.0)]).to_yaml(
        tmp_path / "p.yaml"
    )
    done = CliRunner().invoke(
        app, ["solve", str(tmp_path / "p.yaml"), "--no-picture", "-o", str(tmp_path)]
    )
    assert done.exit_code == 0
    assert "converged" in (tmp_path / "p.html").read_text(encoding="utf-8")
    broken = ["--set", "solver.method=cg", "--set", "solver.maxiter=1", "--set", "source=1.0"]
    broken += ["--set", "solver.preconditioner=none", "--set", "solver.backend=scipy"]
    failed = CliRunner().invoke(
        app, ["solve", str(tmp_path / "p.yaml"), *broken, "-o", str(tmp_path / "failed")]
    )
    assert failed.exit_code == 1
    assert [path.name for path in (tmp_path / "failed").iterdir()] == ["p.html"]
    assert "maxiter" in (tmp_path / "failed" / "p.html").read_text(encoding="utf-8")
    assert signal.getsignal(signal.SIGINT) is before


def test_a_full_disk_is_told_with_the_file_and_how_to_go_on(cases, tmp_path, monkeypatch) -> None:
    """As one that is full when the results are written: the run is still there to go on with."""

    def full(_: Path, *__: object, **___: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Checkpoints, "patience", 0.0)
    monkeypatch.setattr("pathlib.Path.write_text", full)
    runner, kept = CliRunner(), tmp_path / "out" / "fins.run"
    command = ["solve", str(cases), "-o", str(tmp_path / "out"), "--no-picture", "--no-report"]
    result = runner.invoke(app, command)
    assert result.exit_code == 2
    said = result.output.replace("\n", "")
    assert "fins.json'; once that is mended, --resume goes on with what is in" in said
    assert str(kept) in said
    monkeypatch.undo()
    assert runner.invoke(app, [*command, "--resume"]).exit_code == 0
    assert not kept.exists()


def test_who_stops_reading_is_told_nothing() -> None:
    """As ``torch-sla schema | head -1``."""
    reading, writing = os.pipe()
    os.close(reading)
    command = (sys.executable, "-m", "torch_sla.cli", "schema")
    done = subprocess.run(
        command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False, timeout=120
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_results_that_cannot_be_written_to_the_screen_are_no_traceback(
    cases: Path, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a full disk, ``torch-sla solve FILE --json > out.json``; what is solved is in its files."""
    from torch_sla.cli import console

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("typer.echo", full)
    monkeypatch.setattr(console.out, "print", full)
    options = ("--no-report", "--no-picture", "-o", str(tmp_path / "out"))
    for arguments in (("solve", str(cases), "--json", *options), ("backends",)):
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 2
        assert done.stderr.count("No space left on device") == 1
        assert done.stdout == ""
    assert (tmp_path / "out" / "fins.csv").is_file()


def test_a_wish_to_stop_while_modules_are_imported_is_one_line() -> None:
    program = """
import sys

class Stop:
    def find_spec(self, name, *_):
        if name == "typer":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Stop())
from torch_sla.cli import main
main()
"""
    done = subprocess.run(
        (sys.executable, "-c", program), capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no file that is always full")
def test_help_that_cannot_be_written_is_no_traceback() -> None:
    command = (sys.executable, "-m", "torch_sla.cli", "--help")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=120
        )
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["error [Errno 28] No space left on device"]
