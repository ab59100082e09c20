"""One launch for many commands: what processes started by torchrun print for each, by the first of them.

    torchrun --standalone --nproc_per_node=3 -m tests.helpers.many_files FOLDER FILE...

Starting three processes takes longer than most of the problems. Each file is solved by ``torch-sla solve FILE -o
FOLDER --json``; ``FOLDER/NAME.said`` holds the exit code and what was printed.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path

from torch_sla.cli.app import app
from torch_sla.linalg.distributed.launch import launched


def main() -> None:
    folder, *files = sys.argv[1:]
    with launched() as ranks:
        for file in files:
            told = io.StringIO()
            with contextlib.redirect_stdout(told):
                command = ["solve", file, "-o", folder, "--json"]
                code = app(command, standalone_mode=False) or 0
            if ranks.first:
                said = {"code": code, "printed": told.getvalue()}
                (Path(folder) / f"{Path(file).stem}.said").write_text(json.dumps(said))


if __name__ == "__main__":
    main()
