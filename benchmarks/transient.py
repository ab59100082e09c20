"""What marching and sweeping cost beside the solves that they cannot do without.

    python benchmarks/transient.py [--cells 316] [--steps 1000] [--cases 100] [--threads 2]

- A march of a heat problem against its bare solves: the same systems, one after the other, given to
  ``A.solve(b, x0=..., rtol=...)``, nothing else counted. As anybody's solve each of them looks whether the values are
  those that a factor is kept of, and checks its residual. They are met in a second march, of as many steps, whose
  solves are replaced by that; the march itself, which knows that its matrix stays the same, is timed without them. At
  a thousand steps of 100 000 unknowns a row takes half a minute for each round. By the plan (conjugate gradients), with
  a factor, with a load that changes in time, and in a state that is steady already, where a solve is nothing but the
  check that there is nothing to do.
- The gradient of the last output against the march.
- Bytes held after a march under gradients, of all steps and of ten.
- Sweeps over loads against one factorisation and the solves with it as one block, loads being at hand there: loads
  that are sums of two, a law that has to be evaluated at every quadrature point for every case, one whose functions
  see one coordinate each, and one on a side.
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
    SparseTensor,
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


class Bare:
    """Stands in the place of the linear solves of a march: solves by the public verb, and adds up the time of that."""

    def __init__(self) -> None:
        self.seconds, self._solve = 0.0, models.solve_batch
        self._matrix: SparseTensor | None = None

    def __enter__(self) -> Bare:
        models.solve_batch = self  # type: ignore[assignment]
        return self

    def __exit__(self, *_: object) -> None:
        models.solve_batch = self._solve

    def __call__(
        self, pattern: Any, values: Any, load: Any, structure: Any, solver: Any, **more: Any
    ) -> Any:
        if self._matrix is None or self._matrix.values.data_ptr() != values.data_ptr():
            self._matrix = SparseTensor.from_pattern(pattern, values, structure=structure)
        start = time.perf_counter()
        found = self._matrix.solve(
            load,
            method=solver.method,
            x0=more["start"],
            rtol=more["rtol"],
            repeats=more["repeats"],
            info=True,
        )
        self.seconds += time.perf_counter() - start
        return found


def march(what: str, problem: TransientProblem, rounds: int, table: Table) -> None:
    problem.updated(steps=2).solve()
    total = bare = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        info = problem.solve().info
        total = min(total, time.perf_counter() - start)
        with Bare() as solves:
            problem.solve()
        bare = min(bare, solves.seconds)
    note = f"{info.backend} {info.method}; march / solves {total / bare:.3f}"
    table.add(what, total, "bare solves", bare, note)


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


def sweep(what: str, of: PoissonProblem, name: str, cases: int, rounds: int, table: Table) -> None:
    """A sweep over loads, their evaluation and the outputs included, against factor and solves alone."""
    loads = [i / cases for i in range(cases)]
    problem = SweepProblem(of=of, cases={name: loads})
    assembled = of.assemble(**{name: torch.tensor(loads, dtype=torch.float64)})
    free, K = assembled.free, assembled.matrix
    row, col = K.row_indices, K.col_indices
    values = torch.where(free[row] & free[col], K.values, (row == col).to(K.values))
    A = type(K).from_pattern(K.pattern, values)
    load = torch.where(free, assembled.load, 0.0).expand(cases, -1)
    b = load.T.contiguous()

    problem.solve()

    def ours() -> object:
        clear_factor_cache()
        return problem.solve()

    def bare() -> object:
        clear_factor_cache()
        return A.cholesky().solve(b)

    mine, theirs = best(ours, bare, rounds=rounds)
    table.add(what, mine, "factor and solves", theirs, f"sweep / bare {mine / theirs:.3f}")


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
    in_time = {"initial": 0.0, "end": 1.0, "steps": steps}

    table = Table(f"{steps} steps of a heat problem with {n} unknowns")
    march("constant load", TransientProblem(of=plate(args.cells), **in_time), args.rounds, table)
    factor = plate(args.cells, solver=Solver(method="cholesky"))
    march("with a factor", TransientProblem(of=factor, **in_time), args.rounds, table)
    pulsed = plate(args.cells, source="sin(10*t)*x")
    march("load in time", TransientProblem(of=pulsed, **in_time), args.rounds, table)
    steady = TransientProblem(of=plate(args.cells), **{**in_time, "initial": "x"})
    march("steady from the start", steady, args.rounds, table)

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

    table = Table(f"{args.cases} loads on {n} unknowns")
    direct = {"outputs": [Integral("mean", "u")], "solver": Solver(method="cholesky")}
    sums = plate(args.cells, source=Parameter("f"), **direct)
    sweep("loads that are sums of two", sums, "f", args.cases, args.rounds, table)
    hump = "exp(-50*((x - a)**2 + (y - 0.5)**2))"
    other = plate(args.cells, source=hump, parameters=[Parameter("a")], **direct)
    sweep("loads that are no sums", other, "a", args.cases, args.rounds, table)
    waves = plate(args.cells, source="sin(a*x)*cos(a*y)", parameters=[Parameter("a")], **direct)
    sweep("products of functions of x and of y", waves, "a", args.cases, args.rounds, table)
    flux = [Dirichlet("left", 0.0), Neumann("right", flux="exp(-50*(y - a)**2)")]
    side = plate(args.cells, boundary=flux, parameters=[Parameter("a")], **direct)
    sweep("loads of a side that are no sums", side, "a", args.cases, args.rounds, table)
    print(table)
    print(f"\n{machine()}")


if __name__ == "__main__":
    main()
