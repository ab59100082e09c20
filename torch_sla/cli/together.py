"""``torch-sla solve`` and ``optimize`` under ``torchrun``: every process runs them, and they share the problem."""

from __future__ import annotations

import contextlib
import json
import math
import os
from typing import TYPE_CHECKING, Any

import typer

from torch_sla.cli.console import FAILED, err, logs, outputs_table, show, working
from torch_sla.cli.inputs import (
    check_folder,
    read_parameters,
    read_problem,
    refuse_design,
    require_design,
)
from torch_sla.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from torch_sla.problems.analyses.design.solution import DesignSolution
    from torch_sla.problems.distributed.solution import DistributedSolution

__all__ = [
    "draw_convergence",
    "going_on",
    "kept_on_disk",
    "optimize_together",
    "solve_together",
    "started_together",
    "where_kept",
]


def started_together() -> bool:
    """Whether this is one of several processes, without loading what they need."""
    return all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))


def solve_together(
    file: Path,
    settings: Sequence[str] | None,
    parameters: Sequence[str] | None,
    output: Path,
    *,
    device: str | None,
    timeout: float,
    trust: bool,
    as_json: bool,
    resume: bool,
    picture: bool | None,
    report: bool | None,
    verbose: int,
) -> None:
    """Solve with all processes; the first one speaks, each writes its part."""
    from torch_sla.linalg.distributed.launch import launched
    from torch_sla.problems.distributed.problem import distribute
    from torch_sla.problems.distributed.together import told
    from torch_sla.problems.folder import forget
    from torch_sla.problems.report.pieces import summary_of_parts

    names = ["reading", "cutting", "solving", "writing"]
    with launched(device or "auto", timeout) as ranks:
        quiet = as_json or not ranks.first
        with logs(verbose if ranks.first else 0), working(names, quiet=quiet) as work:
            work.advance()
            _refuse_drawing(picture=picture, report=report)
            check_folder(output, file.stem)
            problem = read_problem(file, settings, trust=trust)
            refuse_design(problem, file)
            given = read_parameters(parameters)
            work.advance()
            shared = distribute(problem, device=ranks.device)
            text = shared.describe()
            work.advance()
            kept = output / f"{file.stem}.run"
            # The first process looks: on another machine the folder may not be there yet.
            comm = shared.comm
            where = told(comm, ranks.device, lambda: where_kept(shared, kept, resume=resume))
            solution = shared.solve(given, throw=False, progress=work.tell, **where)
            work.advance()
            written: list[str] = []
            if solution.info.converged:
                for ending in solution.endings:
                    files = solution.save(output / f"{file.stem}{ending}")
                    written += [str(path) for path in files]
                if ranks.first and problem.goes_on:
                    forget(kept)
        summary = summary_of_parts(solution)
        if ranks.first:
            _show(solution, text, {**summary, "files": written}, as_json=as_json)
        converged = solution.info.converged
    if not converged:
        raise typer.Exit(FAILED)


def optimize_together(
    file: Path,
    settings: Sequence[str] | None,
    parameters: Sequence[str] | None,
    folder: Path,
    *,
    resume: bool,
    device: str | None,
    timeout: float,
    trust: bool,
    pictures: int,
    report: bool | None,
    as_json: bool,
    verbose: int,
    show: Callable[[Any, list[Path]], None],
) -> None:
    """Search with all processes; the first one keeps the run and speaks.

    Parameters
    ----------
    show
        Called on the first process with the solution and the files it wrote.
    """
    from torch_sla.linalg.distributed.launch import launched
    from torch_sla.problems.distributed.problem import distribute

    with launched(device or "auto", timeout) as ranks:
        _refuse_drawing(report=report)
        check_folder(folder, file.stem)
        problem = require_design(read_problem(file, settings, trust=trust), file)
        given = read_parameters(parameters)
        # The first process looks: on another machine the folder may not be there at all.
        where = going_on(folder, resume=resume, said=ranks.first)
        shared = distribute(problem, device=ranks.device)
        quiet = as_json or not ranks.first
        with logs(verbose if ranks.first else 0), working(["searching"], quiet=quiet) as work:
            work.advance()
            found = shared.solve(given, **where, pictures=pictures, progress=work.tell)
        written: list[Path] = []
        for case, solution in shared.solutions(found).items():
            stem = f"{file.stem}-{case}" if case else file.stem
            written += solution.save(folder / f"{stem}.pvtu")
        if ranks.first:
            for ending in (".npz", ".csv", ".json"):
                written.append(folder / f"{file.stem}{ending}")
                found.save(written[-1])
            written += draw_convergence(found, folder)
            show(found, written)


