"""Multigrid and conjugate gradients against pyamg, in the same process.

    python benchmarks/multigrid.py [--scale 1.0] [--threads 1] [--rounds 3]

Poisson matrices of 5- and 7-point stencils, right-hand sides random, residual 1e-8. A solve includes
everything from the CSR arrays on: finding the lattice or the aggregates, the set-up, the iterations.
The second solve has new values on the same pattern. The peer is pyamg's smoothed aggregation.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
import torch
from harness import Table, best, grid

from torch_sla.linalg.methods.outcome import KrylovOptions
from torch_sla.linalg.precond.multigrid import AMG, Hierarchy
from torch_sla.linalg.sparse.pattern import Pattern

if TYPE_CHECKING:
    from torch import Tensor

RTOL = KrylovOptions(rtol=1e-8)


def measure(table: Table, shape: tuple[int, ...], method: str, threads: int, rounds: int) -> None:
    import pyamg

    A = grid(shape)
    crow, ccol, values = (torch.from_numpy(x) for x in (A.indptr, A.indices, A.data))
    pattern = Pattern.from_csr(crow, ccol, A.shape)
    b = torch.from_numpy(np.random.default_rng(31).standard_normal((A.shape[0], 1)))
    options = AMG(method=method, threads=threads)
    kept: list[Hierarchy] = []

    def ours() -> Tensor:
        kept[:] = [Hierarchy(pattern, values, options)]
        return kept[0].cg(values, b, options=RTOL).x

    def again() -> Tensor:
        kept[0].update(values)
        return kept[0].cg(values, b, options=RTOL).x

    def peer() -> np.ndarray:
        solver = pyamg.smoothed_aggregation_solver(sp.csr_matrix(A))
        return solver.solve(b[:, 0].numpy(), tol=1e-8, accel="cg")

    ours()
    mine, second, theirs = best(ours, again, peer, rounds=rounds)
    iterations = kept[0].cg(values, b, options=RTOL).iterations
    size = "x".join(map(str, shape))
    note = f"{iterations} iterations, {kept[0].nbytes / A.shape[0]:.0f} B/unknown beside the matrix"
    table.add(f"{size} {method}", mine, "pyamg", theirs, note)
    table.add(f"{size} {method}, new values", second, "first solve", mine)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    table = Table("Multigrid")
    for shape in ((1000, 1000), (100, 100, 100)):
        scaled = tuple(max(8, round(n * asked.scale)) for n in shape)
        for method in ("lattice", "smoothed_aggregation"):
            measure(table, scaled, method, asked.threads, asked.rounds)
    print(table)


if __name__ == "__main__":
    main()
