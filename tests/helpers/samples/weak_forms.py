"""Physics written as weak forms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch_sla import (
    Dirichlet,
    Integral,
    Parameter,
    Probe,
    Reaction,
    RectangleMesh,
    Unknown,
    WeakFormProblem,
)

if TYPE_CHECKING:
    from torch_sla.problems.specs.problem import Problem

__all__ = ["written", "written_pair"]


def written() -> Problem:
    """A linear weak form over cells and facets."""
    return WeakFormProblem(
        mesh=RectangleMesh(cells=(3, 3)),
        residual="k*dot(grad(u), grad(v)) + c*u*v*ds('right') - f*v*(1 + x) - g*v*ds('top')",
        parameters=[
            Parameter("k", on="cells", default=2.0),
            Parameter("c", on="facets", default=1.0),
            Parameter("f", on="nodes", default=3.0),
            Parameter("g", default=0.5),
        ],
        boundary=[Dirichlet("left", Parameter("d", default=0.3))],
        outputs=[Probe("p", at=[(0.33, 0.41)]), Reaction("r", "left")],
    )


def written_pair() -> Problem:
    """A nonlinear pair of a vector and a scalar."""
    return WeakFormProblem(
        mesh=RectangleMesh(cells=(2, 2)),
        unknowns=[Unknown("w", shape="vector", test="v"), Unknown("s", order=2, test="q")],
        residual=(
            "(1 + a*s**2)*inner(grad(w), grad(v)) - dot(normal, v)*ds('right') + b*v[1]"
            " + dot(grad(s), grad(q)) - c*(1 + dot(w, w))*q"
        ),
        parameters=[
            Parameter("a", on="cells", default=0.5),
            Parameter("b", default=0.4),
            Parameter("c", on="nodes", default=1.0),
        ],
        boundary=[Dirichlet("left", 0.1), Dirichlet("top", 0.2, unknown="s")],
        outputs=[Probe("p", at=[(0.33, 0.41)], quantity="s*w"), Integral("i", "div(w)")],
    )
