"""The command line, called in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typer.testing import CliRunner

from torch_sla.cli.app import app

if TYPE_CHECKING:
    from typer.testing import Result

__all__ = ["run"]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])
