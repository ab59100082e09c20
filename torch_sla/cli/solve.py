"""``torch-sla solve``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from torch_sla.cli.console import FAILED, exit_codes, out, results, steps
from torch_sla.cli.inputs import read_parameters, read_problem
from torch_sla.cli.options import Device, File, Json, Parameters, Settings, Trust  # noqa: TC001
from torch_sla.cli.together import solve_together
from torch_sla.errors import SpecError

__all__ = ["solve"]


def started_together() -> bool:
    """Whether this is one of several processes, without loading what they need."""
    return all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))


def solve(
    file: File,
    settings: Settings = None,
    parameters: Parameters = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for .vtu, .png and .json.")
    ] = Path(),
    device: Device = None,
    trust: Trust = False,
    as_json: Json = False,
    timeout: Annotated[
        float, typer.Option(help="Under torchrun: seconds to wait for another process.")
    ] = 300.0,
    picture: Annotated[bool, typer.Option("--picture/--no-picture", help="Write a .png.")] = True,
) -> None:
    """Solve a problem, print the plan and the outputs, write fields and a picture.

    Started by torchrun, all processes share the problem, one part of the mesh each.
    """
    if started_together():
        what = (settings, parameters, output)
        solve_together(file, *what, device=device, timeout=timeout, trust=trust, as_json=as_json)
        return
    names = ["reading", "compiling", "solving", "writing"]
    with exit_codes(), steps(names, quiet=as_json) as advance:
        advance()
        problem = read_problem(file, settings, device, trust=trust)
        if problem.type == "design":
            raise SpecError(
                f"{file} declares a design problem; search with torch-sla optimize {file}",
                path="type",
            )
        given = read_parameters(parameters)
        advance()
        text = problem.explain(given)
        advance()
        solution = problem.solve(given, throw=False)
        advance()
        written = []
        if solution.info.converged:
            output.mkdir(parents=True, exist_ok=True)
            for ending in solution.endings:
                written.append(output / f"{file.stem}{ending}")
                solution.save(written[-1])
            if picture and solution.drawable:
                written.append(output / f"{file.stem}.png")
                solution.plot(written[-1])
    if as_json:
        from torch_sla.problems.report.save import summary

        typer.echo(json.dumps({**summary(solution), "files": [str(path) for path in written]}))
    else:
        out.print(text, markup=False)
        out.print()
        info = solution.info
        out.print(
            f"{info.result.name.lower()}: {info.backend} {info.method}, {info.iterations} iterations, residual "
            f"{info.residual:.2e}"
        )
        for note in info.notes:
            out.print(f"  {note}", markup=False)
        out.print()
        out.print(results(solution))
        for path in written:
            out.print(f"wrote {path}", markup=False)
    if not solution.info.converged:
        raise typer.Exit(FAILED)
