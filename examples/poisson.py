"""Declare, explain, solve, differentiate, save: the tour in one file.

The norm of the gradient that it prints is 1.2517825e-04. Run it: python examples/poisson.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from torch_sla import (
    Dirichlet,
    Neumann,
    Parameter,
    PoissonProblem,
    Probe,
    RectangleMesh,
    Robin,
    load_problem,
)


def main(folder: Path) -> float:
    problem = PoissonProblem(
        mesh=RectangleMesh(cells=(64, 64), size=(1.0, 1.0), cell="triangle"),
        order=1,
        diffusivity=Parameter("kappa", on="cells", default=1.0),
        source="sin(pi*x)*sin(pi*y)",
        boundary=[
            Dirichlet(on="left", value=0.0),
            Neumann(on="top", flux=1.0),
            Robin(on="right", coefficient=10.0, ambient=Parameter("T_air", default=0.0)),
        ],
        outputs=[Probe("sensors", at=[(0.3, 0.4), (0.7, 0.2)])],
    )
    print(problem.explain())
    solution = problem.solve()
    print(solution)

    kappa = torch.full((problem.mesh_data().n_cells,), 2.0, dtype=torch.float64, requires_grad=True)
    loss = (problem.solve(kappa=kappa)["sensors"] - solution["sensors"].detach()).square().sum()
    loss.backward()

    solution.save(folder / "out.vtu")
    solution.plot(folder / "out.png")
    problem.to_yaml(folder / "copy.yaml")
    assert load_problem(folder / "copy.yaml").spec_hash == problem.spec_hash
    print(f"loss {loss.item():.8g}, |gradient| {kappa.grad.norm().item():.8g}")
    return kappa.grad.norm().item()


if __name__ == "__main__":
    main(Path(tempfile.mkdtemp()))
