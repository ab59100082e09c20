"""Iterative solves on the CPU against SciPy and pyamg, in the same process.

    python benchmarks/linear_solve.py [--scale 1.0] [--threads 1 2] [--rounds 3] [--spsolve]

Poisson matrices of 5- and 7-point stencils as CSR, random right-hand sides, relative residual 1e-8,
float64. "Everything" is `A.solve(b)` on a fresh `SparseTensor` with an empty cache: structure, plan,
set-up, iterations and the check of the residual. New values are a smooth field of diffusivities on the
same pattern. A loop keeps the hierarchy of other values (`LaggedMultigrid`), a few percent away, from zero or
from the solution with those, or so far away that the bound on iterations asks for a new set-up. Set-up and
iterations apart are those of the hierarchy, with aggregates kept, too. Memory is the peak over the baseline
after the imports, before the matrix, in a process of its own, the matrix counted. `--spsolve` adds SciPy's
direct solver (17 s at full size).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from copy import copy
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as sla
import torch
from harness import Table, best

from torch_sla.linalg import SparseTensor
from torch_sla.linalg.factor_cache import clear_factor_cache
from torch_sla.linalg.methods.outcome import KrylovOptions
from torch_sla.linalg.precond.multigrid import AMG, Hierarchy, LaggedMultigrid
from torch_sla.linalg.sparse.pattern import Pattern

RTOL = 1e-8
SHAPES = ((1000, 1000), (100, 100, 100))
# Strength of the fields of a loop: diffusivities change by up to 2 or 3 percent, or 50- to 400-fold.
NEAR, FAR = 0.01, 1.0
COLUMNS = 5


def stencil(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Row pointers and columns of the lattice, int32, without temporaries of their size."""
    n = int(np.prod(shape))
    strides = [int(np.prod(shape[a + 1 :])) for a in range(len(shape))]
    offsets = [-s for s in strides] + [0] + strides[::-1]
    count = np.ones(n, dtype=np.int32)
    inside: dict[int, np.ndarray] = {0: np.ones(n, dtype=bool)}
    for axis, stride in enumerate(strides):
        place = np.arange(n, dtype=np.int32) // stride % shape[axis]
        inside[-stride], inside[stride] = place > 0, place < shape[axis] - 1
        count += inside[-stride]
        count += inside[stride]
    crow = np.zeros(n + 1, dtype=np.int32)
    np.cumsum(count, out=crow[1:])
    ccol = np.empty(int(crow[-1]), dtype=np.int32)
    cursor = crow[:-1].copy()
    for offset in offsets:
        rows = np.flatnonzero(inside[offset]).astype(np.int32)
        ccol[cursor[rows]] = rows + offset
        cursor[rows] += 1
    return crow, ccol


def diffusion(crow: np.ndarray, ccol: np.ndarray, k: np.ndarray, degree: int) -> np.ndarray:
    """Values for diffusivities at the points; edges of the domain are clamped."""
    n = len(crow) - 1
    row = np.repeat(np.arange(n, dtype=np.int32), np.diff(crow))
    values = -2 * k[row] * k[ccol] / (k[row] + k[ccol])
    own = row == ccol
    values[own] = 0.0
    missing = (degree + 1 - np.diff(crow)) * k
    values[own] = missing - np.bincount(row, values, n)
    return values


def field(shape: tuple[int, ...], strength: float) -> np.ndarray:
    grids = np.meshgrid(*(np.linspace(0, 7, n) for n in shape), indexing="ij")
    return np.exp(strength * sum(np.sin(g + i) for i, g in enumerate(grids))).ravel()


