"""Everything that needs a GPU to be known, by one command.

    python benchmarks/gpu/run.py [--quick] [--sections check direct problems ...] [--out DIR]

`check` compares solutions and gradients with the host in float64, `direct` is cuDSS on 2D Poisson (first
solve, new values, backward), `problems` are declared problems with ``device="cuda"``. `diagnose` tells
what the libraries do here, for a new machine. Every other script of this folder is a section too, run
as a program of its own: ``--sections headline`` is multigrid at size. Writes ``gpu.md`` and ``gpu.json``
with the name of the device; ``--quick`` takes less than a minute.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
from pathlib import Path

import torch

HERE = Path(__file__).parent
# Tests lend their zoo of matrices to the checks.
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

SECTIONS = ("check", "direct", "problems")
_OWN = {*SECTIONS, "diagnose", "grids", "run"}
PROGRAMS = tuple(sorted(p.stem for p in HERE.glob("*.py") if p.stem not in _OWN))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    every = (*SECTIONS, "diagnose", *PROGRAMS)
    parser.add_argument("--sections", nargs="+", choices=every, default=list(SECTIONS))
    parser.add_argument("--quick", action="store_true", help="small sizes, under a minute")
    parser.add_argument("--out", type=Path, help="folder for gpu.md and gpu.json")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device here: torch.cuda.is_available() is False")
    results: dict[str, object] = {
        "device": torch.cuda.get_device_name(0),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "quick": options.quick,
    }
    lines = [f"# {results['device']}, torch {torch.__version__}", ""]
    print(lines[0], flush=True)
    for name in options.sections:
        results[name], text = section(name, options.quick)
        lines += [text, ""]
        print(f"\n{text}", flush=True)
        if options.out is not None:  # after each section: a later one may be cut off
            options.out.mkdir(parents=True, exist_ok=True)
            (options.out / "gpu.md").write_text("\n".join(lines))
            (options.out / "gpu.json").write_text(json.dumps(results, indent=1))


def section(name: str, quick: bool) -> tuple[object, str]:
    """Run one section: plain data for JSON, and markdown."""
    if name in PROGRAMS:
        command = [sys.executable, str(HERE / f"{name}.py"), *["--quick"][:quick]]
        done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
        return {"exit": done.returncode}, f"## {name}\n\n{done.stdout}"
    found = importlib.import_module(name).run(quick)
    return (None, "") if found is None else (found["rows"], found["markdown"])


if __name__ == "__main__":
    main()
