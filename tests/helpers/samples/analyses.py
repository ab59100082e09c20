"""Modes, marches and cases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch_sla import (
    Component,
    Dirichlet,
    EigenProblem,
    ElasticityProblem,
    Energy,
    Flux,
    Parameter,
    PoissonProblem,
    Probe,
    Reaction,
    RectangleMesh,
    Robin,
    Spring,
    SweepProblem,
    TransientProblem,
)

if TYPE_CHECKING:
    from torch_sla.problems.specs.problem import Problem

__all__ = ["cases", "heating", "hot", "swinging", "vibrating"]


def vibrating() -> Problem:
    """A plate with a spring, held at one side."""
    return EigenProblem(
        of=ElasticityProblem(
            mesh=RectangleMesh(cells=(3, 2), size=(2.0, 1.0)),
            model="plane_stress",
            young_modulus=Parameter("E", on="cells", default=1.0),
            poisson_ratio=Parameter("nu", default=0.3),
            density=Parameter("rho", on="nodes", default=1.0),
            boundary=[Dirichlet("left", 0.0), Spring("right", Parameter("ks", default=0.2))],
        ),
        k=3,
        outputs=[Component("first", index=[0])],
    )


def heating() -> Problem:
    """A body heated in time, by laws and values of every kind."""
    return TransientProblem(
        of=PoissonProblem(
            mesh=RectangleMesh(cells=(3, 3), size=(1.0, 1.3)),
            diffusivity=Parameter("k", on="cells", default=1.0),
            capacity=Parameter("c", on="nodes", default=1.0),
            source="f*(1 + t)",
            boundary=[
                Dirichlet("left", "g*cos(t)"),
                Robin("right", Parameter("h", default=3.0), "2 + sin(5*t)"),
            ],
            parameters=[
                Parameter("f", default=2.0, time="steps"),
                Parameter("g", default=0.7),
            ],
            outputs=[Probe("p", at=[(0.33, 0.41)]), Flux("out", "left"), Energy("e")],
        ),
        initial=Parameter("u0", on="nodes", default=0.6),
        end=0.5,
        steps=3,
        scheme="crank_nicolson",
    )


def swinging() -> Problem:
    """A body that is let go."""
    return TransientProblem(
        of=ElasticityProblem(
            mesh=RectangleMesh(cells=(3, 2), size=(2.0, 1.0)),
            model="plane_strain",
            young_modulus=Parameter("E", on="cells", default=1.0),
            density=Parameter("rho", default=1.0),
            body_force=[0.0, Parameter("b", default=-0.1)],
            boundary=[Dirichlet("left", 0.0)],
            outputs=[Probe("tip", at=[(1.71, 0.52)]), Reaction("r", "left"), Energy("e")],
        ),
        initial=[Parameter("stretch", default=0.1), "0.2*x**2"],
        initial_velocity=["0.0*x", "v0*x"],
        parameters=[Parameter("v0", default=0.1)],
        end=2.0,
        steps=4,
        checkpoints=2,
        save=["velocity"],
    )


def hot() -> Problem:
    """A body that conducts better the hotter it is."""
    return TransientProblem(
        of=PoissonProblem(
            mesh=RectangleMesh(cells=(2, 3)),
            diffusivity="k*(1 + b*u**2)",
            capacity=Parameter("c", default=1.0),
            parameters=[Parameter("k", on="cells", default=1.0), Parameter("b", default=0.4)],
            boundary=[Dirichlet("left", "1 + t")],
            outputs=[Probe("p", at=[(0.33, 0.41)]), Energy("e")],
        ),
        initial="u0*(1 + y)",
        parameters=[Parameter("u0", default=0.5)],
        end=0.4,
        steps=3,
    )


def cases() -> Problem:
    """Three loads on one stiffness."""
    return SweepProblem(
        of=PoissonProblem(
            mesh=RectangleMesh(cells=(3, 3)),
            diffusivity=Parameter("k", on="cells", default=1.0),
            source=Parameter("f", on="nodes", default=1.0),
            boundary=[Dirichlet("left", Parameter("g", default=0.2))],
            outputs=[Probe("p", at=[(0.33, 0.41)]), Flux("out", "left")],
        ),
        cases={"f": [1.0, -0.5, 2.0]},
    )
