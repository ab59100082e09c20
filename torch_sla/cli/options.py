"""Arguments that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional, TypeAlias

import typer

__all__ = ["Device", "File", "Json", "Parameters", "Settings", "Trust", "Verbose"]

File: TypeAlias = Annotated[
    Path, typer.Argument(help="Problem as YAML or JSON.", show_default=False)
]
Settings: TypeAlias = Annotated[
    Optional[list[str]],  # noqa: UP045  (typer reads this at run time)
    typer.Option("--set", metavar="PATH=VALUE", help="Change a field: --set mesh.cells=[64,64]."),
]
Parameters: TypeAlias = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--param", metavar="NAME=VALUE", help="Give a parameter: a number, k.npy or k.npz:key."
    ),
]
Device: TypeAlias = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--device", help="Where work happens: auto, cpu or cuda."),
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Trust: TypeAlias = Annotated[
    bool, typer.Option("--trust", help="Let module:function in the file import and run that code.")
]
Verbose: TypeAlias = Annotated[
    int,
    typer.Option(
        "--verbose", "-v", count=True, help="Log what is decided and found; -vv each iteration."
    ),
]
