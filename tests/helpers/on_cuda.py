"""Problems that are solved on a CUDA device, real or simulated, and values for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla import (
    BoxMesh,
    Compliance,
    Dirichlet,
    ElasticityProblem,
    Energy,
    Flux,
    Integral,
    Maximum,
    Neumann,
    Parameter,
    PointLoad,
    PoissonProblem,
    Probe,
    Radiation,
    Reaction,
    RectangleMesh,
    Robin,
    Solver,
    Spring,
    TransientProblem,
    Unknown,
    WeakFormProblem,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    Case = tuple[Any, Callable[[], dict[str, Tensor]]]

__all__ = ["PLATE", "elasticity", "march", "nonlinear", "poisson", "some", "weak_form"]

PLATE = RectangleMesh(cells=(8, 8), cell="triangle")


def some(*shape: int) -> Tensor:
    return 1 + torch.rand(shape, dtype=torch.float64)


def poisson(**changes: Any) -> Case:
    fields: dict[str, Any] = {
        "mesh": PLATE,
        "diffusivity": Parameter("kappa", on="cells"),
        "source": "sin(pi*x)",
        "boundary": [
            Dirichlet(on="left", value=Parameter("g", on="nodes")),
            Neumann(on="top", flux=1.0),
            Robin(on="right", coefficient=Parameter("h"), ambient=0.3),
        ],
        "outputs": [Probe("at", at=[(0.3, 0.4)]), Flux("out", on="left"), Integral("heat", "u**2")],
    }
    problem = PoissonProblem(**{**fields, "solver": Solver(device="cuda"), **changes})
    return problem, lambda: {"kappa": some(128), "g": some(81), "h": some()}


def elasticity() -> Case:
    problem = ElasticityProblem(
        mesh=BoxMesh(cells=(4, 2, 2), cell="hexahedron"),
        young_modulus=Parameter("E", on="cells"),
        poisson_ratio=0.3,
        boundary=[
            Dirichlet(on="left", value=(0.0, 0.0, 0.0)),
            Neumann(on="right", traction=(0.0, 0.1, -0.2)),
            PointLoad(at=[(1.0, 1.0, 1.0)], value=Parameter("F", shape=(3,))),
            Spring(at=[(1.0, 0.0, 0.0)], stiffness=0.5),
        ],
        outputs=[
            Compliance("work"),
            Energy("energy"),
            Maximum("stress", "von_mises(stress)", p=6),
            Reaction("held", on="left"),
        ],
        solver=Solver(device="cuda"),
    )
    return problem, lambda: {"E": some(16), "F": some(3)}


def weak_form() -> Case:
    problem = WeakFormProblem(
        mesh=PLATE,
        unknowns=[Unknown("u", test="v")],
        residual="dot(k*grad(u), grad(v)) + u*v - f*v",
        parameters=[Parameter("k"), Parameter("f", on="cells")],
        boundary=[Dirichlet(on="left", value=0.1)],
        outputs=[Integral("heat", "u")],
        solver=Solver(device="cuda"),
    )
    return problem, lambda: {"k": some(), "f": some(128)}


def nonlinear() -> Case:
    problem = PoissonProblem(
        mesh=PLATE,
        diffusivity="k*(1 + u**2)",
        source=Parameter("f", on="nodes"),
        parameters=[Parameter("k")],
        boundary=[
            Dirichlet(on="left", value=0.1),
            Radiation(on="right", emissivity=Parameter("e"), ambient=1.0, constant=1.0),
        ],
        outputs=[Integral("heat", "u")],
        solver=Solver(device="cuda"),
    )
    return problem, lambda: {"k": some(), "f": some(81), "e": 0.5 * some()}


def march(steps: int) -> Case:
    of, values = poisson(capacity=2.0)
    march = TransientProblem(of=of, initial=0.0, end=1.0, steps=steps, scheme="backward_euler")
    return march, values
