"""A plate heated from within, its matrix made in strips that no process ever puts together.

    torchrun --standalone --nproc_per_node=3 examples/distributed/distributed_solve.py

Each process assembles the rows of its own strip of a lattice, the system is solved with multigrid in as
many parts, and the gradient of the compliance with respect to every conductivity is with the process that has it.
"""

from __future__ import annotations

import torch

from torch_sla.linalg import DSparseTensor
from torch_sla.linalg.distributed.launch import launched

CELLS = 40


def strip(first: int, last: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return ``row, col, bond`` of the rows of lattice lines ``first .. last``: each bond of a row by itself."""
    i = torch.arange(first * CELLS, last * CELLS)
    x, y = i % CELLS, torch.div(i, CELLS, rounding_mode="floor")
    rows, cols = [], []
    for inside, step in ((x > 0, -1), (x < CELLS - 1, 1), (y > 0, -CELLS), (y < CELLS - 1, CELLS)):
        rows.append(i[inside])
        cols.append(i[inside] + step)
    return torch.cat(rows), torch.cat(cols), i


def main() -> list[float]:
    with launched("cpu") as ranks:
        n = CELLS * CELLS
        cut = [CELLS * r // ranks.size for r in range(ranks.size + 1)]
        row, col, own = strip(cut[ranks.rank], cut[ranks.rank + 1])
        conductivity = torch.full((len(row),), 1.0, dtype=torch.float64, requires_grad=True)
        air = torch.full((len(own),), 0.01, dtype=torch.float64)
        air[own < CELLS] += 2.0  # the lowest line stands on ice
        entries = torch.cat([-conductivity, conductivity, air])
        D = DSparseTensor.from_local(
            entries, torch.cat([row, row, own]), torch.cat([col, row, own]), (n, n), own
        )
        heat = D.vector(torch.ones(len(own), dtype=torch.float64))
        before = D.traffic.copy()
        u, info = D.solve(heat, preconditioner="multigrid", info=True)
        sent = D.traffic.since(before)
        compliance = u.dot(heat) / n
        compliance.backward()
        steepest = D.comm.reduce(conductivity.grad.abs().max(), "max")
        if ranks.first:
            print(
                f"{n} unknowns in {ranks.size} parts: {info.iterations} iterations of {info.method}"
            )
            print(f"this process sent {sent.bytes} bytes in {sent.messages} messages")
            print(
                f"mean temperature {compliance.item():.8f}, steepest gradient {steepest.item():.8f}"
            )
        return [compliance.item(), steepest.item()]


if __name__ == "__main__":
    main()
