"""What a step of a search costs: objective and gradient against one bare forward solve.

    python benchmarks/design.py [--scale 1.0] [--threads 1] [--rounds 5]
        [--rows direct iterative constraints iterative-constraints products]

The objective is a misfit of sensors, which is not self-adjoint: its adjoint is a system of its own. Every round takes
new values, on both sides and in turn. Bare means ``problem.solve`` without gradients, outputs included. The last row
is a Gauss-Newton product, which needs two solves with the factor at hand.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import torch
from harness import best, machine

from torch_sla import (
    LBFGS,
    MMA,
    BoxMesh,
    DesignProblem,
    Dirichlet,
    ElasticityProblem,
    GaussNewton,
    Measured,
    Neumann,
    Parameter,
    PoissonProblem,
    Probe,
    RectangleMesh,
    Solver,
    Variable,
    clear_cache,
)
from torch_sla.linalg import cache_counters

if TYPE_CHECKING:
    from collections.abc import Callable

TARGET = {
    "direct": 1.3,
    "iterative": 2.2,
    "constraints": None,
    "iterative-constraints": None,
    "products": None,
}


def scaled(n: int, scale: float) -> int:
    return max(4, round(n * scale))


def plane(scale: float, optimizer: Any) -> DesignProblem:
    """Conductivities of a square, 100k unknowns, by a direct method."""
    n = scaled(316, scale**0.5)
    generator = torch.Generator().manual_seed(1)
    at = 0.05 + 0.9 * torch.rand(60, 2, generator=generator, dtype=torch.float64)
    of = PoissonProblem(
        mesh=RectangleMesh(cells=(n, n)),
        diffusivity=Parameter("k", on="cells", default=1.0),
        source=1.0,
        boundary=[Dirichlet(on=["left", "right", "bottom", "top"], value=0.0)],
        outputs=[Probe("sensors", at=at)],
        solver=Solver(backend="native", method="cholesky"),
    )
    return searched(of, "k", (60,), optimizer)


def body(scale: float, optimizer: Any) -> DesignProblem:
    """Moduli of a cantilever, 176k unknowns, by conjugate gradients with multigrid."""
    cells = tuple(scaled(n, scale ** (1 / 3)) for n in (60, 30, 30))
    generator = torch.Generator().manual_seed(1)
    span = torch.tensor([float(c) for c in cells], dtype=torch.float64)
    at = span * (0.1 + 0.8 * torch.rand(30, 3, generator=generator, dtype=torch.float64))
    of = ElasticityProblem(
        mesh=BoxMesh(cells=cells, size=tuple(float(c) for c in cells), cell="hexahedron"),
        model="solid",
        young_modulus=Parameter("k", on="cells", default=1.0),
        poisson_ratio=0.3,
        boundary=[Dirichlet("left", 0.0), Neumann("right", traction=[0.0, 0.0, -0.01])],
        outputs=[Probe("sensors", at=at)],
        solver=Solver(rtol=1e-8, adjoint_rtol=1e-8, method="cg", preconditioner="multigrid"),
    )
    return searched(of, "k", (30, 3), optimizer)


def searched(of: Any, name: str, shape: tuple[int, ...], optimizer: Any) -> DesignProblem:
    part = ", 2" if len(shape) > 1 else ""
    bounds = [f"sensors[{i}{part}] <= 1.0" for i in range(4)] if optimizer.type == "mma" else []
    return DesignProblem(
        of=of,
        variables=[Variable(name, bounds=(1e-3, 1e3), transform=["log"])],
        objective="misfit(sensors) + 1e-3*smoothness(log(k))",
        constraints=bounds,
        data={"sensors": Measured(torch.zeros(shape, dtype=torch.float64), noise=0.1)},
        optimizer=optimizer,
    )


def fields(n: int) -> Callable[[], torch.Tensor]:
    """Return new logarithms of values whenever it is called."""
    generator = torch.Generator().manual_seed(7)
    return lambda: 0.5 * torch.randn(n, generator=generator, dtype=torch.float64)


def measure(name: str, scale: float, rounds: int) -> None:
    products = name == "products"
    clear_cache()
    make = body if name.startswith("iterative") else plane
    optimizer: Any = MMA() if name.endswith("constraints") else LBFGS()
    problem = make(scale, GaussNewton() if products else optimizer)
    oracle = problem.oracle()
    new = fields(oracle.start.numel())
    point = new()
    oracle.value_and_grad(point)

    def bare() -> object:
        with torch.no_grad():
            return problem.of.solve(k=new().exp())

    def step() -> object:
        return oracle.value_and_grad(new())

    def product() -> object:
        return oracle.gauss_newton(point, new())

    problem.of.solve(k=new().exp())
    work = product if products else step
    if products:
        product()
    before = cache_counters()
    work()
    after = cache_counters()
    counts = {n: after[n] - before.get(n, 0) for n in after if after[n] != before.get(n, 0)}
    forward, with_gradient = best(bare, work, rounds=rounds, seconds=60.0)
    unknowns = problem.of.solve(k=new().exp()).flat.numel()
    goal = TARGET[name]
    print(
        f"| {name} | {unknowns} | {forward:.3f} s | {with_gradient:.3f} s | {with_gradient / forward:.2f} | "
        f"{'' if goal is None else f'{goal:.1f}'} | {counts} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="share of the unknowns")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", nargs="+", default=list(TARGET), choices=list(TARGET))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"{machine()}\n")
    print("| row | unknowns | bare solve | with gradient | ratio | target | work |")
    print("|---|---|---|---|---|---|---|")
    for name in arguments.rows:
        measure(name, arguments.scale, arguments.rounds)


if __name__ == "__main__":
    main()
