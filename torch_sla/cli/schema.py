"""``torch-sla schema``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from torch_sla.cli.console import WRONG_INPUT, err
from torch_sla.errors import ArgumentError

__all__ = ["schema"]

_COMMITTED = Path("schemas/problem.json")


def schema(
    path: Annotated[
        Optional[Path],  # noqa: UP045  (typer reads this at run time)
        typer.Argument(help="The committed schema, for --check.", show_default=str(_COMMITTED)),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Compare with the committed one; exit code 2 on drift.")
    ] = False,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", help="Write to this file instead of the screen."),
    ] = None,
) -> None:
    """Print the JSON Schema of problem files, or check the committed one."""
    from torch_sla.linalg.sparse.whole import whole
    from torch_sla.problems.schema import differs, schema_text

    if check and output is not None:
        raise ArgumentError(f"-o {output}: --check writes nothing; leave one of them out")
    if path is not None and not check:
        raise ArgumentError(f"{path} is compared by --check; -o {path} writes to it")
    path = _COMMITTED if path is None else path
    if check:
        if differs(path):
            err.print(
                f"[bold red]error[/] {path} is missing or out of date; write it anew with torch-sla schema -o "
                f"{path}, and review the difference"
            )
            raise typer.Exit(WRONG_INPUT)
        typer.echo(f"{path} is up to date")
    elif output is not None:
        with whole(output) as file:
            file.write_text(schema_text(), encoding="utf-8")
    else:
        typer.echo(schema_text(), nl=False)
