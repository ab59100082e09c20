"""What a declared problem asks its device is asked together, and what is wrong is told as on the host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.helpers.devices import NEEDS_CUDA
from tests.helpers.on_cuda import PLATE, elasticity, nonlinear, poisson
from torch_sla import (
    Dirichlet,
    ElasticityProblem,
    HelmholtzProblem,
    HyperelasticityProblem,
    Integral,
    Neumann,
    Parameter,
    PoissonProblem,
    Probe,
    RectangleMesh,
    Solver,
    Spring,
    StokesProblem,
    TransientProblem,
)
from torch_sla.errors import GradientError, TorchSlaError

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = NEEDS_CUDA

# What is wrong, one thing at a time or several: the first one looked at is the one named, as on the host.
BAD: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "NaN": (lambda: poisson()[0], {"kappa": float("nan")}),
    "infinite": (lambda: poisson()[0], {"h": float("inf")}),
    "two": (lambda: poisson()[0], {"h": float("nan"), "kappa": -1.0}),
    "negative cell": (
        lambda: poisson()[0],
        {"kappa": 1.0 - 2.0 * (torch.arange(128) == 5).double()},
    ),
    "a law at a place": (lambda: poisson(source="1/(x - x)")[0], {}),
    "an output": (lambda: poisson(outputs=[Integral("i", "log(u - u)")])[0], {}),
    "a number": (lambda: poisson(outputs=[Probe("p", [(0.5, 0.5)], "h/0 - h/0")])[0], {}),
    "a flux": (
        lambda: poisson(boundary=[Dirichlet("left", 0.0), Neumann("top", flux="1/y - 1/(y - y)")])[
            0
        ],
        {},
    ),
    "and a wrong shape": (lambda: poisson()[0], {"kappa": float("nan"), "h": torch.ones(3, 2)}),
    "and too many members": (
        lambda: poisson()[0],
        {"kappa": -torch.ones(2, 128), "h": torch.ones(3)},
    ),
    "a matrix": (
        lambda: PoissonProblem(
            mesh=PLATE,
            diffusivity=Parameter("K", shape=(2, 2)),
            boundary=[Dirichlet("left", 0.0)],
            solver=Solver(device="cuda"),
        ),
        {"K": torch.tensor([[1.0, 2.0], [2.0, 1.0]])},
    ),
    "emissivity": (lambda: nonlinear()[0], {"k": 1.0, "f": 1.0, "e": 1.5}),
    "Newton's law": (lambda: nonlinear()[0], {"k": float("nan"), "f": 1.0, "e": 0.5}),
    "modulus": (lambda: elasticity()[0], {"E": torch.linspace(-1, 1, 16), "F": torch.ones(3)}),
    "a force": (lambda: elasticity()[0], {"E": 1.0, "F": torch.tensor([0.0, float("nan"), 0.0])}),
    "ratio": (lambda: solid(poisson_ratio=Parameter("nu")), {"nu": 1.5}),
    "ratio in a plane": (
        lambda: solid(poisson_ratio=Parameter("nu"), model="plane_strain"),
        {"nu": -1.0},
    ),
    "thickness": (lambda: solid(thickness=Parameter("d")), {"d": 0.0}),
    "energy": (
        lambda: solid(
            young_modulus=(1.0, 1.0, 1.0),
            poisson_ratio=(Parameter("nu"), 0.1, 0.1),
            shear_modulus=(1.0, 1.0, 1.0),
        ),
        {"nu": 1.5},
    ),
    "spring": (
        lambda: solid(
            boundary=[Dirichlet("left", (0.0, 0.0)), Spring(on="right", stiffness=Parameter("k"))]
        ),
        {"k": -1.0},
    ),
    "viscosity": (
        lambda: StokesProblem(
            mesh=RectangleMesh(cells=(3, 3)),
            viscosity=Parameter("mu"),
            boundary=[Dirichlet("left", (1.0, 0.0)), Dirichlet(["top", "bottom"], (0.0, 0.0))],
            solver=Solver(device="cuda"),
        ),
        {"mu": -1.0},
    ),
    "rubber": (
        lambda: HyperelasticityProblem(
            mesh=PLATE,
            constants={"young_modulus": Parameter("E"), "poisson_ratio": 0.3},
            boundary=[Dirichlet("left", (0.0, 0.0)), Neumann("top", pressure=0.01)],
            solver=Solver(device="cuda"),
        ),
        {"E": -1.0},
    ),
    "waves": (
        lambda: HelmholtzProblem(
            mesh=PLATE,
            wavenumber=Parameter("k"),
            boundary=[Dirichlet("left", 1.0)],
            solver=Solver(device="cuda"),
        ),
        {"k": 0.0},
    ),
    "capacity": (lambda: marched(capacity=Parameter("c")), {"c": -1.0}),
    "damping": (lambda: swinging(mass_damping=Parameter("d")), {"d": -1.0}),
    "at a time": (lambda: marched(source="1/(t - 0.5) - 1/(t - 0.5)"), {}),
}


def solid(**changes: Any) -> ElasticityProblem:
    fields: dict[str, Any] = {
        "mesh": PLATE,
        "model": "plane_stress",
        "young_modulus": 1.0,
        "poisson_ratio": 0.3,
        "boundary": [Dirichlet("left", (0.0, 0.0))],
        "body_force": (0.0, -0.1),
        "solver": Solver(device="cuda"),
    }
    return ElasticityProblem(**{**fields, **changes})


def marched(**changes: Any) -> TransientProblem:
    fields: dict[str, Any] = {"capacity": 1.0, "boundary": [Dirichlet("left", 0.0)]}
    fields |= {"diffusivity": 1.0, "outputs": [], **changes}
    return TransientProblem(of=poisson(**fields)[0], initial=1.0, end=1.0, steps=4)


def swinging(**changes: Any) -> TransientProblem:
    return TransientProblem(
        of=solid(density=1.0), initial=(0.0, 0.0), end=1.0, steps=2, scheme="newmark", **changes
    )


@pytest.mark.parametrize("what", BAD)
def test_what_is_wrong_is_told_as_on_the_host(what: str) -> None:
    make, wrong = BAD[what]

    def said(device: str) -> tuple[type, str]:
        problem = make()
        inner = problem if problem.inner is None else problem.inner
        there = inner.model_copy(update={"solver": Solver(device=device)})
        problem = there if problem.inner is None else problem.model_copy(update={"of": there})
        given = {"kappa": 1.0, "g": 0.0, "h": 1.0, **wrong}
        given = {n: x for n, x in given.items() if n in inner.declared and x is not None}
        with pytest.raises(TorchSlaError) as caught:
            problem.solve(given)
        return type(caught.value), str(caught.value)

    torch.manual_seed(0)
    assert said("cuda") == said("cpu")


def test_a_law_without_a_derivative_is_told_when_the_pass_ends() -> None:
    """Its neighbours do not take the blame, and a later pass knows nothing of it."""
    problem, _ = poisson(
        boundary=[Dirichlet("left", "sqrt(a*y)"), Dirichlet("right", "a")],
        parameters=[Parameter("a")],
        diffusivity=1.0,
        outputs=[Integral("i", "u")],
    )
    a = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    for _ in range(2):
        loss = problem.solve(a=a)["i"]
        with pytest.raises(GradientError, match=r"boundary\.0\.value.*derivative .* 'a'"):
            torch.autograd.grad(loss, a)
    fine, _ = poisson(
        boundary=[Dirichlet("left", "a")],
        parameters=[Parameter("a")],
        diffusivity=1.0,
        outputs=[Integral("i", "u")],
    )
    assert torch.autograd.grad(fine.solve(a=a)["i"], a)[0].isfinite()
