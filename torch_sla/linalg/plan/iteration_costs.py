"""What iterative methods cost: Krylov methods, alone and with a preconditioner, and multigrid."""

from __future__ import annotations

from math import log2
from typing import TYPE_CHECKING

from torch_sla.linalg.plan.common_costs import (
    ROUNDING,
    Estimate,
    checks_of,
    held_of,
    members_of,
    solves_of,
)
from torch_sla.linalg.plan.iterations import cycles, krylov_iterations, wanted_rtol
from torch_sla.linalg.plan.levels import level_sizes, levels_memory

if TYPE_CHECKING:
    from torch_sla.linalg.backends.base import Method
    from torch_sla.linalg.plan.facts import Facts
    from torch_sla.linalg.plan.machine import MachineModel

__all__ = ["krylov_costs", "multigrid_costs"]

# Kernels per level of a hierarchy on a device: of an iteration, and of a set-up; on a lattice, and
# with aggregates.
_STEP_LAUNCHES, _SETUP_LAUNCHES = (6, 15), (150, 1200)
# Vectors that Krylov methods hold, and how many more for each step until a restart.
_BASIS = {
    ("pytorch", "cg"): (6.8, 0.0),
    ("pytorch", "bicgstab"): (25.0, 0.0),
    ("pytorch", "minres"): (20.0, 0.0),
    ("pytorch", "gmres"): (6.0, 2.0),
    ("scipy", "cg"): (15.0, 0.0),
    ("scipy", "bicgstab"): (21.0, 0.0),
    ("scipy", "minres"): (17.0, 0.0),
    ("scipy", "gmres"): (6.0, 2.0),
}
_RESTART = 30
# Vectors that setting up the levels of a lattice in space takes beyond those of one in the plane, measured.
_SOLID = 1.8
# Memory of incomplete factors while they are made, in copies of the matrix.
_ROOMS = {"ichol": 4.0, "ilu": 8.5, "ssor": 1.0}
# Vector operations issued from Python in an iteration, and how many vectors it reads and writes.
_STEPS = {
    ("pytorch", "cg"): (22.0, 7.0),
    ("pytorch", "bicgstab"): (30.0, 26.0),
    ("pytorch", "minres"): (42.0, 25.0),
    ("pytorch", "gmres"): (52.0, 85.0),
    ("scipy", "cg"): (7.0, 18.0),
    ("scipy", "bicgstab"): (11.0, 32.0),
    ("scipy", "minres"): (8.0, 25.0),
    ("scipy", "gmres"): (36.0, 32.0),
}
_STEP, _STEP_COMPILED = (20.0, 25.0), (0.0, 12.0)
# How often vectors side by side are read and written, in terms of one that fused kernels pass over.
_WIDE = 2.3
# Work of aggregation where all rows are alike, in terms of that on a mesh without order.
_REGULAR = 0.45
# By unknowns of a node: an entry in the set-up and in a cycle, in terms of a scalar one, since entries of a block
# share an index and an aggregate; how much of waiting for memory their arithmetic does not hide; and a right-hand side
# that goes through the levels with others, in terms of one alone. Measured on plates and solids. Stencils are short.
_SCALAR = (1.0, 1.0, 1.0, 0.35)
_BLOCKED = {2: (0.235, 0.385, 0.2, 0.47), 3: (0.21, 0.23, 0.2, 0.53)}
_BESIDE_LATTICE = 1.0
# A preconditioner that is given is called back by other libraries, in terms of calls.
_CALLED_BACK = 60.0
# Incomplete factors: seconds of a factorisation, in terms of `scalar_entry`, in the plane and in space; and
# how often a solve with both triangles passes over the entries of the matrix, fill and waiting included.
_INCOMPLETE = {"ssor": (1.0, 1.0), "ichol": (30.0, 30.0), "ilu": (60.0, 220.0)}
_TRIANGLES = {"ssor": 8, "ichol": 8, "ilu": 16}


