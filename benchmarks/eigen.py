"""Six smallest eigenpairs of a 2D Poisson matrix against SciPy's shift and invert, in the same process.

    python benchmarks/eigen.py [--side 316] [--threads 1] [--rounds 3]

316 x 316 is 100 000 unknowns. The peer is `scipy.sparse.linalg.eigsh(A, 6, sigma=0)`, which factorises with
SuperLU; a second row gives it SuperLU's symmetric mode through `OPinv`, the best that it can do. All
sides include the factorisation. Then the gradient of the sum of the eigenvalues, and of a function of the vectors.
"""

from __future__ import annotations

import argparse

import numpy as np
import scipy.sparse.linalg as sl
import torch
from direct import SYMMETRIC
from harness import Table, best, grid

from torch_sla.linalg import SparseTensor, clear_factor_cache


def measure(side: int, rounds: int) -> Table:
    A = grid((side, side))
    n = A.shape[0]
    S = SparseTensor.from_scipy(A)

    def ours() -> tuple[torch.Tensor, torch.Tensor]:
        clear_factor_cache()
        return S.eigsh(k=6, which="SM")

    def scipy() -> object:
        return sl.eigsh(A.tocsc(), 6, sigma=0.0)

    def symmetric_mode() -> object:
        lu = sl.splu(A.tocsc(), **SYMMETRIC)
        return sl.eigsh(A, 6, sigma=0.0, OPinv=sl.LinearOperator(A.shape, lu.solve))

    w, V = ours()
    angle = np.pi / (2 * (side + 1))
    one = 4 * np.sin(np.arange(1, 8) * angle) ** 2
    exact = np.sort((one[:, None] + one).ravel())[:6]
    error = float(np.abs(w.numpy() / exact - 1).max())
    residual = float((S @ V - V * w).norm(dim=0).max())
    times = best(ours, scipy, symmetric_mode, rounds=rounds, seconds=60.0)
    table = Table(f"Six smallest eigenpairs, {n} unknowns")
    note = f"relative error {error:.0e}, residual {residual:.0e}"
    table.add("eigsh(k=6, which='SM')", times[0], "SciPy shift-invert", times[1], note)
    table.add("the same", times[0], "SciPy, symmetric mode", times[2])

    v = S.values.clone().requires_grad_()
    T = SparseTensor.from_pattern(S.pattern, v)
    w, V = T.eigsh(k=6, which="SM")

    def values() -> object:
        return torch.autograd.grad(w.sum(), v, retain_graph=True)

    def vectors() -> object:
        return torch.autograd.grad((V[:, 0] ** 4).sum(), v, retain_graph=True)

    for what, time in zip(
        ("gradient of the eigenvalues", "gradient of a vector"),
        best(values, vectors, rounds=rounds),
        strict=True,
    ):
        table.add(what, time, "our eigsh", times[0])
    return table


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--side", type=int, default=316)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    print(measure(options.side, options.rounds))


if __name__ == "__main__":
    main()
