"""A declaration with a bit of everything."""

from __future__ import annotations

from typing import Any

from torch_sla import (
    Dirichlet,
    Neumann,
    Parameter,
    PoissonProblem,
    Probe,
    RectangleMesh,
    Robin,
)

__all__ = ["MESH", "tour"]

MESH = RectangleMesh(cells=(4, 4))


def tour(**changes: Any) -> PoissonProblem:
    fields: dict[str, Any] = {
        "mesh": MESH,
        "diffusivity": Parameter("kappa", on="cells", default=1.0),
        "source": "sin(pi*x)*sin(pi*y)",
        "boundary": [
            Dirichlet(on="left", value=0.0),
            Neumann(on="top", flux=1.0),
            Robin(on="right", coefficient=10.0, ambient=Parameter("T_air", default=0.0)),
        ],
        "outputs": [Probe("sensors", at=[(0.3, 0.4), (0.7, 0.2)])],
    }
    return PoissonProblem(**{**fields, **changes})
