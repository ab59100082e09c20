"""Our supernodal solver against SuperLU and against Eigen's simplicial one, in the same process.

    python benchmarks/direct.py [--grids 300x300 500x500 25x25x25] [--threads 1] [--rounds 3]

Poisson matrices of 5- and 7-point stencils. The first rows of a grid include everything: ordering,
analysis, factorisation, one solve. The peer is SciPy's `splu` in symmetric mode, the best SuperLU
does on such matrices, and Eigen's SimplicialLLT through our own backend. Then: new values on the known
pattern, the selected inverse, LDL, and 16 right-hand sides, each against the factorisation alone.
"""

from __future__ import annotations

import argparse

import numpy as np
import scipy.sparse as sp
import torch
from harness import Table, best
from scipy.sparse.linalg import splu

from torch_sla.linalg.kernels import cholesky, eigen

SYMMETRIC = {
    "permc_spec": "MMD_AT_PLUS_A",
    "diag_pivot_thresh": 0.0,
    "options": {"SymmetricMode": True},
}


def grid(cells: tuple[int, ...]) -> sp.csr_array:
    A = sp.csr_array((1, 1))
    for n in cells:
        ones = np.ones(n - 1)
        T = sp.diags_array([-ones, 2 * np.ones(n), -ones], offsets=[-1, 0, 1])
        A = sp.kron(A, sp.eye_array(n)) + sp.kron(sp.eye_array(A.shape[0]), T)
    A = sp.csr_array(A)
    A.sort_indices()
    return A


def measure(name: str, threads: int, rounds: int, table: Table) -> None:
    A = grid(tuple(int(n) for n in name.split("x")))
    crow, col, values = (torch.from_numpy(x) for x in (A.indptr, A.indices, A.data))
    b = torch.from_numpy(np.random.default_rng(31).standard_normal((A.shape[0], 16)))
    one = b[:, :1].contiguous()

    def ours() -> torch.Tensor:
        analysis = cholesky.analyze(crow, col, threads=threads)
        return cholesky.factorize(analysis, values, threads=threads).solve(one, threads=threads)

    def superlu() -> np.ndarray:
        return splu(A.tocsc(), **SYMMETRIC).solve(one.numpy())

    def simplicial() -> torch.Tensor:
        return eigen.analyze("llt", crow, col).factorize(values).solve(one, "n")

    residual = np.linalg.norm(A @ ours().numpy() - one.numpy()) / np.linalg.norm(one.numpy())
    first, lu, llt = best(ours, superlu, simplicial, rounds=rounds, seconds=60.0)
    analysis = cholesky.analyze(crow, col, threads=threads)
    counts = f"{analysis.ordering}, nnz(L) {analysis.factor_nnz:.3g}, {analysis.flops:.3g} flops"
    table.add(f"{name}, all in", first, "splu symmetric", lu, f"{counts}, residual {residual:.0e}")
    table.add(f"{name}, all in", first, "Eigen SimplicialLLT", llt)

    factor = cholesky.factorize(analysis, values, threads=threads)
    scale, scaled = cholesky.symmetric_scale(crow, col, values)
    numeric, inverse, ldl, many = best(
        lambda: cholesky.factorize(analysis, values, threads=threads),
        factor.selected_inverse,
        lambda: cholesky.factorize(analysis, scaled, "hermitian", scale=scale, threads=threads),
        lambda: factor.solve(b, threads=threads),
        rounds=rounds,
        seconds=30.0,
    )
    for what, time in (("selected inverse", inverse), ("LDL", ldl), ("16 solves", many)):
        table.add(f"{name}, {what}", time, "our factorisation", numeric)


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--grids", nargs="+", default=["300x300", "500x500", "25x25x25"])
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    table = Table("Direct solvers, symmetric positive definite")
    for name in options.grids:
        measure(name, options.threads, options.rounds, table)
    print(table)


if __name__ == "__main__":
    main()
