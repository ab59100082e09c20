"""Many systems on one pattern against a Python loop over SciPy's spsolve, in the same process.

    python benchmarks/batch.py [--batch 1000] [--threads 2] [--rounds 3]

1000 systems of 1000 unknowns: 40 x 25 in the plane, 10 x 10 x 10 in space, and upwinded convection, each
with diagonals of its own. The loop builds each CSC matrix and solves; ours takes values `[B, nnz]` and
right-hand sides `[B, n]`. Every round has new values, made before the clock starts, so nothing but the
analysis is reused. The last row is the backward pass.
"""

from __future__ import annotations

import argparse
from itertools import cycle

import numpy as np
import scipy.sparse as sp
import torch
from harness import Table, best, grid
from scipy.sparse.linalg import spsolve

from torch_sla.linalg import SparseTensor, clear_factor_cache

KINDS = {"40 x 25": (40, 25), "10 x 10 x 10": (10, 10, 10), "40 x 25, convection": (40, 25)}


def measure(name: str, batch: int, rounds: int, table: Table) -> None:
    A = sp.csr_array(grid(KINDS[name]))
    n = A.shape[0]
    if "convection" in name:
        upwind = sp.diags_array([-np.ones(24), np.ones(25)], offsets=[-1, 0])
        A = sp.csr_array(A + 9 * sp.kron(sp.eye_array(40), upwind))
    A.sort_indices()
    row, col = (torch.from_numpy(i.astype(np.int64)) for i in A.tocoo().coords)
    entries = torch.from_numpy(A.data)
    base = SparseTensor(entries, row, col, (n, n))
    g = torch.Generator().manual_seed(3)
    b = torch.rand(batch, n, generator=g, dtype=torch.float64)
    diagonal = (row == col).double()

    def fresh() -> torch.Tensor:
        shift = torch.rand(batch, 1, generator=g, dtype=torch.float64)
        return entries + shift * diagonal

    clear_factor_cache()
    ready = cycle([fresh() for _ in range(4)])

    def ours() -> torch.Tensor:
        return base.solve_batch(next(ready), b)

    def loop() -> np.ndarray:
        values = next(ready).numpy()
        return np.stack(
            [
                spsolve(sp.csc_matrix((v, (row.numpy(), col.numpy())), shape=(n, n)), rhs)
                for v, rhs in zip(values, b.numpy(), strict=True)
            ]
        )

    values = fresh()
    x, info = base.solve_batch(values, b, info=True)
    times = best(ours, loop, rounds=rounds, seconds=60.0)
    note = f"{info.backend} {info.method}, residual {info.residual:.0e}"
    table.add(f"{batch} systems, {name}", times[0], "loop over spsolve", times[1], note)
    leaf = values.clone().requires_grad_()
    x = base.solve_batch(leaf, b)
    (time,) = best(lambda: torch.autograd.grad(x.sum(), leaf, retain_graph=True), rounds=rounds)
    table.add(f"{name}, backward", time, "our forward", times[0])


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--batch", type=int, default=1000)
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    table = Table(f"Batches of {options.batch} systems of 1000 unknowns on one pattern")
    for name in KINDS:
        measure(name, options.batch, options.rounds, table)
    print(table)


if __name__ == "__main__":
    main()
