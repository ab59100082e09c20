"""Arguments that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional, TypeAlias

import typer

__all__ = [
    "Device",
    "File",
    "Json",
    "Parameters",
    "Picture",
    "Report",
    "Settings",
    "Trust",
    "Verbose",
]

File: TypeAlias = Annotated[
    Path, typer.Argument(help="Problem as YAML or JSON.", show_default=False)
]
Settings: TypeAlias = Annotated[
    Optional[list[str]],  # noqa: UP045  (typer reads this at run time)
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Change a field, as in mesh.cells=[64,64]; may be repeated.",
    ),
]
Parameters: TypeAlias = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--param",
        metavar="NAME=VALUE",
        help="Give a parameter: a number, k.npy or k.npz:key; may be repeated.",
    ),
]
Device: TypeAlias = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--device", help="Where to compute: auto, cpu or cuda (default: what the file says)."
    ),
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Trust: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Allow the file to name Python functions (module:function), which runs their code.",
    ),
]
Picture: TypeAlias = Annotated[
    Optional[bool],  # noqa: UP045
    typer.Option("--picture/--no-picture", help="Write a .png.", show_default="picture"),
]
Report: TypeAlias = Annotated[
    Optional[bool],  # noqa: UP045
    typer.Option(
        "--report/--no-report", help="Write a page about the run as .html.", show_default="report"
    ),
]
Verbose: TypeAlias = Annotated[
    int,
    typer.Option(
        "--verbose",
        "-v",
        count=True,
        help="Log what is compiled and solved; -vv logs every iteration.",
    ),
]
