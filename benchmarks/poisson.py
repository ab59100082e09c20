"""A whole Poisson problem with gradient against scikit-fem's assembly and SciPy's spsolve alone.

    python benchmarks/poisson.py [--cells 500] [--threads 1] [--rounds 3]

The peer assembles with scikit-fem and solves with `scipy.sparse.linalg.spsolve`, without a gradient;
ours assembles, solves, and differentiates with respect to one conductivity per cell. Both include
everything that new values cost; ours keeps its structure between rounds, as a design loop does, and
the first row includes making it.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from harness import Table, best

from torch_sla import Dirichlet, Parameter, PoissonProblem, RectangleMesh


def make(cells: int) -> PoissonProblem:
    return PoissonProblem(
        mesh=RectangleMesh(cells=(cells, cells), size=(1.0, 1.0), cell="triangle"),
        diffusivity=Parameter("kappa", on="cells", default=1.0),
        source=1.0,
        boundary=[Dirichlet(on=["left", "right", "bottom", "top"], value=0.0)],
    )


def peer(cells: int, kappa: np.ndarray) -> np.ndarray:
    import skfem
    from skfem.helpers import dot, grad

    line = np.linspace(0, 1, cells + 1)
    mesh = skfem.MeshTri.init_tensor(line, line)
    basis = skfem.Basis(mesh, skfem.ElementTriP1(), intorder=1)
    coefficient = basis.with_element(skfem.ElementTriP0()).interpolate(kappa)
    stiffness = skfem.BilinearForm(lambda u, v, w: w.k * dot(grad(u), grad(v)))
    A = stiffness.assemble(basis, k=coefficient)
    b = skfem.LinearForm(lambda v, _: 1.0 * v).assemble(basis)
    import scipy.sparse.linalg

    K, f, x, free = skfem.condense(A, b, D=mesh.boundary_nodes())
    x[free] = scipy.sparse.linalg.spsolve(K, f)
    return x


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--cells", type=int, default=500)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    cells = options.cells
    kappa = np.random.default_rng(5).uniform(0.5, 2.0, 2 * cells**2)
    problem = make(cells)

    def ours() -> float:
        k = torch.tensor(kappa, requires_grad=True)
        u = problem.solve(kappa=k).u
        (u**2).sum().backward()
        kappa[:] = kappa * 1.001  # new values every round: nothing numeric is reused
        return float(u.detach().max())

    make(4).solve()  # imports
    start = time.perf_counter()
    top = ours()
    first = time.perf_counter() - start
    x = peer(cells, kappa)
    unknowns = (cells + 1) ** 2
    if not abs(top - x.max()) < 5e-3 * x.max():
        raise SystemExit(f"the two disagree: {top} and {x.max()}")
    again, theirs = best(ours, lambda: peer(cells, kappa), rounds=options.rounds, seconds=60)
    table = Table(f"2D Poisson, P1 triangles, {unknowns:,} unknowns")
    name = "scikit-fem + spsolve, no gradient,"
    table.add("first solve and gradient", first, name, theirs, "structure made")
    table.add("next solve and gradient", again, name, theirs, "new values")
    print(table)


if __name__ == "__main__":
    main()
