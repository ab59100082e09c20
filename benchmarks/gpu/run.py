"""Everything that needs a GPU to be known, by one command.

    python benchmarks/gpu/run.py [--quick] [--sections check direct problems headline] [--out DIR]

Sections: `diagnose` (what the libraries do here), `check` (solutions and gradients against the host in
float64), `direct` (cuDSS on 2D Poisson: first solve, new values, backward), `problems` (declared
problems with ``device="cuda"``), `headline` (multigrid at size). Writes ``gpu.md`` and ``gpu.json`` with
the name of the device.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

import torch

HERE = Path(__file__).parent
# Tests lend their zoo of matrices to the checks.
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

SECTIONS = ("diagnose", "check", "direct", "problems", "headline")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS[1:]))
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
    for name in options.sections:
        if not (HERE / f"{name}.py").exists():
            lines.append(f"## {name}: not here\n")
            continue
        found = importlib.import_module(name).run(options.quick)
        results[name] = None if found is None else found["rows"]
        lines += [] if found is None else [found["markdown"], ""]
    print("\n".join(lines))
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "gpu.md").write_text("\n".join(lines))
        (options.out / "gpu.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
