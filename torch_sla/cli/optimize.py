"""``torch-sla optimize``."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from rich.table import Table

from torch_sla.cli.console import err, exit_codes, out, results
from torch_sla.cli.inputs import read_parameters, read_problem
from torch_sla.cli.options import Device, File, Json, Parameters, Settings, Trust  # noqa: TC001
from torch_sla.cli.together import optimize_together, started_together
from torch_sla.errors import SpecError

if TYPE_CHECKING:
    from torch_sla.problems.analyses.design.solution import DesignSolution
    from torch_sla.problems.progress import Progress

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
) -> None:
    """Search for the best design; stop at any time, and go on with --resume.

    Started by torchrun, all processes share the forward problems, one part of the mesh each.
    """
    from torch_sla.problems.specs.design import DesignProblem

    folder = Path(file.stem) if output is None else output
    if started_together():
        optimize_together(
            *(file, settings, parameters, folder),
            resume=resume,
            device=device,
            timeout=timeout,
            trust=trust,
            pictures=pictures,
            progress=None if as_json else _tell,
            show=lambda found, written: _show(found, written, as_json=as_json),
        )
        return
    with exit_codes():
        problem = read_problem(file, settings, device, trust=trust)
        if not isinstance(problem, DesignProblem):
            raise SpecError(
                f"{file} declares a {problem.type} problem, and only those of type design are optimized",
                path="type",
            )
        given = read_parameters(parameters)
        where = {"resume": folder} if resume and folder.is_dir() else {"folder": folder}
        try:
            found = problem.solve(
                given, **where, pictures=pictures, progress=None if as_json else _tell
            )
        except KeyboardInterrupt:
            err.print(f"stopped; --resume goes on with what is in {folder}", markup=False)
            raise typer.Exit(130) from None
        written = [folder / f"{file.stem}{ending}" for ending in found.endings]
        for path in written:
            found.save(path)
        if importlib.util.find_spec("matplotlib") is not None:
            written.append(folder / "convergence.png")
            found.plot(written[-1])
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


def _tell(progress: Progress) -> None:
    """Show an iteration on a terminal."""
    if not err.is_terminal:
        return
    wanted = ("objective", "optimality", "violation", "seconds")
    shown = "  ".join(f"{n} {progress.figures[n]:.4g}" for n in wanted if n in progress.figures)
    err.print(f"{progress.done:5d}  {shown}", markup=False)
