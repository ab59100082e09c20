"""Problems in time that tests of steps, damping and failures share."""

from __future__ import annotations

from typing import Any

from torch_sla import (
    Dirichlet,
    ElasticityProblem,
    Energy,
    IntervalMesh,
    Parameter,
    PoissonProblem,
    Probe,
    RectangleMesh,
    TransientProblem,
)

__all__ = ["ENDS", "bar", "cooling", "rod"]

ENDS = [Dirichlet(["left", "right"], 0.0)]


def rod(**more: Any) -> PoissonProblem:
    return PoissonProblem(
        **{
            "mesh": IntervalMesh(cells=32),
            "order": 2,
            "diffusivity": Parameter("k", default=1.0),
            "boundary": ENDS,
            "outputs": [Probe("m", at=[(0.5,)])],
            **more,
        }
    )


def cooling(**more: Any) -> TransientProblem:
    return TransientProblem(**{"of": rod(), "initial": "sin(pi*x)", "end": 0.4, "steps": 4, **more})


def bar(**more: Any) -> ElasticityProblem:
    return ElasticityProblem(
        mesh=RectangleMesh(cells=(8, 1), size=(4.0, 0.5), cell="quad"),
        model="plane_stress",
        poisson_ratio=0.0,
        boundary=[Dirichlet("left", 0.0)],
        outputs=[Energy("e"), Probe("tip", at=[(4.0, 0.25)], quantity="u[0]")],
        **more,
    )
