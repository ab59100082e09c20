"""The command line: ``torch-sla VERB``."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command line and end the process with its exit code.

    0: done. 1: the solve failed. 2: the input is wrong.
    """
    from torch_sla.cli.app import app

    app()
