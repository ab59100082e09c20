"""Slow flows that several processes share, each with values."""

from __future__ import annotations

from typing import Any

import torch

import torch_sla as sla

__all__ = ["basin", "box", "cavity", "channel", "drop", "ring"]

TIGHT = sla.Solver(rtol=1e-13)


def _rand(n: int) -> torch.Tensor:
    return 0.5 + torch.rand(n, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def channel() -> tuple[Any, dict[str, Any]]:
    """A viscosity that varies, a traction, and every kind of output that a flow has."""
    problem = sla.StokesProblem(
        mesh=sla.RectangleMesh(cells=(6, 4), size=(2.0, 1.0)),
        viscosity=sla.Parameter("mu", on="cells"),
        body_force=("0.1*y", sla.Parameter("f")),
        boundary=[
            sla.Dirichlet(["bottom", "top"], 0.0),
            sla.Dirichlet("left", ["y*(1 - y)", 0.0]),
            sla.Neumann("right", traction=(sla.Parameter("pull"), 0.0)),
        ],
        outputs=[
            sla.Integral("through", "dot(u, normal)", on="right"),
            sla.Energy("energy"),
            sla.Compliance("work"),
            sla.Integral("square", "p**2"),
            sla.Probe("at", at=[(0.7, 0.4), (1.3, 0.2)], quantity="p"),
            sla.Field("stress", "stress", on="cells"),
            sla.Reaction("held", on="left"),
        ],
        solver=TIGHT,
    )
    pull = torch.tensor(0.2, dtype=torch.float64)
    return problem, {"mu": _rand(48), "f": 1.5 * pull, "pull": pull}


def cavity() -> tuple[Any, dict[str, Any]]:
    """Walls all around: the pressure has mean zero. The points of the mesh move."""
    problem = sla.StokesProblem(
        mesh=sla.RectangleMesh(cells=(5, 4)),
        body_force=("y", "0.3*x"),
        boundary=[sla.Dirichlet(["left", "right", "bottom", "top"], 0.0)],
        outputs=[sla.Energy("energy"), sla.Integral("square", "p**2 + p**3")],
        solver=TIGHT,
    )
    points = problem.mesh_data().points
    return problem, {"points": points + 0.02 * _rand(60).reshape(30, 2)}


def ring() -> tuple[Any, dict[str, Any]]:
    """An annulus cut open: velocities and pressures repeat, quadrilaterals."""
    problem = sla.StokesProblem(
        mesh=sla.RectangleMesh(cells=(6, 3), cell="quad"),
        body_force=("y", sla.Parameter("f")),
        boundary=[
            sla.Periodic("right", "left"),
            sla.Periodic("right", "left", unknown="p"),
            sla.Dirichlet(["bottom", "top"], 0.0),
        ],
        outputs=[sla.Energy("energy"), sla.Integral("square", "p**2")],
        solver=TIGHT,
    )
    return problem, {"f": torch.tensor(0.7, dtype=torch.float64)}


def box() -> tuple[Any, dict[str, Any]]:
    """Tetrahedra, a viscosity on nodes, a pressure that pushes."""
    problem = sla.StokesProblem(
        mesh=sla.BoxMesh(cells=(2, 2, 1)),
        viscosity=sla.Parameter("mu", on="nodes"),
        boundary=[
            sla.Dirichlet(["bottom", "top"], 0.0),
            sla.Neumann("left", pressure=sla.Parameter("push")),
        ],
        outputs=[sla.Energy("energy"), sla.Integral("out", "dot(u, normal)", on="right")],
        solver=TIGHT,
    )
    return problem, {"mu": _rand(18), "push": torch.tensor(0.7, dtype=torch.float64)}


def basin() -> tuple[Any, dict[str, Any]]:
    """Walls all around, and the level of pressure given at a point."""
    problem = sla.StokesProblem(
        mesh=sla.RectangleMesh(cells=(4, 3)),
        body_force=("y", "0.3*x"),
        boundary=[
            sla.Dirichlet(["left", "right", "bottom"], 0.0),
            sla.Dirichlet("top", ["x*(1 - x)", 0.0]),
            sla.Dirichlet(at=[(1.0, 0.0)], value=sla.Parameter("level"), unknown="p"),
        ],
        outputs=[sla.Energy("energy"), sla.Integral("square", "p**2")],
        solver=TIGHT,
    )
    return problem, {"level": torch.tensor(0.7, dtype=torch.float64)}


def drop() -> tuple[Any, dict[str, Any]]:
    """Two cells, for more parts than there are."""
    problem = sla.StokesProblem(
        mesh=sla.RectangleMesh(cells=(1, 1)),
        body_force=("y", sla.Parameter("f")),
        boundary=[sla.Dirichlet(["bottom", "top"], 0.0)],
        outputs=[sla.Energy("energy"), sla.Integral("square", "p**2")],
        solver=TIGHT,
    )
    return problem, {"f": torch.tensor(0.7, dtype=torch.float64)}
