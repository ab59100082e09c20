"""What the direct backends do on this device: every step reports, none stops the others.

    python benchmarks/gpu/run.py --sections diagnose [--quick]

For a new machine, driver or cuDSS series: versions, each binding at work, what the library answers for
singular and indefinite matrices, the cost of each phase under each ordering, and where a solve waits
for the device.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from diagnosis import library, package
from diagnosis.steps import STEPS, one

__all__ = ["library", "package", "run"]

# What may break the device for the rest of a process, and runs in one of its own.
_RISKY = ("repeatable",)


def run(quick: bool) -> None:
    """Run every step."""
    for name in STEPS:
        if name not in _RISKY:
            one(name, quick)
    for name in _RISKY:
        command = [sys.executable, __file__, "--only", name, *["--quick"][:quick]]
        subprocess.run(command, check=False, timeout=120)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent.parent))
    if "--only" in sys.argv:
        one(sys.argv[sys.argv.index("--only") + 1], "--quick" in sys.argv)
    else:
        run("--quick" in sys.argv)
