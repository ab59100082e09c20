"""``torch-sla calibrate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from torch_sla.cli.console import err, out
from torch_sla.cli.inputs import check_file

__all__ = ["calibrate"]


def calibrate(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Write the table to this file.")
    ] = Path("machine.json"),
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, help="Repetitions; the best one counts.")
    ] = 3,
) -> None:
    """Measure the speeds of this machine, in some seconds, for the cost estimates of plans.

    The file is used where TORCH_SLA_MACHINE names it, or `torch_sla.linalg.use_machine` is given it.
    """
    import torch

    from torch_sla.linalg.plan.calibrate import calibrate as measure
    from torch_sla.linalg.plan.machine import SHIPPED, VARIABLE, save_machine

    check_file(output)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = measure(rounds=rounds, progress=lambda part: err.print(f"measuring {part}"))
    finally:
        torch.set_num_threads(threads)
    save_machine(output, found)
    table = Table("figure", "here", "shipped", box=None, pad_edge=False, header_style="bold")
    shipped = SHIPPED["cpu"].to_dict()
    for name, value in found["cpu"].to_dict().items():
        if name != "name":
            table.add_row(name, f"{value:.3g}", f"{shipped[name]:.3g}")
    out.print(table)
    out.print(
        f"wrote {output}; it is used where {VARIABLE}={output} is set, or by "
        f"use_machine({str(output)!r})",
        markup=False,
    )
