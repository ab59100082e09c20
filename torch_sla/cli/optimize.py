"""``torch-sla optimize``."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from rich.table import Table

from torch_sla.cli.console import STOPPED, command, err, logs, out, results, working
from torch_sla.cli.inputs import (
    check_folder,
    read_parameters,
    read_problem,
    require_design,
)
from torch_sla.cli.options import (
    Device,  # noqa: TC001
    File,  # noqa: TC001
    Json,  # noqa: TC001
    Parameters,  # noqa: TC001
    Report,  # noqa: TC001
    Settings,  # noqa: TC001
    Trust,  # noqa: TC001
    Verbose,  # noqa: TC001
)
from torch_sla.cli.together import (
    draw_convergence,
    going_on,
    kept_on_disk,
    optimize_together,
    started_together,
)

if TYPE_CHECKING:
    from torch_sla.problems.analyses.design.solution import DesignSolution

__all__ = ["optimize"]


def optimize(
    file: File,
    settings: Settings = None,
    parameters: Parameters = None,
    output: Annotated[
        Optional[Path],  # noqa: UP045  (typer reads this at run time)
        typer.Option(
            "--output",
            "-o",
            help="Folder of the run: checkpoints, history, pictures, results. FILE without its ending when left out.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in the folder.")
    ] = False,
    device: Device = None,
    trust: Trust = False,
    as_json: Json = False,
    timeout: Annotated[
        float, typer.Option(help="Under torchrun: seconds to wait for another process.")
    ] = 300.0,
    pictures: Annotated[
        int, typer.Option("--pictures", min=0, help="Draw the design every so many iterations.")
    ] = 0,
    report: Report = None,
    verbose: Verbose = 0,
) -> None:
    """Search for the best design; stop at any time, and go on with --resume.

    Started by torchrun, all processes share the forward problems, one part of the mesh each.
    """
    folder = Path(file.stem) if output is None else output
    if started_together():
        optimize_together(
            *(file, settings, parameters, folder),
            resume=resume,
            device=device,
            timeout=timeout,
            trust=trust,
            pictures=pictures,
            report=report,
            as_json=as_json,
            verbose=verbose,
            show=lambda found, written: _show(found, written, as_json=as_json),
        )
        return
    names = ["reading", "compiling", "searching", "writing"]
    with (
        kept_on_disk(folder),
        logs(verbose),
        working(names, quiet=as_json) as work,
    ):
        work.advance()
        check_folder(folder, file.stem)
        problem = require_design(read_problem(file, settings, device, trust=trust), file)
        given = read_parameters(parameters)
        work.advance()
        problem.compile()
        work.advance()
        work.gently = True
        where = going_on(folder, resume=resume)
        start = time.monotonic()
        try:
            found = problem.solve(given, **where, pictures=pictures, progress=work.tell)
        except KeyboardInterrupt:
            err.print(f"stopped; --resume goes on with what is in {folder}", markup=False)
            raise typer.Exit(STOPPED) from None
        seconds = time.monotonic() - start
        work.advance()
        written = [folder / f"{file.stem}{ending}" for ending in found.endings]
        for path in written:
            found.save(path)
        written += draw_convergence(found, folder)
        if report is not False:
            written.append(folder / f"{file.stem}.html")
            found.report(written[-1], command=command(), seconds=seconds)
    _show(found, written, as_json=as_json)


def _show(found: DesignSolution, written: list[Path], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({**found.summary, "files": [str(path) for path in written]}))
        return
    ended = "converged" if found.converged else "not converged"
    out.print(f"{ended} after {found.iterations} iterations: {found.reason}", markup=False)
    table = Table("variable", "value", "unit", box=None, pad_edge=False, header_style="bold")
    for name, value in found.design.items():
        low, high = float(value.min()), float(value.max())
        shown = f"{low:.8g}" if value.numel() == 1 else f"{low:.8g} ... {high:.8g}"
        declared = found.spec.declared.get(name)
        table.add_row(name, shown, "" if declared is None else declared.unit or "")
    table.add_row("objective", f"{found.objective:.8g}", "")
    out.print(table)
    out.print()
    out.print(results(found))
    for path in written:
        out.print(f"wrote {path}", markup=False)
