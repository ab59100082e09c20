"""``torch-sla schema``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from torch_sla.cli.console import WRONG_INPUT, err

__all__ = ["schema"]


def schema(
    path: Annotated[Path, typer.Argument(help="The committed schema, for --check.")] = Path(
        "schemas/problem.json"
    ),
    check: Annotated[
        bool, typer.Option("--check", help="Compare with the committed one; exit code 2 on drift.")
    ] = False,
    output: Annotated[
        Optional[Path],  # noqa: UP045  (typer reads this at run time)
        typer.Option("--output", "-o", help="Write to this file instead of the screen."),
    ] = None,
) -> None:
    """Print the JSON Schema of problem files, or check the committed one."""
    from torch_sla.problems.schema import differs, schema_text

    if check:
        if differs(path):
            err.print(
                f"[bold red]error[/] {path} is missing or out of date; write it anew with torch-sla schema -o "
                f"{path}, and review the difference"
            )
            raise typer.Exit(WRONG_INPUT)
        typer.echo(f"{path} is up to date")
    elif output is not None:
        output.write_text(schema_text(), encoding="utf-8")
    else:
        typer.echo(schema_text(), nl=False)
