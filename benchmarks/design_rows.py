"""Declared problems of design loops: set-up, forward and gradient, and what declaring costs.

    python benchmarks/design_rows.py [--scale 1.0] [--threads 1] [--rows cube cantilever slab declared]

Sizes and tolerance (1e-8) are those of a published comparison; its times for another differentiable
finite-element library, on two cores of another machine, stand in the last column and are no run of
today. The last row compares `PoissonProblem` with assembly and solve written out by hand, in one process.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

import torch
from harness import best, machine

import torch_sla.assembly as fem
from torch_sla import (
    BoxMesh,
    Compliance,
    Dirichlet,
    ElasticityProblem,
    Neumann,
    Parameter,
    PoissonProblem,
    RectangleMesh,
    Solver,
)
from torch_sla.assembly import weak
from torch_sla.assembly.constraints import DirichletConstraint
from torch_sla.linalg import SparseTensor, Structure

if TYPE_CHECKING:
    from collections.abc import Callable

PUBLISHED = {
    "cube": "torch-fem 1.46 + 13.2 + 1.3 s",
    "cantilever": "torch-fem 0.61 + 12.8 + 1.8 s",
    "cantilever, general": "the same",
    "slab": "torch-fem 1.0 + 6.7 + 1.1 s",
}
TARGET: dict[str, tuple[float, float | None]] = {
    "cube": (4.0, None),
    "cantilever": (4.0, 2.0),
    "cantilever, general": (4.0, 2.0),
    "slab": (2.0, None),
}


def scaled(n: int, scale: float) -> int:
    return max(2, round(n * scale))


def solid(cells: tuple[int, int, int], fixed: str, loaded: str, solver: Solver) -> Any:
    return ElasticityProblem(
        mesh=BoxMesh(cells=cells, size=tuple(float(c) for c in cells), cell="hexahedron"),
        model="solid",
        young_modulus=Parameter("E", on="cells", default=1.0),
        poisson_ratio=0.3,
        boundary=[Dirichlet(fixed, 0.0), Neumann(loaded, traction=[0.0, 0.0, -0.01])],
        outputs=[Compliance("compliance")],
        solver=solver,
    )


def row(name: str, scale: float) -> dict[str, Any]:
    """Set-up and first solve, gradient, and a later iteration with other values.

    The functional of the cantilever is its compliance, the one a density method minimises, which is its own
    adjoint; elsewhere, and in ``cantilever, general``, it is ``sum(u**2)``.
    """
    compliant = name == "cantilever"
    name = name.partition(",")[0]
    solver = Solver(rtol=1e-8, adjoint_rtol=1e-8)
    generator = torch.Generator().manual_seed(3)
    start = time.perf_counter()
    if name == "cube":
        n = scaled(39, scale)
        problem: Any = solid((n, n, n), "bottom", "top", solver)
        key, low = "E", 0.5
    elif name == "cantilever":
        cells = (scaled(60, scale), scaled(30, scale), scaled(30, scale))
        problem = solid(cells, "left", "right", solver)
        key, low = "E", 1 / 762
    else:
        cells = (scaled(512, scale), scaled(256, scale), 1)
        problem = PoissonProblem(
            mesh=BoxMesh(cells=cells, size=(2.0, 1.0, 0.004), cell="hexahedron"),
            diffusivity=Parameter("k", on="cells", default=1.0),
            source=1.0,
            boundary=[Dirichlet("left", 0.0)],
            solver=solver,
        )
        key, low = "k", 0.1
    sites = len(problem.sites(key))
    declared = time.perf_counter() - start
    # Log-uniform moduli, the spread that a density method ends with.
    values = torch.exp(
        torch.rand(sites, generator=generator).double() * -torch.log(torch.tensor(low))
    )

    def iterate(scaling: float) -> tuple[float, float, Any]:
        leaf = (values * low * scaling).requires_grad_()
        begin = time.perf_counter()
        solution = problem.solve(**{key: leaf})
        middle = time.perf_counter()
        functional = solution["compliance"] if compliant else (solution.u**2).sum()
        functional.backward()
        return middle - begin, time.perf_counter() - middle, solution

    forward, backward, solution = iterate(1.0)
    again, again_backward, _ = iterate(1.01)
    return {
        "row": name if compliant or name != "cantilever" else "cantilever, general",
        "unknowns": solution.u.numel(),
        "all": declared + forward + backward,
        "parts": f"{declared:.2f} + {forward:.2f} + {backward:.2f}",
        "later": again + again_backward,
        "solver": f"{solution.plan.choice}, {solution.info.iterations} iterations, {solution.info.residual:.0e}",
    }


def declared_against_written(scale: float) -> str:
    """One `PoissonProblem.solve` with gradient against the same by hand, new values every time."""
    cells = scaled(316, scale)
    kappa = torch.rand(2 * cells**2, generator=torch.Generator().manual_seed(4)).double() + 0.5
    problem = PoissonProblem(
        mesh=RectangleMesh(cells=(cells, cells), size=(1.0, 1.0), cell="triangle"),
        diffusivity=Parameter("kappa", on="cells", default=1.0),
        source=1.0,
        boundary=[Dirichlet(on=["left", "right", "bottom", "top"], value=0.0)],
    )
    mesh = fem.rectangle_mesh((cells, cells))
    dofs = fem.Dofs(mesh, fem.lagrange("triangle"))
    basis = fem.CellBasis(mesh, dofs.element)
    fixed = DirichletConstraint(dofs.pattern, dofs.facet_dofs(mesh.boundary))
    load = dofs.assemble_vector(weak.source(basis, f=torch.ones(1, 1, dtype=torch.float64)))
    known = Structure(symmetric=True, hermitian=True, positive_definite=True)
    g = torch.zeros(len(fixed.dofs), dtype=torch.float64)

    def declared() -> torch.Tensor:
        leaf = kappa.clone().requires_grad_()
        u = problem.solve(kappa=leaf).u
        (u**2).sum().backward()
        return u

    def written() -> torch.Tensor:
        leaf = kappa.clone().requires_grad_()
        values = dofs.assemble_matrix(weak.diffusion(basis, kappa=leaf[:, None]))
        constrained, rhs = fixed.apply(values, load, g)
        A = SparseTensor.from_pattern(dofs.pattern, constrained, structure=known)
        u = fixed.recover(A.solve(rhs), g)
        (u**2).sum().backward()
        return u

    difference = float((declared() - written()).detach().abs().max())

    def new(function: Callable[[], torch.Tensor]) -> Callable[[], object]:
        def run() -> None:
            kappa.mul_(1.0001)  # nothing numeric is reused
            function()

        return run

    one, other = best(new(declared), new(written), rounds=7)
    return (
        f"declared {one:.3f} s, written out {other:.3f} s: {100 * (one / other - 1):.1f} % more "
        f"({(cells + 1) ** 2} unknowns, the two differ by {difference:.0e})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=1)
    names = [*PUBLISHED, "declared"]
    parser.add_argument("--rows", nargs="*", default=names, choices=names)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"### Declared problems of design loops\n\n{machine()}\n")
    print(
        "| row | unknowns | set-up + forward + gradient | in all | target | later iteration | target | "
        "solver | published |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, published in PUBLISHED.items():
        if name in options.rows:
            r = row(name, options.scale)
            first, later = TARGET[name]
            print(
                f"| {name} | {r['unknowns']} | {r['parts']} s | {r['all']:.2f} s | {first} s | {r['later']:.2f} s | "
                f"{'-' if later is None else f'{later} s'} | {r['solver']} | {published} |",
                flush=True,
            )
    if "declared" in options.rows:
        print(f"\n{declared_against_written(options.scale)}")


if __name__ == "__main__":
    main()
