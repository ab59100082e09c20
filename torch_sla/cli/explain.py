"""``torch-sla explain``."""

from __future__ import annotations

from torch_sla.cli.console import out
from torch_sla.cli.inputs import read_parameters, read_problem
from torch_sla.cli.options import Device, File, Parameters, Settings, Trust  # noqa: TC001

__all__ = ["explain"]


def explain(
    file: File,
    settings: Settings = None,
    parameters: Parameters = None,
    device: Device = None,
    trust: Trust = False,
) -> None:
    """Show size, structure and the chosen solver with the reasons, without solving."""
    problem = read_problem(file, settings, device, trust=trust)
    out.print(problem.explain(read_parameters(parameters)), markup=False)
