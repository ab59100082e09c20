"""Complex fields."""

from __future__ import annotations

from typing import Any

import torch_sla as sla
from tests.helpers.shared.values import TIGHT, number, rand

__all__ = ["ripple", "waves"]


def waves() -> tuple[Any, dict[str, Any]]:
    """A complex field with impedances and a perfectly matched layer."""
    problem = sla.HelmholtzProblem(
        mesh=sla.RectangleMesh(cells=(14, 9)),
        wavenumber=sla.Parameter("k"),
        refraction=sla.Parameter("n", on="cells"),
        source="exp(-40*((x - 0.5)**2 + (y - 0.4)**2))",
        boundary=[sla.Robin(["bottom", "top"], "-1j*k", 0.0)],
        layer=sla.PML(lower=(0.2, 0.0), upper=(0.8, 1.0), thickness=0.2),
        outputs=[
            sla.Integral("power", "abs(u)**2"),
            sla.Probe("size", at=[(0.3, 0.4), (0.7, 0.9)], quantity="abs(u)"),
        ],
        solver=TIGHT,
    )
    return problem, {"k": number(7.0), "n": 0.5 + rand(252)}


def ripple() -> tuple[Any, dict[str, Any]]:
    """A complex field on two cells, with outputs that are real, for more parts than there are."""
    problem = sla.HelmholtzProblem(
        mesh=sla.RectangleMesh(cells=(2, 1)),
        wavenumber=sla.Parameter("k"),
        source=1.0,
        boundary=[sla.Dirichlet("left", 1.0)],
        outputs=[
            sla.Integral("power", "abs(u)**2"),
            sla.Probe("size", at=[(0.4, 0.3)], quantity="abs(u)"),
        ],
        solver=TIGHT,
    )
    return problem, {"k": number(2.1)}
