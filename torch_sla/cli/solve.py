"""``torch-sla solve``."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from torch_sla.cli.console import (
    FAILED,
    STOPPED,
    command,
    duration,
    err,
    logs,
    out,
    results,
    show,
    working,
)
from torch_sla.cli.inputs import check_folder, read_parameters, read_problem, refuse_design
from torch_sla.cli.options import (  # noqa: TC001  (typer reads these at run time)
    Device,
    File,
    Json,
    Parameters,
    Picture,
    Report,
    Settings,
    Trust,
    Verbose,
)
from torch_sla.cli.together import kept_on_disk, solve_together, started_together, where_kept

if TYPE_CHECKING:
    from torch_sla.problems.solution import Solution

__all__ = ["solve"]


def solve(
    file: File,
    settings: Settings = None,
    parameters: Parameters = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for .vtu, .png, .json, .html.")
    ] = Path(),
    device: Device = None,
    trust: Trust = False,
    as_json: Json = False,
    timeout: Annotated[
        float, typer.Option(help="Under torchrun: seconds to wait for another process.")
    ] = 300.0,
    picture: Picture = None,
    report: Report = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with a run in time or a sweep that was stopped."),
    ] = False,
    verbose: Verbose = 0,
) -> None:
    """Solve a problem, print the plan and the outputs, write fields, a picture and a page about the run.

    A run in time and a sweep are kept in the folder while they go on: after Ctrl-C or a crash, --resume goes on to
    the same result. Started by torchrun, all processes share the problem, one part of the mesh each.
    """
    if started_together():
        solve_together(
            *(file, settings, parameters, output),
            device=device,
            timeout=timeout,
            trust=trust,
            as_json=as_json,
            resume=resume,
            picture=picture,
            report=report,
            verbose=verbose,
        )
        return
    picture, report = picture is not False, report is not False
    from torch_sla.problems.folder import forget
    from torch_sla.problems.report.picture import undrawable

    names = ["reading", "compiling", "solving", "writing"]
    kept = output / f"{file.stem}.run"
    with (
        kept_on_disk(kept),
        logs(verbose),
        working(names, quiet=as_json) as work,
    ):
        work.advance()
        check_folder(output, file.stem)
        problem = read_problem(file, settings, device, trust=trust)
        refuse_design(problem, file)
        given = read_parameters(parameters)
        work.advance()
        text = problem.explain(given)
        work.advance()
        work.gently = problem.goes_on
        start = time.monotonic()
        try:
            solution = problem.solve(
                given,
                throw=False,
                info=True,
                progress=work.tell,
                **where_kept(problem, kept, resume=resume),
            )
        except KeyboardInterrupt:
            if problem.goes_on and kept.is_dir():
                err.print(f"stopped; --resume goes on with what is in {kept}", markup=False)
            else:
                err.print("stopped")
            raise typer.Exit(STOPPED) from None
        seconds = time.monotonic() - start
        work.advance()
        written: list[Path] = []
        missing: str | None = None
        if solution.info.converged:
            drawn = picture and solution.drawable
            missing = undrawable() if drawn else None
            written = _write(solution, output / file.stem, picture=drawn and missing is None)
            if problem.goes_on:
                forget(kept)
        if report:
            # What failed is looked at all the more.
            written.append(output / f"{file.stem}.html")
            solution.report(written[-1], command=command(), seconds=seconds)
    if as_json:
        from torch_sla.problems.report.save import summary

        typer.echo(json.dumps({**summary(solution), "files": [str(path) for path in written]}))
    else:
        info = solution.info
        how = (
            f"{info.backend} {info.method}, {info.iterations} iterations, residual {info.residual:.2e}, "
            f"{duration(seconds)}"
        )
        show(text, info, how, results(solution), written)
        if missing is not None:
            out.print(f"no .png: {missing}", markup=False)
    if not solution.info.converged:
        raise typer.Exit(FAILED)


def _write(solution: Solution, stem: Path, *, picture: bool) -> list[Path]:
    """Write what was found into files that begin like this."""
    written = [stem.with_name(f"{stem.name}{ending}") for ending in solution.endings]
    for path in written:
        solution.save(path)
    if picture:
        written.append(stem.with_name(f"{stem.name}.png"))
        solution.plot(written[-1])
    return written