def krylov_costs(
    facts: Facts, backend: str, method: Method, preconditioner: str, machine: MachineModel
) -> Estimate:
    """Cost iterations one by one: products, vectors, calls, and what a preconditioner adds to them."""
    n, nnz, size = float(max(facts.rows, facts.columns)), float(facts.nnz), facts.dtype.itemsize
    factorisations, solves, columns = solves_of(facts)
    filled = backend == "eigen" and preconditioner == "ilu"
    iterations = krylov_iterations(facts, method.name, "ilut" if filled else preconditioner)
    # Matrix and vectors, once per column; the columns of one matrix share its reading.
    products = 2 if method.name == "bicgstab" else 1
    default = _STEP if backend in ("pytorch", "scipy") else _STEP_COMPILED
    calls, passes = _STEPS.get((backend, method.name), default)
    matrix, vectors = products * nnz * (size + 4), passes * n * size
    setup, room = 0.0, _ROOMS.get(preconditioner, 0.0) * nnz * (size + 4)
    if preconditioner == "given" and backend != "pytorch":
        calls += products * _CALLED_BACK
    if preconditioner in _INCOMPLETE:
        matrix += products * _TRIANGLES[preconditioner] * nnz * (size + 4)
        setup = nnz * machine.scalar_entry * _INCOMPLETE[preconditioner][facts.dimension > 2.5]
    together = columns if backend == "pytorch" else 1
    if together > 1:
        vectors *= _WIDE
    basis = _basis(backend, method.name, iterations) * n * size
    held = nnz * (size + 4) + basis * together
    narrow = method.name != "gmres" and not method.rectangular
    at_once = backend == "pytorch" and narrow and preconditioner in ("jacobi", "none")
    members = members_of(facts) if at_once else 1
    step = machine.stream(matrix + vectors * together, held) + calls * machine.call / members
    if not facts.lattice:
        step += products * n * machine.row
    step *= columns / together
    judged, moved = checks_of(facts, machine)
    judged -= machine.solve * (1 - 1 / members)
    seconds = machine.solve + factorisations * setup + solves * (iterations * step + judged)
    nbytes = members * basis * columns + room + 0.4 * ROUNDING
    return Estimate(
        seconds,
        nbytes,
        solves * columns * iterations * (nnz + 6 * n),
        solves * (iterations * (matrix + vectors * columns) + moved),
        f"about {iterations:.0f} iterations",
        iterations,
    )


def _basis(backend: str, method: str, iterations: float) -> float:
    """Vectors that a Krylov method holds."""
    base, step = _BASIS.get((backend, method), (7.0, 0.0))
    return base + step * min(iterations, _RESTART)


def multigrid_costs(facts: Facts, method: Method, machine: MachineModel) -> Estimate:
    """Cost the levels one by one: what is set up, and what an iteration passes through."""
    n, size = float(facts.rows), facts.dtype.itemsize
    factorisations, solves, columns = solves_of(facts)
    lattice = facts.lattice and bool(facts.symmetric or facts.hermitian)
    block = 1 if lattice else facts.block
    levels = level_sizes(facts.rows, facts.nnz, facts.dimension, lattice=lattice, block=block)
    unknowns, entries = (float(sum(level[i] for level in levels)) for i in (0, 1))
    passed = cycles(facts, method.name)
    iterations = passed / 2 if method.name == "bicgstab" else passed
    first, again, waits, beside = _BLOCKED.get(block, _SCALAR)
    if lattice:
        setup, cycle = machine.lattice_coarsening, machine.lattice_cycle
        # Levels in single precision, with vectors and transfers.
        held, passing, beside = 4 * entries + 8 * unknowns, 0.0, _BESIDE_LATTICE
    else:
        alike = _REGULAR if facts.lattice else 1.0
        setup, cycle = alike * first * machine.coarsening, alike * again * machine.cycle
        held, passing = levels_memory(levels, facts.dimension)
    members = members_of(facts)  # which share launches, and what is looked at
    slow = 1 + waits * (machine.slowdown(held + facts.nnz * (size + 4)) - 1)
    step = entries * cycle * slow
    made = setup * entries * (1.0 if lattice else slow) + 1e-3 / members
    if facts.device == "cpu" or not lattice:  # elsewhere an iteration is one launch
        step += 10 * machine.call / members
    if facts.device != "cpu":
        step += _STEP_LAUNCHES[not lattice] * len(levels) * machine.launch / members
        made += _SETUP_LAUNCHES[not lattice] * len(levels) * machine.launch / members
    if columns > 1:
        step *= beside
    if method.name != "cg":
        # The product and the vectors of the method itself, of which bicgstab takes half in a cycle.
        calls, passes = _STEPS.get(("pytorch", method.name), _STEP)
        half = 0.5 if method.name == "bicgstab" else 1.0
        moved = facts.nnz * (size + 4) + half * passes * n * size
        step += half * calls * machine.call / members + machine.stream(moved)
    judged, moved = checks_of(facts, machine)
    judged -= machine.solve * (1 - 1 / members)
    seconds = machine.solve + factorisations * made + machine.touch(held + passing)
    seconds += solves * (columns * passed * step + judged)
    nbytes = held + passing + 4 * n * size + 0.5 * ROUNDING
    if lattice:
        nbytes += 0.25 * held_of(facts) + (_SOLID * n * size if facts.dimension > 2.5 else 0.0)
    if method.name != "cg":
        # The compiled ones of symmetric lattices are leaner.
        nbytes += (0.4 if lattice else 0.8) * _basis("pytorch", method.name, passed / 2) * n * size
    nbytes *= members
    work = 3 * entries + 8 * unknowns
    digits = -log2(wanted_rtol(facts)) / 3.32
    return Estimate(
        seconds,
        nbytes,
        factorisations * 10 * entries + solves * columns * passed * work,
        factorisations * 40 * entries + solves * (columns * passed * 8 * work + moved),
        f"about {iterations:.0f} iterations for {digits:.0f} digits, {len(levels)} levels with "
        f"{entries / max(facts.nnz, 1):.2f} times the entries",
        iterations,
    )
