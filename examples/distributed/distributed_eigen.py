"""Lowest modes of a membrane whose stiffness is in parts, and how its frequencies follow the stiffness.

torchrun --standalone --nproc_per_node=3 examples/distributed/distributed_eigen.py
"""

from __future__ import annotations

import math

import torch

from torch_sla.linalg import DSparseTensor, SparseTensor
from torch_sla.linalg.distributed.launch import launched

NX, NY = 30, 22


def membrane() -> SparseTensor:
    one = torch.tensor(1.0, dtype=torch.float64)
    lines = [SparseTensor.tridiagonal(-one, torch.full((n,), 2.0).double(), -one) for n in (NX, NY)]
    row, col, entries = [], [], []
    for axis, line in enumerate(lines):
        along, across = (1, NX) if axis == 0 else (NX, 1)
        other = torch.arange((NY, NX)[axis]).unsqueeze(1)
        row.append((other * across + line.row_indices * along).flatten())
        col.append((other * across + line.col_indices * along).flatten())
        entries.append(line.values.repeat((NY, NX)[axis]))
    n = NX * NY
    return SparseTensor(torch.cat(entries), torch.cat(row), torch.cat(col), (n, n))


def main() -> list[float]:
    with launched("cpu") as ranks:
        A = membrane()
        values = A.values.clone().requires_grad_()
        D = DSparseTensor.from_device_mesh(values, A.row_indices, A.col_indices, tuple(A.shape))
        w, _ = D.eigsh(k=3, which="SA")
        w.sum().backward()
        # Each process has the whole gradient of what it gave whole.
        slope = (values.grad * values.detach()).sum()
        exact = (
            4 * math.sin(math.pi / 2 / (NX + 1)) ** 2 + 4 * math.sin(math.pi / 2 / (NY + 1)) ** 2
        )
        if ranks.first:
            print(f"lowest eigenvalues {[round(x, 8) for x in w.tolist()]}, exact {exact:.8f}")
            print(f"derivative in the scale of the stiffness {slope.item():.8f} = their sum")
        return [*w.tolist(), slope.item()]


if __name__ == "__main__":
    main()
