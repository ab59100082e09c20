"""Our supernodal solver against SuperLU and against Eigen's simplicial one, in the same process.

    python benchmarks/direct.py [--grids 300x300 500x500 25x25x25] [--unsymmetric 200x200 18x18x18]
                                [--threads 1] [--rounds 3]

Poisson matrices of 5- and 7-point stencils. The first rows of a grid include everything: ordering,
analysis, factorisation, one solve. The peer is SciPy's `splu` in symmetric mode, the best SuperLU
does on such matrices, and Eigen's SimplicialLLT through our own backend, which orders
by minimum degree; so do we in the row that says so. Then, against the factorisation alone: the selected
inverse (3 times at most), LDL, 16 right-hand sides, a factorisation for new values (1.05 times at most, and
no analysis), two threads. Last, through `SparseTensor.solve`: new values with a gradient, and the
share of the backward pass (0.15 at most). ``--unsymmetric`` times SuperLU's settings by structure on
transport problems against the library's defaults.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import scipy.sparse as sp
import torch
from harness import Table, best, grid
from scipy.sparse.linalg import splu

from torch_sla.linalg import SparseTensor, clear_factor_cache
from torch_sla.linalg.kernels import cholesky, eigen, symbolic

SYMMETRIC = {
    "permc_spec": "MMD_AT_PLUS_A",
    "diag_pivot_thresh": 0.0,
    "options": {"SymmetricMode": True},
}


def measure(name: str, threads: int, rounds: int, table: Table) -> None:
    A = grid(tuple(int(n) for n in name.split("x")))
    crow, col, values = (torch.from_numpy(x) for x in (A.indptr, A.indices, A.data))
    b = torch.from_numpy(np.random.default_rng(31).standard_normal((A.shape[0], 16)))
    one = b[:, :1].contiguous()

    def ours() -> torch.Tensor:
        analysis = symbolic.analyze(crow, col, threads=threads)
        return cholesky.factorize(analysis, values, threads=threads).solve(one, threads=threads)

    def superlu() -> np.ndarray:
        return splu(A.tocsc(), **SYMMETRIC).solve(one.numpy())

    def simplicial() -> torch.Tensor:
        return eigen.analyze("llt", crow, col).factorize(values).solve(one, "n")

    def same_ordering() -> torch.Tensor:
        analysis = symbolic.analyze(crow, col, ordering="amd", threads=threads)
        return cholesky.factorize(analysis, values, threads=threads).solve(one, threads=threads)

    residual = np.linalg.norm(A @ ours().numpy() - one.numpy()) / np.linalg.norm(one.numpy())
    first, amd, lu, llt = best(
        ours, same_ordering, superlu, simplicial, rounds=rounds, seconds=60.0
    )
    analysis = symbolic.analyze(crow, col, threads=threads)
    counts = f"{analysis.ordering}, nnz(L) {analysis.factor_nnz:.3g}, {analysis.flops:.3g} flops"
    table.add(f"{name}, all in", first, "splu symmetric", lu, f"{counts}, residual {residual:.0e}")
    table.add(f"{name}, all in, minimum degree", amd, "Eigen SimplicialLLT", llt)

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
    for what, seconds in (("selected inverse", inverse), ("LDL", ldl), ("16 solves", many)):
        table.add(f"{name}, {what}", seconds, "our factorisation", numeric)
    scaled_values = values * 1.5
    new, two = best(
        lambda: cholesky.factorize(analysis, scaled_values, threads=threads),
        lambda: cholesky.factorize(analysis, values, threads=2),
        rounds=rounds,
        seconds=30.0,
    )
    table.add(f"{name}, new values", new, "our factorisation", numeric)
    table.add(f"{name}, two threads", two, "our factorisation", numeric)
    forward, backward = gradient(A, rounds)
    table.add(
        f"{name}, backward of a solve", backward, "its forward", forward,
        f"{backward / forward:.3f} of forward",
    )  # fmt: skip


def gradient(A: sp.csr_array, rounds: int) -> tuple[float, float]:
    """Seconds of a direct solve with new values on a known pattern, and of its backward pass."""
    first = SparseTensor.from_scipy(A)
    known = first.structure
    plan = first.plan(backend="native", method="cholesky", needs_grad=True)
    b = torch.ones(A.shape[0], dtype=torch.float64)
    first.solve(b, plan=plan)
    forward = backward = float("inf")
    for k in range(rounds):
        new = (first.csr_values * (2.0 + k)).requires_grad_()
        matrix = SparseTensor.from_pattern(first.pattern, new, known)
        start = time.perf_counter()
        x = matrix.solve(b, plan=plan)
        forward = min(forward, time.perf_counter() - start)
        loss = x.sum()
        start = time.perf_counter()
        loss.backward()
        backward = min(backward, time.perf_counter() - start)
    return forward, backward


def unsymmetric(name: str, rounds: int, table: Table) -> None:
    """SuperLU with our ordering and settings against the library's defaults, on upwinded transport."""
    cells = tuple(int(n) for n in name.split("x"))
    total, before = int(np.prod(cells)), 1
    A = grid(cells)
    for n in cells:
        D = sp.eye_array(n) - sp.diags_array([np.ones(n - 1)], offsets=[-1])
        after = sp.eye_array(total // (before * n))
        A, before = A + 2 * sp.kron(sp.kron(sp.eye_array(before), D), after), before * n
    A = sp.csr_array(A)
    A.sort_indices()
    S = SparseTensor.from_scipy(A)
    b = torch.ones(total, dtype=torch.float64)
    plan = S.plan(backend="scipy", method="superlu")

    def ours() -> torch.Tensor:
        clear_factor_cache()
        return S.solve(b, plan=plan)

    time_ours, defaults = best(
        ours, lambda: splu(A.tocsc()).solve(b.numpy()), rounds=rounds, seconds=60.0
    )
    table.add(f"{name} transport, all in", time_ours, "splu defaults", defaults)


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--grids", nargs="+", default=["300x300", "500x500", "25x25x25"])
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--unsymmetric", nargs="*", default=[], metavar="GRID")
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    table = Table("Direct solvers, symmetric positive definite")
    for name in options.grids:
        measure(name, options.threads, options.rounds, table)
    for name in options.unsymmetric:
        unsymmetric(name, options.rounds, table)
    print(table)


if __name__ == "__main__":
    main()
