"""What marching and sweeping cost beside the solves that they cannot do without.

    python benchmarks/transient.py [--cells 316] [--steps 1000] [--cases 100] [--threads 2]

- A march of a heat problem against the time spent in its own linear solves (in the same run, checks of residuals
  counted as solves), with the solver of the plan and with a factor, and with a load that changes in time.
- The gradient of the last output against the march.
- Bytes held after a march under gradients, of all steps and of ten.
- A sweep over loads against one factorisation and the solves with it as one block.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import time
from typing import Any

import torch
from harness import Table, best, machine

import torch_sla.problems.lowering.model as models
from torch_sla import (
    Dirichlet,
    Integral,
    Neumann,
    Parameter,
    PoissonProblem,
    Probe,
    RectangleMesh,
    Solver,
    SweepProblem,
    TransientProblem,
)
from torch_sla.linalg import clear_factor_cache


def plate(cells: int, **more: Any) -> PoissonProblem:
    """A square with one cold side."""
    return PoissonProblem(
        **{
            "mesh": RectangleMesh(cells=(cells, cells)),
            "diffusivity": Parameter("k", default=1.0),
            "boundary": [Dirichlet("left", 0.0), Neumann("right", flux=1.0)],
            "outputs": [Probe("p", at=[(0.7, 0.4)])],
            **more,
        }
    )


class Counted:
    """Stands in the place of the linear solves of a march, and adds up their time."""

    def __init__(self) -> None:
        self.seconds, self._solve = 0.0, models.solve_batch

    def __enter__(self) -> Counted:
        models.solve_batch = self  # type: ignore[assignment]
        return self

    def __exit__(self, *_: object) -> None:
        models.solve_batch = self._solve

    def __call__(self, *args: Any, **more: Any) -> Any:
        start = time.perf_counter()
        found = self._solve(*args, **more)
        self.seconds += time.perf_counter() - start
        return found


def march(what: str, problem: TransientProblem, rounds: int, table: Table) -> None:
    problem.updated(steps=2).solve()
    least = (float("inf"), 0.0)
    for _ in range(rounds):
        with Counted() as solves:
            start = time.perf_counter()
            info = problem.solve().info
            total = time.perf_counter() - start
        least = min(least, (total, solves.seconds))
    note = f"{info.backend} {info.method}; march / solves {least[0] / least[1]:.3f}"
    table.add(what, least[0], "its solves", least[1], note)


def held(problem: TransientProblem) -> float:
    """Bytes that a march under gradients leaves in use; NaN where the allocator does not count."""

    class Info(ctypes.Structure):
        _fields_ = tuple((f"f{i}", ctypes.c_size_t) for i in range(10))

    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallinfo2"):
        return float("nan")
    libc.mallinfo2.restype = Info

    def used() -> float:
        gc.collect()
        found = libc.mallinfo2()
        return float(found.f4 + found.f7)

    k = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    problem.updated(steps=2).solve(k=k)
    before = used()
    kept = problem.solve(k=k)
    after = used()
    del kept
    return after - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=316)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    steps, n = args.steps, (args.cells + 1) ** 2
    in_time = {"initial": "x", "end": 1.0, "steps": steps}

    table = Table(f"{steps} steps of a heat problem with {n} unknowns")
    march("constant load", TransientProblem(of=plate(args.cells), **in_time), args.rounds, table)
    factor = plate(args.cells, solver=Solver(method="cholesky"))
    march("with a factor", TransientProblem(of=factor, **in_time), args.rounds, table)
    pulsed = plate(args.cells, source="sin(10*t)*x")
    march("load in time", TransientProblem(of=pulsed, **in_time), args.rounds, table)

    problem = TransientProblem(of=plate(args.cells), **{**in_time, "steps": max(steps // 10, 2)})
    k = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)

    def gradient() -> torch.Tensor:
        return torch.autograd.grad(problem.solve(k=k)["p"][-1].sum(), k)[0]

    forward, both = best(problem.solve, gradient, rounds=args.rounds)
    table.add("march and gradient, a tenth of the steps", both, "march", forward)
    print(table, "\n")

    few = held(TransientProblem(of=plate(args.cells), **{**in_time, "steps": 10}))
    many = held(TransientProblem(of=plate(args.cells), **in_time))
    print(
        f"bytes held under gradients: {few:.3g} after 10 steps, {many:.3g} after {steps}, ratio {many / few:.2f}\n"
    )

    of = plate(
        args.cells,
        source=Parameter("f"),
        outputs=[Integral("mean", "u")],
        solver=Solver(method="cholesky"),
    )
    loads = [0.01 * i for i in range(args.cases)]
    sweep = SweepProblem(of=of, cases={"f": loads})
    assembled = of.assemble(f=torch.tensor(loads, dtype=torch.float64))
    free = assembled.free
    K = assembled.matrix
    row, col = K.row_indices, K.col_indices
    inside = free[row] & free[col]
    values = torch.where(inside, K.values, (row == col).to(K.values))
    A = type(K).from_pattern(K.pattern, values)
    b = torch.where(free, assembled.load, 0.0).T.contiguous()

    sweep.solve()

    def ours() -> object:
        clear_factor_cache()
        return sweep.solve()

    def bare() -> object:
        clear_factor_cache()
        return A.cholesky().solve(b)

    table = Table(f"{args.cases} loads on {n} unknowns")
    mine, theirs = best(ours, bare, rounds=args.rounds)
    table.add("sweep", mine, "factor and solves", theirs, f"sweep / bare {mine / theirs:.3f}")
    print(table)
    print(f"\n{machine()}")


if __name__ == "__main__":
    main()
