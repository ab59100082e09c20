"""Declared problems."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.helpers.everywhere.table import F64, backward, entry
from torch_sla import (
    Dirichlet,
    Energy,
    Field,
    Flux,
    Integral,
    Maximum,
    Neumann,
    Parameter,
    PoissonProblem,
    Probe,
    RectangleMesh,
    Robin,
    Solver,
)


def _problem(device: torch.device, **options: Any) -> PoissonProblem:
    on: Any = device.type
    solver = Solver(device=on, rtol=1e-12, **options)
    return PoissonProblem(
        mesh=RectangleMesh(cells=(8, 6), size=(1.0, 0.7), cell="triangle"),
        diffusivity=Parameter("kappa", on="cells", default=1.0),
        source=Parameter("f", on="nodes", default=1.0),
        reaction="0.1 + x",
        boundary=[
            Dirichlet(on="left", value="y"),
            Neumann(on="top", flux=1.0),
            Robin(on="right", coefficient=2.0, ambient=Parameter("T", default=0.3)),
        ],
        outputs=[
            Probe("sensors", at=[(0.31, 0.42), (0.72, 0.21)]),
            Integral("mean", "u**2"),
            Flux("out", on="left"),
            Energy("energy"),
            Maximum("peak", "u", p=8),
            Field("slope", "grad(u)", on="cells"),
        ],
        solver=solver,
    )


@entry("a declared problem")
def _declared(device: torch.device) -> dict[str, Tensor]:
    problem = _problem(device, backend="pytorch", method="cg", preconditioner="jacobi")
    kappa = (1 + torch.rand(96, generator=torch.Generator().manual_seed(22)).double()).to(device)
    f, T = torch.ones(63, dtype=F64, device=device), torch.tensor(0.5, dtype=F64, device=device)
    X = problem.mesh_data().points.to(device)
    leaves = {"kappa": kappa, "f": f, "T": T, "X": X}
    for leaf in leaves.values():
        leaf.requires_grad_()
    solution = problem.solve(kappa=kappa, f=f, T=T, points=X)
    outputs = {
        name: solution[name] for name in ("sensors", "mean", "out", "energy", "peak", "slope")
    }
    loss = sum((t**2).sum() for t in outputs.values())
    return {"u": solution.u, **outputs, **backward(torch.as_tensor(loss), **leaves)}


@entry("a batch of problems")
def _declared_batch(device: torch.device) -> dict[str, Tensor]:
    problem = _problem(device, backend="pytorch", method="cg", preconditioner="jacobi")
    T = torch.tensor([0.0, 1.0, 2.0], dtype=F64, device=device, requires_grad=True)
    kappa = torch.rand(3, 96, generator=torch.Generator().manual_seed(23)).double() + 1
    kappa = kappa.to(device).requires_grad_()
    solution = problem.solve(T=T, kappa=kappa)
    return {"u": solution.u, **backward((solution["sensors"] ** 3).sum(), T=T, kappa=kappa)}


@entry("a problem by the plan")
def _planned(device: torch.device) -> dict[str, Tensor]:
    kappa = torch.full((96,), 2.0, dtype=F64, device=device, requires_grad=True)
    solution = _problem(device).solve(kappa=kappa)
    return {"u": solution.u, **backward(solution["energy"], kappa=kappa)}


@entry("a design loop")
def _design(device: torch.device) -> dict[str, Tensor]:
    problem = _problem(device)
    wanted = torch.tensor([0.4, 0.2], dtype=F64, device=device)
    log_kappa = torch.zeros(96, dtype=F64, device=device, requires_grad=True)
    optimizer = torch.optim.Adam([log_kappa], lr=0.1)
    misfits = []
    for _ in range(5):
        optimizer.zero_grad()
        misfit = ((problem.solve(kappa=log_kappa.exp())["sensors"] - wanted) ** 2).sum()
        misfit.backward()
        optimizer.step()
        misfits.append(misfit.detach())
    return {"misfits": torch.stack(misfits), "kappa": log_kappa.detach().exp()}