def measure(table: Table, shape: tuple[int, ...], asked: argparse.Namespace, threads: int) -> None:
    import pyamg

    torch.set_num_threads(threads)
    crow, ccol = stencil(shape)
    n, degree = len(crow) - 1, 2 * len(shape)
    old, new, near, far = (
        diffusion(crow, ccol, field(shape, s), degree) for s in (0.0, 0.1, NEAR, FAR)
    )
    M = sp.csr_matrix((old, ccol, crow), shape=(n, n))
    M.has_sorted_indices = True
    tensors = torch.from_numpy(crow), torch.from_numpy(ccol)
    vector = np.random.default_rng(31).standard_normal(n)
    b = torch.from_numpy(vector)
    size = "x".join(map(str, shape))
    name = f"{size}, {threads} thread(s)"

    def fresh(values: np.ndarray) -> SparseTensor:
        clear_factor_cache()
        return SparseTensor.from_pattern(
            Pattern.from_csr(*tensors, (n, n)), torch.from_numpy(values)
        )

    def whole() -> None:
        kept[:] = [fresh(old)]
        kept[0].solve(b, rtol=RTOL)

    def again() -> None:
        pattern = kept[0].pattern
        SparseTensor.from_pattern(pattern, torch.from_numpy(new)).solve(b, rtol=RTOL)
        clear_numerics()

    memory = LaggedMultigrid()

    def looped(
        values: np.ndarray, start: torch.Tensor | None = None, loop: LaggedMultigrid | None = None
    ) -> tuple[torch.Tensor, int]:
        A = SparseTensor.from_pattern(kept[0].pattern, torch.from_numpy(values))
        loop = loop or copy(memory)  # each time one step from the same set-up
        wanted = {"method": "cg", "preconditioner": loop, "x0": start, "rtol": RTOL, "info": True}
        x, info = A.solve(b, **wanted)
        clear_numerics()
        return x, info.iterations

    def several() -> None:
        kept[0].solve(many, rtol=RTOL)
        clear_numerics()

    def smoothed() -> None:
        pyamg.smoothed_aggregation_solver(M).solve(vector, tol=RTOL, accel="cg")

    def classical() -> None:
        pyamg.ruge_stuben_solver(M).solve(vector, tol=RTOL, accel="cg")

    kept: list[SparseTensor] = []
    many = torch.from_numpy(np.random.default_rng(32).standard_normal((n, COLUMNS)))
    whole()
    last, _ = looped(old, loop=memory)
    loops = {
        "a few percent away": lambda: looped(near),
        "a few percent away, from the last solution": lambda: looped(near, last),
        "far away, set up again": lambda: looped(far),
    }
    first, second, columns, *steps, sa, rs = best(
        whole, again, several, *loops.values(), smoothed, classical, rounds=asked.rounds
    )
    table.add(f"{name}: everything", first, "pyamg SA", sa, f"pyamg RS {rs:.2f} s")
    if asked.spsolve:
        (direct,) = best(lambda: sla.spsolve(M.tocsc(), vector), rounds=1)
        table.add(f"{name}: everything", first, "spsolve", direct)
    if n <= 200_000 or asked.spsolve:
        (krylov,) = best(lambda: sla.cg(M, vector, rtol=RTOL), rounds=1)
        table.add(f"{name}: everything", first, "scipy cg", krylov)
    table.add(f"{name}: new values", second, "first", first, f"{100 * second / first:.0f} % of it")
    for (what, step), took in zip(loops.items(), steps, strict=True):
        note = f"{100 * took / first:.0f} % of it, {step()[1]} iterations"
        table.add(f"{name}: new values in a loop, {what}", took, "first", first, note)
    table.add(f"{name}: {COLUMNS} columns", columns, "new values", second, "set-up included")
    gradient(table, name, tensors, old, b, asked.rounds)
    for method in ("lattice", "smoothed_aggregation", "classical"):
        if method == "classical" and len(shape) == 3 and n > 200_000 and not asked.spsolve:
            continue
        parts(table, f"{name} {method}", tensors, old, new, b, AMG(method=method), asked.rounds)


def clear_numerics() -> None:
    """Forget numbers but not analyses, so that the next solve is one with new values."""
    from torch_sla.linalg.factor_cache import numerics

    numerics.clear()


def gradient(
    table: Table,
    name: str,
    index: tuple[torch.Tensor, torch.Tensor],
    values: np.ndarray,
    b: torch.Tensor,
    rounds: int,
) -> None:
    n = len(b)
    pattern = Pattern.from_csr(*index, (n, n))
    held: list[torch.Tensor] = []

    def forward() -> None:
        clear_numerics()
        given = torch.from_numpy(values).requires_grad_()
        held[:] = [SparseTensor.from_pattern(pattern, given).solve(b, rtol=RTOL)]

    def backward() -> None:
        held[0].sum().backward()

    forward()
    ahead, back = best(forward, backward, rounds=rounds)
    table.add(f"{name}: backward", back, "forward", ahead, f"{back / ahead:.2f} of it")


