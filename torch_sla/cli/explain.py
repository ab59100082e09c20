"""``torch-sla explain``."""

from __future__ import annotations

from torch_sla.cli.console import exit_codes, out
from torch_sla.cli.inputs import read_problem
from torch_sla.cli.options import Device, File, Settings, Trust  # noqa: TC001

__all__ = ["explain"]


def explain(
    file: File, settings: Settings = None, device: Device = None, trust: Trust = False
) -> None:
    """Show size, structure and the plan, without solving."""
    with exit_codes():
        out.print(read_problem(file, settings, device, trust=trust).explain(), markup=False)
