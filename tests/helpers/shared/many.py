"""Many cases of one problem."""

from __future__ import annotations

from typing import Any

import torch_sla as sla
from tests.helpers.shared.values import TIGHT, number, rand

__all__ = ["cases", "marches"]


def cases() -> tuple[Any, dict[str, Any]]:
    """A sweep of a steady problem."""
    rod = sla.PoissonProblem(
        mesh=sla.DiskMesh(cells=3),
        diffusivity=sla.Parameter("k"),
        source=sla.Parameter("f", on="nodes"),
        boundary=[sla.Dirichlet("rim", 0.0)],
        outputs=[sla.Integral("heat", "u"), sla.Field("flow", "k*grad(u)", on="cells")],
        solver=TIGHT,
    )
    problem = sla.SweepProblem(of=rod, cases={"k": [1.0, 2.0, 0.5]})
    return problem, {"f": rand(rod.mesh_data().n_points)}


def marches() -> tuple[Any, dict[str, Any]]:
    """A sweep of a march in time."""
    rod = sla.PoissonProblem(
        mesh=sla.IntervalMesh(cells=6),
        capacity=1.0,
        diffusivity=sla.Parameter("k"),
        source=sla.Parameter("f"),
        boundary=[sla.Dirichlet("left", 0.0)],
        outputs=[sla.Integral("heat", "u")],
        solver=TIGHT,
    )
    march = sla.TransientProblem(of=rod, end=0.1, steps=3)
    return sla.SweepProblem(of=march, cases=[{"k": 1.0}, {"k": 3.0}]), {"f": number(2.0)}
