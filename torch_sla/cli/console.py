"""Output to people: tables, progress, errors and exit codes."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from torch_sla.errors import RankError, SolveError, TorchSlaError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from torch_sla.problems.results import Named
    from torch_sla.problems.specs.outputs import Output
    from torch_sla.problems.specs.problem import Problem

__all__ = ["FAILED", "WRONG_INPUT", "err", "exit_codes", "out", "outputs_table", "results", "steps"]

FAILED, WRONG_INPUT = 1, 2

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def exit_codes() -> Iterator[None]:
    """Turn errors into one message on stderr and the right exit code."""
    try:
        yield
    except (SolveError, RankError) as error:
        _say("failed", error)
        raise typer.Exit(FAILED) from None
    except (TorchSlaError, OSError) as error:
        _say("error", error)
        raise typer.Exit(WRONG_INPUT) from None


def _say(what: str, error: Exception) -> None:
    """Print an error, unless another process does."""
    if not getattr(error, "repeated", False):
        err.print(f"[bold red]{what}[/] {escape(str(error))}")


@contextlib.contextmanager
def steps(names: list[str], *, quiet: bool = False) -> Iterator[Any]:
    """Show what is being done on stderr; calls to the yielded function go on to the next step."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True, disable=quiet) as progress:
        task = progress.add_task("", total=len(names))
        left = iter(names)

        def advance() -> None:
            progress.update(task, description=next(left), advance=1)

        yield advance


def _declared(spec: Problem) -> Sequence[Output]:
    """Return the outputs of a problem, or of those that an analysis is of."""
    return [*spec.outputs, *(o for part in spec.parts.values() for o in _declared(part))]


def results(solution: Named) -> Table:
    """Make the table of the fields and outputs of a solution."""
    ranges = {}
    for name, field in solution.fields.items():
        u, shown = field.detach(), name
        if u.is_complex():
            u, shown = u.abs(), f"|{name}|"
        ranges[shown] = (float(u.min()), float(u.max()))
    return outputs_table(solution.spec, ranges, solution.outputs)


def outputs_table(
    spec: Problem, ranges: Mapping[str, tuple[float, float]], outputs: Mapping[str, Tensor]
) -> Table:
    """Make a table of the ranges of fields and the values of outputs."""
    table = Table("output", "value", "unit", box=None, pad_edge=False, header_style="bold")
    units = {output.name: output.unit or "" for output in _declared(spec)}
    for name, (least, most) in ranges.items():
        table.add_row(name, f"{least:.8g} ... {most:.8g}", "")
    for name, value in outputs.items():
        flat = value.detach().reshape(-1)
        if len(flat) <= 6:
            text = "  ".join(f"{v:.8g}" for v in flat.tolist())
        else:
            flat = flat.abs() if flat.is_complex() else flat
            text = f"{float(flat.min()):.8g} ... {float(flat.max()):.8g}  {list(value.shape)}"
        table.add_row(escape(name), text, escape(units.get(name, "")))
    return table
