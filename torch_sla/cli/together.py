"""``torch-sla solve`` under ``torchrun``: every process runs it, and they share the problem."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer

from torch_sla.cli.console import FAILED, exit_codes, out, outputs_table, working
from torch_sla.cli.inputs import read_parameters, read_problem

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch_sla.problems.distributed.solution import DistributedSolution

__all__ = ["solve_together"]


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
) -> None:
    """Solve with all processes; the first one speaks, each writes its part."""
    from torch_sla.linalg.distributed.launch import launched
    from torch_sla.problems.distributed.problem import distribute

    names = ["reading", "cutting", "solving", "writing"]
    with exit_codes(), launched(device or "auto", timeout) as ranks:
        with working(names, quiet=as_json or not ranks.first) as work:
            work.advance()
            problem = read_problem(file, settings, trust=trust)
            given = read_parameters(parameters)
            work.advance()
            shared = distribute(problem, device=ranks.device)
            text = shared.division.describe()
            work.advance()
            solution = shared.solve(given, throw=False)
            work.advance()
            written: list[str] = []
            if solution.info.converged:
                for ending in (".pvtu", ".json"):
                    files = solution.save(output / f"{file.stem}{ending}")
                    written += [str(path) for path in files]
        summary = _summary(solution)
        if ranks.first:
            _show(solution, text, {**summary, "files": written}, as_json=as_json)
        converged = solution.info.converged
    if not converged:
        raise typer.Exit(FAILED)


def _summary(solution: DistributedSolution) -> dict[str, Any]:
    from torch_sla.problems.report.pieces import summary_of_parts

    return summary_of_parts(solution)


def _show(
    solution: DistributedSolution, text: str, summary: dict[str, Any], *, as_json: bool
) -> None:
    if as_json:
        typer.echo(json.dumps(summary))
        return
    out.print(text, markup=False)
    out.print()
    info = solution.info
    out.print(
        f"{info.result.name.lower()}: {info.method} with {info.preconditioner}, {info.iterations} iterations, "
        f"residual {info.residual:.2e}"
    )
    for note in info.notes:
        out.print(f"  {note}", markup=False)
    out.print()
    ranges = {"u": (summary["u"]["min"], summary["u"]["max"])}
    numbers = {name: solution[name] for name in summary["outputs"]}
    out.print(outputs_table(solution.spec, ranges, numbers))
    for path in summary["files"]:
        out.print(f"wrote {path}", markup=False)
