"""Elastic bodies, with small and large strains."""

from __future__ import annotations

from typing import Any

import torch_sla as sla
from tests.helpers.shared.values import TIGHT, number, rand

__all__ = ["bent", "bracket", "pinned", "rubber", "sleeve", "strip"]


def bracket() -> tuple[Any, dict[str, Any]]:
    """Elasticity in space: forces and springs at points and on faces."""
    problem = sla.ElasticityProblem(
        mesh=sla.BoxMesh(cells=(4, 2, 2), size=(2.0, 1.0, 1.0), cell="hexahedron"),
        young_modulus=sla.Parameter("E", on="cells"),
        poisson_ratio=0.3,
        boundary=[
            sla.Dirichlet(on="left", value=(0.0, 0.0, 0.0)),
            sla.Neumann(on="right", traction=(0.0, 0.1, -0.2)),
            sla.PointLoad(
                at=[(2.0, 1.0, 1.0), (0.7, 0.4, 0.3)], value=sla.Parameter("F", shape=(3,))
            ),
            sla.Spring(at=[(2.0, 0.0, 0.0)], stiffness=sla.Parameter("k")),
        ],
        outputs=[
            sla.Compliance("work"),
            sla.Energy("energy"),
            sla.Maximum("stress", "von_mises(stress)", p=6),
            sla.Probe("tip", at=[(2.0, 0.5, 0.5)]),
            sla.Reaction("held", on="left"),
        ],
        solver=TIGHT,
    )
    return problem, {"E": rand(16), "F": rand(3), "k": number(0.4)}


def rubber() -> tuple[Any, dict[str, Any]]:
    """Large strains: a load whose steps are cut, a pressure that follows the surface."""
    problem = sla.HyperelasticityProblem(
        mesh=sla.RectangleMesh(cells=(6, 2), size=(3.0, 1.0), cell="quad"),
        constants={"young_modulus": sla.Parameter("E", on="cells"), "poisson_ratio": 0.3},
        boundary=[
            sla.Dirichlet(on="left", value=(0.0, 0.0)),
            sla.Dirichlet(on="right", value=(sla.Parameter("pull"), 0.0)),
            sla.Neumann(on="top", pressure=sla.Parameter("p")),
        ],
        outputs=[
            sla.Energy("energy"),
            sla.Reaction("held", on="left"),
            sla.Maximum("stress", "von_mises(stress)", p=4),
        ],
        solver=TIGHT,
    )
    return problem, {"E": rand(12), "pull": number(2.5), "p": number(0.02)}


def strip() -> tuple[Any, dict[str, Any]]:
    """A long lattice, of which a process sees a piece: supports, loads and probes far from each other."""
    problem = sla.ElasticityProblem(
        mesh=sla.RectangleMesh(cells=(28, 3), size=(7.0, 1.0), grading=(2.0, 1.0)),
        model="plane_stress",
        young_modulus=sla.Parameter("E", on="cells"),
        poisson_ratio=0.3,
        boundary=[
            sla.Dirichlet(on="left", value=0.0, component=0),
            sla.Dirichlet(on="x < 1 and y < 1e-9", value=0.0, component=1),
            sla.Neumann(on="x > 6.5 and y > 0.999", traction=(0.0, -0.1)),
            sla.PointLoad(at=[(2.5, 0.5), (7.0, 1.0)], value=(sla.Parameter("F"), 0.1)),
        ],
        outputs=[
            sla.Compliance("work"),
            sla.Probe("tip", at=[(7.0, 0.5), (0.3, 0.2), (3.0, 1.0)]),
            sla.Reaction("held", on="left"),
            sla.Maximum("stress", "von_mises(stress)"),
            sla.Field("strain", "trace(strain)", on="nodes"),
        ],
        solver=TIGHT,
    )
    return problem, {"E": rand(168), "F": number(0.4)}


def sleeve() -> tuple[Any, dict[str, Any]]:
    """A ring of an elastic body cut open: two sides repeat each other, one of them held at its end."""
    problem = sla.ElasticityProblem(
        mesh=sla.RectangleMesh(cells=(8, 3), cell="quad"),
        model="plane_strain",
        young_modulus=sla.Parameter("E", on="cells"),
        poisson_ratio=0.3,
        boundary=[
            sla.Periodic(on="right", to="left"),
            sla.Dirichlet(on="bottom", value=(0.0, 0.0)),
            sla.Neumann(on="top", traction=("0.1*x", -0.2)),
        ],
        outputs=[sla.Compliance("work"), sla.Energy("energy"), sla.Reaction("held", on="bottom")],
        solver=TIGHT,
    )
    return problem, {"E": rand(24)}


def pinned() -> tuple[Any, dict[str, Any]]:
    """A body that is held at single points, far from each other."""
    problem = sla.ElasticityProblem(
        mesh=sla.RectangleMesh(cells=(12, 2), size=(6.0, 1.0)),
        model="plane_stress",
        young_modulus=sla.Parameter("E"),
        poisson_ratio=0.3,
        body_force=(0.0, -0.1),
        boundary=[
            sla.Dirichlet(at=[(0.0, 0.0)], value=(0.0, 0.0)),
            sla.Dirichlet(at=[(6.0, 0.0), (3.0, 0.5)], value=sla.Parameter("sink"), component=1),
        ],
        outputs=[sla.Compliance("work"), sla.Probe("tip", at=[(1.5, 1.0)])],
        solver=TIGHT,
    )
    return problem, {"E": number(2.0), "sink": number(0.01)}


def bent() -> tuple[Any, dict[str, Any]]:
    """A mesh whose points move, with a gradient with respect to all of them."""
    problem = sla.ElasticityProblem(
        mesh=sla.RectangleMesh(cells=(9, 3), size=(3.0, 1.0)),
        model="plane_stress",
        young_modulus="1 + x**2",
        poisson_ratio=0.3,
        boundary=[
            sla.Dirichlet(on="left", value=(0.0, 0.0)),
            sla.Neumann(on="right", traction=("0.1*y", -0.2)),
        ],
        outputs=[
            sla.Compliance("work"),
            sla.Integral("area", "1"),
            sla.Maximum("stress", "von_mises(stress)", p=6),
        ],
        solver=TIGHT,
    )
    points = problem.mesh_data().points
    return problem, {"points": points + 0.05 * rand(*points.shape)}
