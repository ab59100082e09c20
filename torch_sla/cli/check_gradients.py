"""``torch-sla check-gradients``."""

from __future__ import annotations

import typer

from torch_sla.cli.console import FAILED, err, out
from torch_sla.cli.inputs import read_parameters, read_problem
from torch_sla.cli.options import Device, File, Parameters, Settings, Trust  # noqa: TC001

__all__ = ["check_gradients"]


def check_gradients(
    file: File,
    settings: Settings = None,
    parameters: Parameters = None,
    device: Device = None,
    trust: Trust = False,
) -> None:
    """Test derivatives by their Taylor remainders, at the default values (of a design problem, at its start)."""
    from torch_sla.problems.derivatives.gradient import reaching

    problem = read_problem(file, settings, device, trust=trust)
    given = read_parameters(parameters)
    if problem.type != "design":
        every = problem.declared
        named = [n for n, p in every.items() if n not in given and p.default is not None]
        usual = problem.compile().defaults(named)
        used = reaching(problem, {**usual, **given}) if usual else set()
        for name in sorted(usual.keys() - used):
            err.print(f"{name} is left out: nothing depends on it", markup=False)
        given = {**{n: value for n, value in usual.items() if n in used}, **given}
    found = problem.check_gradients(given)
    out.print(str(found), markup=False)
    if not found.passed:
        raise typer.Exit(FAILED)
