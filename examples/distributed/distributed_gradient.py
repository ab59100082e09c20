"""A heated plate shared by several processes, and the gradient with respect to every cell's conductivity.

    torchrun --standalone --nproc_per_node=3 examples/distributed/distributed_gradient.py

Every process has a part of the mesh; the conductivities and their gradient are whole on each.
"""

from __future__ import annotations

import torch

from torch_sla import Dirichlet, Integral, Parameter, PoissonProblem, RectangleMesh, distribute
from torch_sla.linalg.distributed.launch import launched


def main() -> list[float]:
    plate = PoissonProblem(
        mesh=RectangleMesh(cells=(40, 40)),
        diffusivity=Parameter("kappa", on="cells"),
        source=1.0,
        boundary=[Dirichlet("left", 0.0)],
        outputs=[Integral("heat", "u")],
    )
    with launched("cpu") as ranks:
        kappa = torch.full((3200,), 2.0, dtype=torch.float64, requires_grad=True)
        solution = distribute(plate).solve(kappa=kappa)
        solution["heat"].backward()
        heat, slope = solution["heat"].item(), kappa.grad.sum().item()
        if ranks.first:
            print(f"{ranks.size} processes: heat {heat:.8f}, sum of its gradient {slope:.8f}")
    return [heat, slope]


if __name__ == "__main__":
    main()
