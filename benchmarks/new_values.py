"""What new values on a pattern cost, over a first solve: lattices, unstructured meshes, elastic bodies.

    python benchmarks/new_values.py [--scale 1.0] [--threads 1] [--rounds 3] [--only lattice2 mesh3 ...]

Conjugate gradients with multigrid to 1e-8, random right-hand sides, float64, everything of `A.solve(b)` included. The
first solve has a fresh pattern and empty caches; the plain second one has other values on that pattern, coefficients
of cells up to 12 % away (a smooth field of 2 % on lattices); a loop keeps the hierarchy of the first ones
(`LaggedMultigrid`), from zero and from the last solution. CG is the iterations of the second solve alone: no second
solve is cheaper.
"""

from __future__ import annotations

import argparse
from copy import copy
from typing import TYPE_CHECKING

import numpy as np
import torch
from harness import best, machine
from iterations import elasticity, simplices
from linear_solve import NEAR, clear_numerics, diffusion, field, stencil

from torch_sla.linalg import SparseTensor, Structure
from torch_sla.linalg.factor_cache import clear_factor_cache
from torch_sla.linalg.methods.outcome import KrylovOptions
from torch_sla.linalg.precond.multigrid import Hierarchy, LaggedMultigrid
from torch_sla.linalg.sparse.pattern import Pattern

if TYPE_CHECKING:
    from collections.abc import Callable

RTOL, AWAY = 1e-8, 0.1
Values = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, Structure]


def lattice(shape: tuple[int, ...]) -> Values:
    crow, ccol = stencil(shape)
    old, new = (diffusion(crow, ccol, field(shape, s), 2 * len(shape)) for s in (0.0, NEAR))
    return crow, ccol, old, new, Structure()


def meshed(make: Callable[..., tuple[object, Structure]], dim: int, n: int) -> Values:
    """Two sets of values on the pattern of a mesh."""
    (A, structure), (B, _) = make(dim, n), make(dim, n, AWAY)
    for M in (A, B):
        M.sort_indices()
    index = (x.astype(np.int32) for x in (A.indptr, A.indices))
    kept = Structure(coordinates=structure.coordinates)
    return (*index, A.data, B.data, kept)


CASES = {
    "lattice2": lambda s: lattice((round(1000 * s),) * 2),
    "lattice3": lambda s: lattice((round(100 * s),) * 3),
    "mesh2": lambda s: meshed(simplices, 2, round(700 * s)),
    "mesh3": lambda s: meshed(simplices, 3, round(50 * s)),
    "elastic2": lambda s: meshed(elasticity, 2, round(300 * s)),
    "elastic3": lambda s: meshed(elasticity, 3, round(36 * s)),
}


def measure(name: str, values: Values, rounds: int) -> str:
    crow, ccol, *numbers, structure = values
    n = len(crow) - 1
    index = torch.from_numpy(crow), torch.from_numpy(ccol)
    old, new = (torch.from_numpy(v) for v in numbers)
    b = torch.from_numpy(np.random.default_rng(31).standard_normal(n))
    kept: list[Pattern] = []
    wanted = {"method": "cg", "preconditioner": "multigrid", "rtol": RTOL, "info": True}
    memory = LaggedMultigrid()

    def solve(v: torch.Tensor, **more: object) -> tuple[torch.Tensor, int]:
        x, info = SparseTensor.from_pattern(kept[0], v, structure).solve(b, **{**wanted, **more})
        return x, info.iterations

    def first() -> None:
        clear_factor_cache()
        kept[:] = [Pattern.from_csr(*index, (n, n))]
        solve(old)

    def second() -> None:
        solve(new)
        clear_numerics()

    def loop(start: torch.Tensor | None = None) -> int:
        _, iterations = solve(new, preconditioner=copy(memory), x0=start)
        clear_numerics()
        return iterations

    first()
    last, one = solve(old, preconditioner=memory)
    two = solve(new)[1]
    known = structure.updated(symmetric=True, hermitian=True)
    hierarchy = Hierarchy(kept[0], new, structure=known)

    def gradients() -> None:
        hierarchy.cg(new, b.unsqueeze(1), options=KrylovOptions(rtol=RTOL))

    runs = (first, second, gradients, loop, lambda: loop(last))
    a, plain, cg, lagged, warm = best(*runs, rounds=rounds)
    counts = f"{one}, {two}, {loop()}, {loop(last)}"
    shares = " | ".join(f"{t:.3g} s, {100 * t / a:.0f} %" for t in (plain, cg, lagged, warm))
    return f"| {name}, {n:,} | {a:.3g} s | {shares} | {counts} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    print(f"{machine()}\n")
    print(
        "| matrix, unknowns | first | second | its CG | in a loop | from the last solution | iterations |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in asked.only:
        print(measure(name, CASES[name](asked.scale), asked.rounds), flush=True)


if __name__ == "__main__":
    main()
