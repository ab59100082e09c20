"""Bratu's equation in parts: ``A u = λ h² exp(u)``, and how its solution follows ``λ``.

torchrun --standalone --nproc_per_node=3 examples/distributed/distributed_nonlinear.py
"""

from __future__ import annotations

import torch

from torch_sla.linalg import DSparseTensor, DVector
from torch_sla.linalg.distributed.launch import launched

CELLS = 31


def residual(u: DVector, A: DSparseTensor, strength: torch.Tensor) -> DVector:
    return A @ u - strength / (CELLS + 1) ** 2 * torch.exp(u)


def main() -> list[float]:
    with launched("cpu") as ranks:
        n = CELLS * CELLS
        i = torch.arange(n)
        x, y = i % CELLS, torch.div(i, CELLS, rounding_mode="floor")
        row, col = [i], [i]
        for inside, step in (
            (x > 0, -1),
            (x < CELLS - 1, 1),
            (y > 0, -CELLS),
            (y < CELLS - 1, CELLS),
        ):
            row.append(i[inside])
            col.append(i[inside] + step)
        row, col = torch.cat(row), torch.cat(col)
        values = torch.where(row == col, 4.0, -1.0).double()
        D = DSparseTensor.from_device_mesh(values, row, col, (n, n))
        strength = torch.tensor(5.0, dtype=torch.float64, requires_grad=True)
        u, info = D.nonlinear_solve(residual, D.zeros(), strength, info=True)
        mean = u.mean()
        mean.backward()
        top = u.max().item()
        if ranks.first:
            print(
                f"{info.iterations} Newton steps, peak {top:.8f}, d mean / d strength {strength.grad.item():.8f}"
            )
        return [top, mean.item(), strength.grad.item()]


if __name__ == "__main__":
    main()
