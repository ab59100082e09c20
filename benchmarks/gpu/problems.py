"""Declared problems with ``device="cuda"``: solution and gradient against the host, and their time."""

from __future__ import annotations

from typing import Any

import torch
from grids import clock, said, table

from torch_sla import Dirichlet, Parameter, PoissonProblem, Probe, RectangleMesh, Solver


def problem(cells: int, device: str) -> PoissonProblem:
    """Heat conduction with a conductivity per cell."""
    return PoissonProblem(
        mesh=RectangleMesh(cells=(cells, cells), size=(1.0, 1.0), cell="triangle"),
        diffusivity=Parameter("kappa", on="cells", default=1.0),
        source="sin(pi*x)*sin(pi*y)",
        boundary=[Dirichlet(on=["left", "right", "bottom", "top"], value=0.0)],
        outputs=[Probe("sensors", at=[(0.3, 0.4), (0.7, 0.2)])],
        solver=Solver(device=device),
    )


def measure(cells: int) -> dict[str, Any]:
    found: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    row: dict[str, Any] = {"cells": 2 * cells * cells, "unknowns": (cells + 1) ** 2}
    for device in ("cpu", "cuda"):
        declared = problem(cells, device)
        n_cells = len(declared.sites("kappa"))
        base = 1 + 0.5 * torch.rand(
            n_cells, dtype=torch.float64, generator=torch.Generator().manual_seed(5)
        )
        for name in ("first", "again"):
            kappa = base.to(device).clone().requires_grad_()

            def step(declared: Any = declared, kappa: Any = kappa) -> Any:
                solution = declared.solve(kappa=kappa)
                (solution["sensors"] ** 3).sum().backward()
                return solution

            t, solution = clock(step)
            row[f"{device} {name} (s)"] = t
        found[device] = (solution["sensors"].detach().cpu(), kappa.grad.cpu())
        row[f"{device} solver"] = str(solution.plan.choice)
    for k, what in enumerate(("sensors", "gradient")):
        exact, other = found["cpu"][k], found["cuda"][k]
        row[f"{what} differs by"] = float((exact - other).norm() / exact.norm())
    return row


def run(quick: bool) -> dict[str, Any]:
    """Measure."""
    rows = []
    for cells in (64,) if quick else (64, 256, 512):
        try:
            rows.append(said(measure(cells)))
        except Exception as error:  # noqa: BLE001 - the next size may do
            failed = f"{type(error).__name__}: {error}"[:300]
            rows.append(said({"cells": 2 * cells * cells, "failed": failed}))
    return {"rows": rows, "markdown": table("Declared problems, forward and backward", rows)}
