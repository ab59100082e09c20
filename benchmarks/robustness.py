"""What every solver does with hard matrices: residual, or the reason it gave up; a table in markdown.

    python benchmarks/robustness.py [--quick] [--write docs/linalg/robustness.md]

The matrices: those that pyamg ships as examples, Hilbert matrices, saddle points, upwinded and central
convection, rows and columns on wild scales, a shifted Helmholtz operator, a nearly singular Neumann
problem. The right-hand side is that of a known solution of size one. A cell is the relative residual
‖b - A x‖ / ‖b‖ as this script computes it, in brackets the code of a refusal. `--quick` leaves the larger
ones out.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg
import scipy.sparse as sp
import torch

from torch_sla.errors import PlanError, SolveError
from torch_sla.linalg import SparseTensor

if TYPE_CHECKING:
    from collections.abc import Callable

WAYS: tuple[tuple[str, dict[str, str]], ...] = (
    ("auto", {}),
    ("native cholesky", {"backend": "native", "method": "cholesky"}),
    ("native ldlt", {"backend": "native", "method": "ldlt"}),
    ("eigen lu", {"backend": "eigen", "method": "lu"}),
    ("scipy superlu", {"backend": "scipy", "method": "superlu"}),
    ("cg + jacobi", {"backend": "pytorch", "method": "cg"}),
    ("cg + multigrid", {"backend": "pytorch", "method": "cg", "preconditioner": "multigrid"}),
    ("minres", {"backend": "pytorch", "method": "minres"}),
    ("gmres + ilu", {"backend": "pytorch", "method": "gmres", "preconditioner": "ilu"}),
    ("bicgstab + ilu", {"backend": "pytorch", "method": "bicgstab", "preconditioner": "ilu"}),
)
SHIPPED = (
    "airfoil",
    "bar",
    "helmholtz_2D",
    "knot",
    "local_disc_galerkin_diffusion",
    "recirc_flow",
    "unit_cube",
    "unit_square",
)
HEAD = """# Robustness

What every solver does with hard matrices, written by `python benchmarks/robustness.py --write`. A cell is the
relative residual `‖b - A x‖ / ‖b‖`, measured outside the library, at the default tolerance (1e-10
asked of iterative methods, at most 2000 iterations here), or in brackets how the solve said that it
failed. "-" marks what the plan refuses, because the method is not for such a matrix. No cell is a wrong
answer that was returned as a right one.

Direct methods refuse a matrix whose reciprocal condition number is below the rounding of the dtype
("singular"): Hilbert 12, and `unit_square`, a Neumann problem whose nullspace was not declared. Iterative methods find
a solution of the consistent system there, one of many. Rows and columns on wild scales are
equilibrated or, where that is not enough, matched by size; `info.notes` says so.

"""


def chain(n: int) -> sp.csr_matrix:
    one = np.ones(n - 1)
    return sp.csr_matrix(sp.diags([-one, 2 * np.ones(n), -one], [-1, 0, 1]))


def grid(n: int) -> sp.csr_matrix:
    return sp.csr_matrix(sp.kron(chain(n), sp.eye(n)) + sp.kron(sp.eye(n), chain(n)))


def shipped(name: str) -> sp.csr_matrix:
    from pyamg.gallery import load_example

    return sp.csr_matrix(load_example(name)["A"])


def saddle(n: int) -> sp.csr_matrix:
    A = grid(n)
    rng = np.random.default_rng(5)
    B = sp.random(n * n // 4, n * n, 3 / (n * n), random_state=rng) + sp.eye(n * n // 4, n * n)
    return sp.csr_matrix(sp.bmat([[A, B.T], [B, None]]))


def convection(n: int, peclet: float, upwind: bool) -> sp.csr_matrix:
    one = np.ones(n - 1)
    step = sp.diags([-one, np.ones(n)], [-1, 0]) if upwind else sp.diags([-one, one], [-1, 1]) / 2
    return sp.csr_matrix(grid(n) + peclet * sp.kron(sp.eye(n), step))


def scaled(A: sp.csr_matrix, decades: float, symmetric: bool = False) -> sp.csr_matrix:
    rng = np.random.default_rng(7)
    rows = 10.0 ** rng.uniform(-decades, decades, A.shape[0])
    columns = rows if symmetric else 10.0 ** rng.uniform(-decades, decades, A.shape[0])
    return sp.csr_matrix(sp.diags(rows) @ A @ sp.diags(columns))


def neumann(n: int) -> sp.csr_matrix:
    A = grid(n)
    rows = np.asarray(A.sum(axis=1)).ravel()
    return sp.csr_matrix(A - sp.diags(rows) + 1e-9 * sp.eye(n * n))


def matrices(quick: bool) -> dict[str, Callable[[], sp.csr_matrix]]:
    n = 20 if quick else 60
    made: dict[str, Callable[[], sp.csr_matrix]] = {}
    for name in SHIPPED[:1] if quick else SHIPPED:
        made[f"pyamg {name}"] = lambda name=name: shipped(name)
    for size in (6, 12):
        made[f"Hilbert {size}"] = lambda size=size: sp.csr_matrix(scipy.linalg.hilbert(size))
    made["saddle point"] = lambda: saddle(n)
    made["convection, upwind, Peclet 100"] = lambda: convection(n, 100.0, upwind=True)
    made["convection, central, Peclet 20"] = lambda: convection(n, 20.0, upwind=False)
    made["rows over 16 decades"] = lambda: scaled(convection(n, 1.0, upwind=True), 8.0)
    made["rows and columns over 80 decades"] = lambda: scaled(convection(n, 1.0, upwind=True), 20.0)
    made["symmetric, over 16 decades"] = lambda: scaled(grid(n), 4.0, symmetric=True)
    made["Helmholtz, 2 points a wave"] = lambda: sp.csr_matrix(grid(n) - 1.7 * sp.eye(n * n))
    made["Neumann + 1e-9"] = lambda: neumann(n)
    return made


def residual(A: sp.csr_matrix, S: SparseTensor, way: dict[str, str]) -> str:
    rng = np.random.default_rng(3)
    truth = rng.uniform(0.5, 1.5, A.shape[0])
    b = A @ truth.astype(A.dtype)
    limit = {} if way.get("backend") != "pytorch" else {"maxiter": 2000}
    try:
        x = S.solve(torch.from_numpy(b), **way, **limit)
    except PlanError:
        return "-"
    except SolveError as error:
        return f"[{error.result.name.lower()}]"
    return f"{np.linalg.norm(b - A @ x.numpy()) / np.linalg.norm(b):.0e}"


def table(quick: bool) -> str:
    head = ("matrix", "unknowns", *(name for name, _ in WAYS))
    lines = [head, ("---",) * len(head)]
    for name, make in matrices(quick).items():
        A = make()
        S = SparseTensor.from_scipy(A)
        cells = [residual(A, S, way) for _, way in WAYS]
        lines.append((name, f"{A.shape[0]}", *cells))
        print(*lines[-1], flush=True)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--quick", action="store_true")
    arguments.add_argument("--write", type=Path)
    options = arguments.parse_args()
    text = table(options.quick)
    if options.write is None:
        print(text)
    else:
        options.write.write_text(HEAD + text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