def parts(
    table: Table,
    name: str,
    index: tuple[torch.Tensor, torch.Tensor],
    old: np.ndarray,
    new: np.ndarray,
    b: torch.Tensor,
    options: AMG,
    rounds: int,
) -> None:
    n = len(b)
    pattern = Pattern.from_csr(*index, (n, n))
    values, changed = torch.from_numpy(old), torch.from_numpy(new)
    column, limit = b.unsqueeze(1), KrylovOptions(rtol=RTOL)
    kept = [Hierarchy(pattern, values, options)]
    memory = LaggedMultigrid(options, keep="aggregates")
    memory.build(pattern, values)

    def set_up() -> None:
        kept[:] = [Hierarchy(pattern, values, options)]

    def iterate() -> None:
        kept[0].cg(values, column, options=limit)

    def renew() -> None:
        Hierarchy(pattern, changed, options, like=kept[0].skeleton())

    def keep() -> None:
        memory.build(pattern, changed)

    made, solved, renewed, lagged = best(set_up, iterate, renew, keep, rounds=rounds)
    iterations = kept[0].cg(values, column, options=limit).iterations
    note = (
        f"{iterations} iterations, complexity {kept[0].operator_complexity:.2f}, "
        f"{kept[0].nbytes / n:.0f} B/unknown beside the matrix; set-up for new values {renewed:.2f} s, "
        f"with aggregates kept {lagged:.2f} s"
    )
    table.add(f"{name}: set-up", made, "iterations", solved, note)


def peak() -> int:
    """Largest resident size so far, bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmHWM")


def memory_child(kind: str, side: int) -> None:
    """Print bytes per unknown of one solve, in a process that has done nothing else."""
    small = stencil((16, 16))
    tiny = SparseTensor.from_pattern(
        Pattern.from_csr(*map(torch.from_numpy, small), (256, 256)),
        torch.from_numpy(diffusion(*small, np.ones(256), 4)),
    )
    options = {"preconditioner": kind, "backend": "pytorch", "method": "cg", "rtol": RTOL}
    options |= {"throw": False, "info": True}
    tiny.solve(torch.ones(256, dtype=torch.float64), **options)
    clear_factor_cache()
    Path("/proc/self/clear_refs").write_text("5")
    base = peak()
    n = side * side
    crow, ccol = stencil((side, side))
    values = torch.full((len(ccol),), -1.0, dtype=torch.float64)
    values[torch.from_numpy(np.repeat(np.arange(n), np.diff(crow)) == ccol)] = 4.0
    b = torch.ones(n, dtype=torch.float64)
    Path("/proc/self/clear_refs").write_text("5")
    # Given away; copies of int32 indices, the default, are 24 bytes more.
    indices = torch.from_numpy(crow), torch.from_numpy(ccol)
    A = SparseTensor.from_pattern(Pattern.from_csr(*indices, (n, n), copy=False), values)
    A.solve(b, maxiter=None if kind == "multigrid" else 20, **options)
    print((peak() - base) / n)


def memory(side: int) -> None:
    print(
        "\n### Memory of an iterative solve, 2D, peak over baseline, CSR (held, not copied) and b counted\n"
    )
    for kind, target, moonshot in (("multigrid", 260, 190), ("jacobi", 130, 112)):
        command = [sys.executable, __file__, "--memory-child", kind, "--side", str(side)]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        print(
            f"cg + {kind}, {side}x{side}: {float(done.stdout):.0f} B/unknown "
            f"(target {target}, moonshot {moonshot})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--spsolve", action="store_true")
    parser.add_argument("--memory-child", choices=["multigrid", "jacobi"], help=argparse.SUPPRESS)
    parser.add_argument("--side", type=int, default=1000, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.memory_child:
        memory_child(asked.memory_child, asked.side)
        return
    for threads in asked.threads:
        torch.set_num_threads(threads)
        table = Table(f"Iterative solves, {threads} thread(s)")
        for shape in SHAPES:
            scaled = tuple(max(12, round(n * asked.scale)) for n in shape)
            measure(table, scaled, asked, threads)
        print(table, "\n")
    memory(max(100, round(1000 * asked.scale)))


if __name__ == "__main__":
    main()
