"""``torch-sla validate``."""

from __future__ import annotations

from torch_sla.cli.console import out
from torch_sla.cli.inputs import read_problem
from torch_sla.cli.options import File, Settings, Trust  # noqa: TC001

__all__ = ["validate"]


def validate(file: File, settings: Settings = None, trust: Trust = False) -> None:
    """Check a file without solving: fields, expressions, mesh, tags and places."""
    problem = read_problem(file, settings, trust=trust)
    mesh = problem.check()
    out.print(f"{file} is valid: {problem.type}, spec {problem.spec_hash}", markup=False)
    if hasattr(problem, "mesh"):
        out.print(f"  {mesh!r}", markup=False)
