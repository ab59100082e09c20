"""Runs that are kept on disk: a problem, ends without warning, and a comparison to the last bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import torch

from torch_sla import (
    Dirichlet,
    Flux,
    IntervalMesh,
    Parameter,
    PoissonProblem,
    Probe,
)

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["fin", "kill", "same"]


def fin(**more: Any) -> PoissonProblem:
    return PoissonProblem(
        mesh=IntervalMesh(cells=10, size=0.05),
        diffusivity=0.4,
        reaction="2*h",
        parameters=[Parameter("h", default=10.0), Parameter("T", default=60.0)],
        boundary=[Dirichlet("left", "T")],
        outputs=[Flux("heat", "left"), Probe("tip", at=[(0.05,)])],
        **more,
    )


def same(a: Any, b: Any) -> None:
    for kind in ("fields", "outputs"):
        one, other = getattr(a, kind), getattr(b, kind)
        assert list(one) == list(other)
        for name, value in one.items():
            assert torch.equal(value, other[name]), name


def kill(tmp_path: Path, problem: Any, at: int, name: str) -> int:
    """Run in another process that kills itself without warning after a part; return the last step on disk."""
    problem.to_yaml(tmp_path / f"{name}.yaml")
    script = """
    import os, signal, sys
    from torch_sla import load_problem
    from torch_sla.problems.analyses import sweep
    from torch_sla.problems.checkpoint import Checkpoints
    Checkpoints.patience = 0.0
    sweep._MOST = 2

    def die(progress):
        if progress.done == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)

    load_problem(sys.argv[1]).solve(folder=sys.argv[2], progress=die)
    """
    folder = tmp_path / f"{name}-{at}"
    command = [sys.executable, "-c", textwrap.dedent(script)]
    arguments = [str(tmp_path / f"{name}.yaml"), str(folder), str(at)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run([*command, *arguments], check=False, env=environment, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    return max(int(path.stem.partition("-")[2]) for path in folder.glob("state-*"))
