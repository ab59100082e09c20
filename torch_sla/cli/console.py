"""Output to people: tables, progress, errors and exit codes."""

from __future__ import annotations

import contextlib
import logging
import math
import shlex
import signal
import sys
import threading
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from torch_sla.errors import RankError, SolveError, TorchSlaError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from rich.progress import TaskID
    from torch import Tensor

    from torch_sla.linalg.info import SolveInfo
    from torch_sla.problems.progress import Progress as Done
    from torch_sla.problems.results import Named
    from torch_sla.problems.specs.outputs import Output
    from torch_sla.problems.specs.problem import Problem

__all__ = [
    "FAILED",
    "STOPPED",
    "WRONG_INPUT",
    "Work",
    "duration",
    "err",
    "exit_codes",
    "logs",
    "out",
    "outputs_table",
    "results",
    "show",
    "working",
]

FAILED, WRONG_INPUT, STOPPED = 1, 2, 130

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def exit_codes() -> Iterator[None]:
    """Turn errors into one message on stderr and the right exit code."""
    try:
        yield
    except BrokenPipeError:
        raise  # who reads wants no more, and hears no more: typer ends with code 1
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


class Work:
    """What is being done, on a line of stderr that goes away; nothing where that is no terminal.

    Parameters
    ----------
    names
        Steps in order; `advance` goes on to the next.

    Attributes
    ----------
    gently
        Whether a wish to stop waits for the end of the part in progress.
    stopped
        Whether there is one.
    """

    def __init__(self, names: list[str], bars: Progress) -> None:
        self._left, self._bars = iter(names), bars
        self._step = bars.add_task("", total=None, shown="")
        self._part: TaskID | None = None
        self._task = ""
        self.stopped = self.gently = False

    def advance(self) -> None:
        """Go on to the next step."""
        if self._part is not None:
            self._bars.remove_task(self._part)
            self._part = None
        self._bars.update(self._step, description=next(self._left))

    def tell(self, progress: Done) -> None:
        """Show how far a long step is, with the time left; a `ProgressCallback`.

        Raises
        ------
        KeyboardInterrupt
            If someone has asked to stop: between two parts, so that what is done is kept.
        """
        if self._part is None or self._task != progress.task:
            if self._part is not None:
                self._bars.remove_task(self._part)
            self._part = self._bars.add_task(progress.task, total=progress.total, shown="")
            self._task = progress.task
        self._bars.update(self._part, completed=progress.done, shown=_shown(progress))
        if self.stopped:
            raise KeyboardInterrupt


def _shown(progress: Done) -> str:
    """Write how far work is: parts, time left, figures."""
    parts = [f"{progress.done}/{progress.total}" if progress.total else f"{progress.done}"]
    if progress.left is not None:
        parts.append(f"{duration(progress.left)} left")
    parts += [f"{name} {value:.4g}" for name, value in progress.figures.items()]
    return escape("  ".join(parts))


def duration(seconds: float) -> str:
    """Write a time for people.

    Examples
    --------
    >>> duration(0.42), duration(75.0), duration(7500.0)
    ('0.4 s', '1 min 15 s', '2 h 5 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, left = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {left} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


@contextlib.contextmanager
def working(names: list[str], *, quiet: bool = False) -> Iterator[Work]:
    """Show steps, and how far the long ones are.

    Where a run is kept (``gently``), the first Ctrl-C stops after the part in progress, the second at once.
    """
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        TimeElapsedColumn(),
        TextColumn("{task.fields[shown]}"),
    )
    shown = err.is_terminal and not quiet
    bars = Progress(*columns, console=err, transient=True, disable=not shown)
    with bars if shown else contextlib.nullcontext():  # before rich 14.1 both print an empty line
        work = Work(names, bars)

        def stop(*_: object) -> None:
            if work.stopped or not work.gently:
                raise KeyboardInterrupt
            work.stopped = True
            err.print("stopping after this part; Ctrl-C again stops at once")

        main = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGINT, stop) if main else None
        try:
            yield work
        finally:
            if main:
                signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def logs(verbose: int) -> Iterator[None]:
    """Show what the library logs on stderr: once for what is decided and found, twice for each iteration."""
    if not verbose:
        yield
        return
    handler = RichHandler(console=err, show_path=False, markup=False, log_time_format="%H:%M:%S")
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    root = logging.getLogger("torch_sla")
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO if verbose == 1 else logging.DEBUG)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(before)


def command() -> str:
    """Return the command as it was given."""
    return shlex.join(["torch-sla", *sys.argv[1:]])


def _declared(spec: Problem) -> Sequence[Output]:
    """Return the outputs of a problem, or of those that an analysis is of."""
    return [*spec.outputs, *(o for part in spec.parts.values() for o in _declared(part))]


def results(solution: Named) -> Table:
    """Make the table of the fields and outputs of a solution."""
    ranges = {}
    for name, field in solution.fields.items():
        u, shown = solution.told(field), name
        if u.is_complex():
            u, shown = u.abs(), f"|{name}|"
        ranges[shown] = (float(u.min()), float(u.max()))
    outputs = {name: solution.told(value) for name, value in solution.outputs.items()}
    table = outputs_table(solution.spec, ranges, outputs)
    for name, when in solution.events.items():
        times = [_when(t) for t in when.detach().reshape(-1)[:6].tolist()]
        more = f"  {list(when.shape)}" if when.numel() > len(times) else ""
        table.add_row(escape(name), "  ".join(times) + more, "")
    return table


def _when(t: float) -> str:
    return "never" if math.isinf(t) else f"at t = {t:.8g}"


def show(text: str, info: SolveInfo, how: str, table: Table, written: Iterable[Path | str]) -> None:
    """Print what was solved, how that went, what came of it, and the files it is in."""
    out.print(text, markup=False)
    out.print()
    out.print(f"{info.result.name.lower()}: {how}")
    for note in info.notes:
        out.print(f"  {note}", markup=False)
    out.print()
    out.print(table)
    for path in written:
        out.print(f"wrote {path}", markup=False)


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
