"""A matrix, and a problem with its gradient, shared by several processes.

    torchrun --standalone --nproc_per_node=3 examples/distributed/distributed_solve.py

Started without torchrun it is one process with all parts.
"""

from __future__ import annotations

import torch

from torch_sla import (
    Dirichlet,
    DSparseTensor,
    Integral,
    Parameter,
    PoissonProblem,
    RectangleMesh,
    distribute,
)
from torch_sla.linalg.distributed.communicator import InProcess
from torch_sla.linalg.distributed.launch import launched
from torch_sla.linalg.distributed.processes import Processes


def matrix(n: int, ranks) -> float:
    """Solve a tridiagonal system whose rows no process has all of."""
    comm = Processes() if ranks.backend != "none" else InProcess(3)
    values, rows, cols, owned = [], [], [], []
    for part in comm.held:
        mine = torch.arange(part * n // comm.parts, (part + 1) * n // comm.parts)
        owned.append(mine)
        for shift, value in ((-1, -1.0), (0, 2.5), (1, -1.0)):
            inside = mine[(mine + shift >= 0) & (mine + shift < n)]
            rows.append(inside)
            cols.append(inside + shift)
            values.append(torch.full((len(inside),), value, dtype=torch.float64))
    D = DSparseTensor.from_local(
        torch.cat(values), torch.cat(rows), torch.cat(cols), (n, n), owned, comm=comm
    )
    x = D.solve(D.vector(torch.ones(n, dtype=torch.float64)))
    return float(x.sum())


def problem() -> tuple[float, float]:
    """Solve a problem in parts, and differentiate it with respect to every cell's conductivity."""
    plate = PoissonProblem(
        mesh=RectangleMesh(cells=(40, 40)),
        diffusivity=Parameter("kappa", on="cells"),
        source=1.0,
        boundary=[Dirichlet("left", 0.0)],
        outputs=[Integral("heat", "u")],
    )
    shared = distribute(plate)
    kappa = torch.full((3200,), 2.0, dtype=torch.float64, requires_grad=True)
    heat = shared.solve(kappa=kappa)["heat"]
    heat.backward()
    return float(heat.detach()), float(kappa.grad.sum())


def main() -> dict[str, float]:
    with launched("cpu") as ranks:
        total = matrix(30_000, ranks)
        heat, slope = problem()
        if ranks.first:
            print(
                f"{ranks.size} processes: sum of x {total:.6f}, heat {heat:.8f}, slope {slope:.8f}"
            )
    return {"total": total, "heat": heat, "slope": slope}


if __name__ == "__main__":
    main()
