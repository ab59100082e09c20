"""Weak forms that are written out."""

from __future__ import annotations

from typing import Any

import torch_sla as sla
from tests.helpers.shared.values import TIGHT, number, rand

__all__ = ["coupled", "drifting", "written"]


def written() -> tuple[Any, dict[str, Any]]:
    """A weak form written out, nonlinear, with an integral over facets."""
    problem = sla.WeakFormProblem(
        mesh=sla.DiskMesh(cells=3),
        unknowns=[sla.Unknown("u", test="v")],
        residual="(dot(k*grad(u), grad(v)) + u**3*v - f*v)*dx + 0.5*u*v*ds",
        parameters=[sla.Parameter("k", on="cells"), sla.Parameter("f")],
        boundary=[sla.Dirichlet(on="x < 0", value=0.2)],
        outputs=[sla.Integral("heat", "u**2"), sla.Reaction("held", on="x < 0")],
        solver=TIGHT,
    )
    return problem, {"k": rand(problem.mesh_data().n_cells), "f": number(3.0)}


def drifting() -> tuple[Any, dict[str, Any]]:
    """A weak form without symmetry."""
    problem = sla.WeakFormProblem(
        mesh=sla.RectangleMesh(cells=(5, 4)),
        unknowns=[sla.Unknown("u", test="v")],
        residual="(dot(k*grad(u), grad(v)) + 3*grad(u)[0]*v - v)*dx",
        parameters=[sla.Parameter("k")],
        boundary=[sla.Dirichlet(on=["left", "right"], value=0.0)],
        outputs=[sla.Integral("heat", "u")],
        solver=TIGHT,
    )
    return problem, {"k": number(0.7)}


def coupled() -> tuple[Any, dict[str, Any]]:
    """Two unknowns that react with each other, one of them a vector."""
    problem = sla.WeakFormProblem(
        mesh=sla.RectangleMesh(cells=(8, 5)),
        unknowns=[sla.Unknown("w", shape="vector", order=2, test="q"), sla.Unknown("u", test="v")],
        residual="(dot(k*grad(u), grad(v)) + 0.3*div(w)*v - v)*dx"
        " + (inner(grad(w), grad(q)) - 0.2*u*q[1])*dx + u*v*ds",
        parameters=[sla.Parameter("k", on="cells")],
        boundary=[
            sla.Dirichlet("left", (0.0, 0.0), unknown="w"),
            sla.Dirichlet("right", 1.0, unknown="u"),
        ],
        outputs=[sla.Integral("a", "u"), sla.Integral("b", "dot(w, w)")],
        solver=TIGHT,
    )
    return problem, {"k": rand(80)}
