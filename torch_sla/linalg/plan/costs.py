"""Closed-form estimates of time and memory.

Fill and flops of a nested-dissection-like ordering on a graph of growth dimension d: about ``2 n
log2 n`` entries and ``18 n^1.5`` flops for d = 2, ``8 n^(4/3)`` entries and ``8 n²`` flops for d =
3 (George, SIAM J. Numer. Anal. 10, 1973; constants fitted to minimum-degree orderings of 5- and
7-point grids). Conjugate gradients need about ``2.2 n^(1/d)`` iterations to 1e-8 on a Laplacian;
unknown coefficients make that worse by a factor that is a guess.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log2
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch_sla.linalg.backends.base import Method
    from torch_sla.linalg.plan.facts import Facts
    from torch_sla.linalg.plan.machine import MachineModel

__all__ = ["Estimate", "estimate"]

_CG_PESSIMISM = 3.0
_GAIN = {"none": 0.5, "jacobi": 1.0, "ssor": 2.0, "ichol": 3.0, "ilu": 3.0, "block_jacobi": 1.2}


@dataclass(frozen=True)
class Estimate:
    """Predicted seconds and bytes of everything the facts ask for, and how they come about."""

    seconds: float
    nbytes: float
    detail: str
    iterations: float = 0.0


def _fill(n: float, nnz: float, d: float) -> tuple[float, float]:
    """Entries and flops of a Cholesky factor."""
    n = max(n, 1.0)
    if d <= 1.5:
        per_row = max(nnz / n, 1.0)
        return nnz, n * per_row**2
    surface = (2.1 * n * log2(n + 1) + nnz, 18 * n**1.5 + nnz)
    solid = (8 * n ** (4 / 3) + nnz, 8 * n**2 + nnz)
    t = min(max(d - 2.0, 0.0), 1.0)
    entries, flops = (a ** (1 - t) * b**t for a, b in zip(surface, solid, strict=True))
    dense = n * (n + 1) / 2
    return min(entries, dense), min(flops, n**3 / 3 + n)


def estimate(
    facts: Facts, backend: str, method: Method, preconditioner: str, machine: MachineModel
) -> Estimate:
    """Predict what `method` of `backend` costs for the whole of `facts`.

    Parameters
    ----------
    facts
        The question.
    backend, method, preconditioner
        The candidate.
    machine
        Speeds.
    """
    n, nnz = float(max(facts.rows, facts.columns)), float(facts.nnz)
    if facts.rows != facts.columns and method.kind == "direct":
        # The augmented system of the least-squares problem.
        n, nnz = float(facts.rows + facts.columns), 2 * nnz + n
    size = facts.dtype.itemsize
    arithmetic = 4.0 if facts.dtype.is_complex else 1.0
    solves = facts.rhs * (2 if facts.needs_grad else 1) * facts.batch * facts.repeats
    factorisations = facts.batch * facts.repeats
    if method.kind == "direct":
        entries, flops = _fill(n, nnz, facts.dimension)
        symmetric = method.name in ("cholesky", "ldlt")
        if symmetric:
            rate = machine.simplicial_flops
            if backend == "native":
                # Dense blocks are small on a surface and large in a solid.
                solid = min(max(facts.dimension - 2.0, 0.0), 1.0)
                rate = machine.supernodal_flops * 0.25 ** (1 - solid)
        else:
            # An unsymmetric ordering and both triangles; COLAMD fills about twice as much again.
            wide = 1.0 if facts.positive_definite else 2.0
            entries, flops, rate = 2 * entries * wide, 2 * flops * wide**1.5, machine.lu_flops
        factor = flops * arithmetic / rate + entries * size / machine.bandwidth
        ordering = (n + nnz) * machine.ordering
        orderings = 1 if symmetric or backend == "eigen" else factorisations
        once = 2 * entries * (size + 4) / machine.bandwidth
        seconds = ordering * orderings + factor * factorisations + once * solves
        return Estimate(
            seconds,
            entries * (size + 4),
            f"{entries:.2g} factor entries, {flops * arithmetic:.2g} flops",
        )
    if preconditioner == "multigrid":
        return _multigrid(facts, method, machine, n, nnz, solves, factorisations)
    d = max(facts.dimension, 1.0)
    iterations = min(2.2 * n ** (1 / d) * _CG_PESSIMISM / _GAIN.get(preconditioner, 1.0), 10 * n)
    iterations = max(iterations, 1.0)
    if method.name not in ("cg", "minres"):
        iterations *= 2
    traffic = nnz * (size + 4) + 12 * n * size
    if preconditioner in ("ichol", "ilu", "ssor"):
        # Triangular solves wait for one another.
        traffic += 4 * nnz * (size + 4)
    # SciPy takes one right-hand side at a time, from Python.
    calls = {"pytorch": 12.0, "scipy": 24.0}.get(backend, 0.0) * machine.call
    seconds = solves * iterations * (traffic / machine.bandwidth + calls)
    return Estimate(
        seconds,
        8 * n * size + nnz * (size + 4),
        f"about {iterations:.0f} iterations",
        iterations,
    )


def _multigrid(
    facts: Facts,
    method: Method,
    machine: MachineModel,
    n: float,
    nnz: float,
    solves: int,
    factorisations: int,
) -> Estimate:
    """Cost a hierarchy in single precision, half as large again as the matrix, with one sweep each way.

    Iterations do not grow with the size; how many they are is known for Laplacians only, so the
    count is a cautious one, and more so without symmetry.
    """
    size = facts.dtype.itemsize
    iterations = 20.0 if method.name == "cg" else 60.0
    cycle = 1.5 * (3 * nnz * 8 + 8 * n * 4)
    step = (cycle + nnz * (size + 4) + 6 * n * size) / machine.bandwidth + 20 * machine.call
    seconds = factorisations * (nnz * machine.coarsening + 1e-3) + solves * iterations * step
    nbytes = 1.6 * (nnz * 8 + n * 24) + 6 * n * size
    return Estimate(seconds, nbytes, f"about {iterations:.0f} iterations", iterations)
