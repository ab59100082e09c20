"""The command line: ``torch-sla VERB``."""

from __future__ import annotations

import os
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line and end the process with its exit code.

    0: done. 1: the solve failed. 2: the input is wrong, or something cannot be written. 130: stopped by Ctrl-C.
    """
    try:
        from torch_sla.cli.app import app

        try:
            app()
        except BrokenPipeError:
            raise
        except OSError as error:  # what is printed outside commands, as their help
            _leave(f"error {error}", 2)
    except KeyboardInterrupt:  # while modules are imported; commands say more
        _leave("stopped", 130)


def _leave(said: str, code: int) -> None:
    """Say one line and end, without what modules half imported and streams half written have to say."""
    sys.stderr.write(f"{said}\n")
    sys.stderr.flush()
    os._exit(code)