def _refuse_drawing(*, picture: bool | None = None, report: bool | None = None) -> None:
    """Refuse what is asked for in so many words and drawn from the whole solution, which no process has."""
    wanted = {"--picture": picture, "--report": report}
    asked = " and ".join(name for name, value in wanted.items() if value)
    if asked:
        raise ArgumentError(
            f"{asked}: drawn from the whole solution, and under torchrun each process has its own part; go without "
            "(viewers show the files of all parts together), or run in one process"
        )


def where_kept(problem: Any, kept: Path, *, resume: bool) -> dict[str, Any]:
    """Return where a run is kept, if its kind can go on."""
    if not problem.goes_on:
        if resume:
            raise ArgumentError(
                "--resume goes on with runs in time, and in one process with sweeps; this problem is solved in one "
                "go, or case after case: leave it out"
            )
        return {}
    if kept.exists() and not kept.is_dir():
        raise ArgumentError(f"{kept} is a file, where the run is to be kept; move it away")
    return going_on(kept, resume=resume)


@contextlib.contextmanager
def kept_on_disk(folder: Path) -> Iterator[None]:
    """Where the disk ends the work (it is full, say), tell how to go on with what it has."""
    from torch_sla.problems.folder import held

    try:
        yield
    except OSError as error:
        if not held(folder):
            raise
        raise ArgumentError(
            f"{error}; once that is mended, --resume goes on with what is in {folder}"
        ) from error


def draw_convergence(found: DesignSolution, folder: Path) -> list[Path]:
    """Draw how a search went; return the file, or say why there is none."""
    from torch_sla.problems.report.picture import undrawable

    path = folder / "convergence.png"
    why = undrawable()
    if why is not None:
        err.print(f"no {path.name}: {why}", markup=False)
        return []
    found.plot(path)
    return [path]


def going_on(folder: Path, *, resume: bool, said: bool = True) -> dict[str, Any]:
    """Return the arguments that go on with a run, or begin one; said where there is none to go on with.

    Raises
    ------
    ArgumentError
        Where there is a run, and nobody said what is to become of it.
    """
    from torch_sla.problems.folder import held

    there = held(folder)
    if there and not resume:
        raise ArgumentError(
            f"{folder} holds a run already: --resume goes on with it; to start again, delete the folder or take "
            "another with -o"
        )
    if resume and not there and said:
        err.print(f"--resume: {folder} holds no run that was stopped; starting anew", markup=False)
    return {"resume" if resume and there else "folder": folder}


def _show(
    solution: DistributedSolution, text: str, summary: dict[str, Any], *, as_json: bool
) -> None:
    if as_json:
        typer.echo(json.dumps(summary))
        return
    from torch_sla.problems.results import marked

    info = solution.info
    how = f"{info.method} with {info.preconditioner}, {info.iterations} iterations, residual {info.residual:.2e}"
    names = [name for name in ("u", "eigenvalues") if name in summary]
    ends = {str(name): (summary[name]["min"], summary[name]["max"]) for name in names}
    ranges = {n: (math.nan, math.nan) if None in pair else pair for n, pair in ends.items()}
    numbers = {name: marked(solution[name], info.solved) for name in summary["outputs"]}
    show(text, info, how, outputs_table(solution.spec, ranges, numbers), summary["files"])
