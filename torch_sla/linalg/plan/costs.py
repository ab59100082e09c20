"""What a candidate costs: operations, bytes moved, memory and seconds of everything that was asked for.

Direct methods are counted exactly where an analysis has been made, and in closed form before, see `fill`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import log2
from typing import TYPE_CHECKING, NamedTuple

from torch_sla.linalg.backends.base import groups_of
from torch_sla.linalg.plan.fill import closed_form
from torch_sla.linalg.plan.iterations import cycles, krylov_iterations, wanted_rtol
from torch_sla.linalg.plan.levels import level_sizes, levels_memory

if TYPE_CHECKING:
    from torch_sla.linalg.backends.base import Counts, Method
    from torch_sla.linalg.plan.facts import Facts
    from torch_sla.linalg.plan.machine import MachineModel

__all__ = ["Estimate", "estimate"]

# Passes over the stored entries that a solve makes besides the method itself: residual, norms,
# fingerprint, scales.
_PASSES = 6
# Passes over its vectors, of which several side by side are read less well.
_JUDGED = (4, 24)
# Vectors, and copies of the values, that a solve holds besides the solver's data.
_VECTORS, _COPIES = 8, 2
# Kernels per level of a hierarchy on a device: of an iteration, and of a set-up; on a lattice, and
# with aggregates.
_STEP_LAUNCHES, _SETUP_LAUNCHES = (6, 15), (150, 1200)
# Kernels of a factorisation and of a solve on a device, per level of the elimination tree.
_FACTOR_LAUNCHES, _SOLVE_LAUNCHES = 40, 12
# Batches of at least so many real matrices, of at most so many flops, are factorised in the lanes of
# registers: no fronts to speak of, and a part of the time of an entry.
_LANES, _LANES_FLOPS, _LANES_ENTRY = 4, 1.5e8, 0.15
# Entries that take the place of those of earlier values, in terms of entries in fresh memory; and bytes of
# factors that are made before old ones go.
_AGAIN, _FRESH_BYTES = 0.45, 6e7
# A pass of a substitution over a front, in terms of its factorisation, with one right-hand side and with several; what
# several take of a pass, together and each.
_FRONT_PASS, _SEVERAL, _EACH = (0.05, 0.3), 1.8, 0.13
# Time and entries of a factorisation with both triangles, in terms of one with one.
_BOTH = 1.7
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
# Bytes per row of factors with pivoting.
_SPARSE = 350
# Bytes per entry that ordering a pattern leaves with the allocator, and what pages round up to.
_ORDERING, _ROUNDING = 16, 1e6
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
# An analysis and a solve on a device, in terms of a factorisation, per entry; and the memory of an entry.
_ANALYSIS, _PASS, _ROOM = 8.0, 0.15, 3.5


@dataclass(frozen=True)
class Estimate:
    """Predicted cost of everything the facts ask for, and how it comes about.

    Parameters
    ----------
    seconds
        On the machine model.
    nbytes
        Memory at its peak, beyond the matrix itself.
    flops
        Multiplications and additions, counted together as one.
    traffic
        Bytes moved.
    detail
        In words.
    iterations
        0 for a direct method.
    """

    seconds: float
    nbytes: float
    flops: float
    traffic: float
    detail: str
    iterations: float = 0.0


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
    if backend == "cudss":
        return _on_device(facts, method, machine)
    if method.kind == "direct":
        return _direct(facts, backend, method, machine)
    if preconditioner == "multigrid":
        return _multigrid(facts, method, machine)
    return _krylov(facts, backend, method, preconditioner, machine)


def _solves(facts: Facts) -> tuple[int, int, int]:
    """Return factorisations, solves after them, and right-hand sides of one solve."""
    factorisations = facts.batch * facts.repeats
    return factorisations, factorisations * (2 if facts.needs_grad else 1), facts.rhs


def _members(facts: Facts) -> int:
    """Matrices that are iterated on at once, see `Backend.joins` and `Backend.iterate_batch`."""
    if facts.device == "cpu":
        return 1
    return -(-facts.batch // len(groups_of(facts.batch, facts.rows)))


def _checks(facts: Facts, machine: MachineModel) -> tuple[float, float]:
    """Seconds and bytes moved of judging one solve."""
    size = facts.dtype.itemsize
    vectors = _JUDGED[facts.rhs > 1] * facts.rhs * facts.rows
    moved = _PASSES * facts.nnz * (size + 4) + vectors * size
    return machine.solve + machine.stream(moved / _PASSES) * _PASSES, moved


def _held(facts: Facts, copies: int = _COPIES) -> float:
    """Bytes of vectors and copies of the values."""
    size = facts.dtype.itemsize
    return size * (copies * facts.nnz + _VECTORS * facts.rows * min(facts.rhs, 16))


def _weight(facts: Facts) -> float:
    """Time of an operation relative to one on real double precision numbers."""
    weight = 4.0 if facts.dtype.is_complex else 1.0
    return weight * (0.55 if facts.dtype.itemsize == 4 * (1 + facts.dtype.is_complex) else 1.0)


class _Factor(NamedTuple):
    """What one factor is, and takes to be made."""

    entries: float
    flops: float
    stored: float  # numbers that a solve reads
    seconds: float
    nbytes: float
    analysis: float = 0.0  # seconds beside ordering


def _supernodal(facts: Facts, c: Counts, name: str, lanes: bool, m: MachineModel) -> _Factor:
    n, nnz, size, weight = facts.rows, facts.nnz, facts.dtype.itemsize, _weight(facts)
    exact, analysis = facts.counts is not None, 0.0
    if c.dissected or (not exact and facts.dimension > 2.5):
        # Rows of a node have the same neighbours, and are ordered as one.
        analysis = nnz / facts.block**2 * max(0.0, log2(max(n / 300, 1))) * m.dissection
    # Two triangles; single matrices store the blocks on the diagonal once.
    both = 1.0 if name in ("cholesky", "ldlt") else 2.0 if lanes else _BOTH
    if lanes:
        seconds = both * weight * (m.entry * _LANES_ENTRY * c.stored + m.flop * c.flops)
    else:
        seconds = m.front * c.fronts + weight * (m.entry * c.stored + m.flop * c.front_flops)
        seconds *= 1.25 if name == "ldlt" else both
    stored, working = both * c.stored, c.working * size + (c.nbytes if exact else 8 * nnz + 20 * n)
    # All members of a batch are held at once.
    nbytes = facts.batch * stored * size + working + _ORDERING * nnz + _ROUNDING
    return _Factor(float(c.factor_nnz), c.flops, stored, seconds, nbytes, analysis)


def _simplicial(facts: Facts, c: Counts, name: str, backend: str, m: MachineModel) -> _Factor:
    n, size, weight, entries = facts.rows, facts.dtype.itemsize, _weight(facts), float(c.factor_nnz)
    if name in ("cholesky", "ldlt"):
        seconds = weight * (m.scalar_entry * entries + m.scalar_flop * c.flops)
        return _Factor(entries, c.flops, entries, seconds, entries * (size + 4))
    # Both triangles; where pivots roam there is more, and where the diagonal has none they do.
    wide = 1.0 if backend == "scipy" else 1.5 if facts.counts is not None else 2.25
    wide = wide if facts.diagonal else 1.7 * max(1.0, n / 2e4) ** 0.16 * wide
    entries, flops = 2.1 * entries * wide, c.flops * wide**2
    seconds = weight * (m.lu_entry * entries + m.lu_flop * flops)
    # Rows of few entries take more of indices and of room to grow.
    nbytes = entries * (size + 3.5) + _SPARSE * n + _ORDERING * facts.nnz + _ROUNDING
    return _Factor(entries, 2 * flops, entries / 2, seconds, nbytes)


def _direct(facts: Facts, backend: str, method: Method, machine: MachineModel) -> Estimate:
    square, native, system = facts.rows == facts.columns, backend == "native", facts
    if not square:
        # The augmented system of the least-squares problem.
        n, nnz = facts.rows + facts.columns, 2 * facts.nnz + max(facts.rows, facts.columns)
        system = replace(facts, rows=n, columns=n, nnz=nnz, counts=None)
    c = system.counts or closed_form(float(system.rows), float(system.nnz), facts.dimension)
    lanes = facts.batch >= _LANES and c.flops <= _LANES_FLOPS and not facts.dtype.is_complex
    if native:
        made = _supernodal(system, c, method.name, lanes, machine)
    else:
        made = _simplicial(system, c, method.name, backend, machine)
    size, weight = facts.dtype.itemsize, _weight(facts)
    factorisations, solves, columns = _solves(facts)
    analysis = machine.order(system.rows, system.nnz, facts.spread / facts.block**2) + made.analysis
    saved = 0.0
    if native and not lanes:
        later = max(0.0, factorisations - 2 - _FRESH_BYTES / max(made.stored * size, 1e6))
        saved = later * (1 - _AGAIN) * weight * machine.entry * made.stored
    # One solve is spent on proving that the matrix is not singular; more columns share the reading.
    pass_ = 2 * machine.stream(made.stored * size)
    passes = (1 + 0.2 * (columns - 1)) * pass_
    if native:
        alone, beside = (
            pass_ + f * machine.front * (0 if lanes else c.fronts) for f in _FRONT_PASS
        )
        pass_, passes = alone, alone if columns == 1 else (_SEVERAL + _EACH * columns) * beside
    judged, moved = _checks(facts, machine)
    seconds = machine.solve + analysis * (1 if square else factorisations) - saved
    seconds += factorisations * (made.seconds + 1.2 * pass_) + solves * (passes + judged)
    seconds += machine.touch(made.nbytes)  # once: then it is at hand, or kept
    if native:
        # The members of a batch are looked up and judged together.
        seconds -= solves * machine.solve * (1 - 1 / max(1, facts.batch))
    each = columns * 2  # operations, and entries that are read, of a solve for each stored one
    kind = "about" if system.counts is None else "exactly"
    return Estimate(
        seconds,
        # Only what is scaled, or turned for SuperLU, is copied twice.
        made.nbytes
        + _held(facts, 1 if (backend, method.name) == ("native", "cholesky") else _COPIES),
        (factorisations * made.flops + solves * each * made.entries) * (4 if weight >= 2 else 1),
        factorisations * 3 * made.stored * size + solves * (each * made.stored * size + moved),
        f"{kind} {made.entries:.3g} factor entries, {made.flops:.3g} flops",
    )


def _on_device(facts: Facts, method: Method, machine: MachineModel) -> Estimate:
    """Cost factors on a GPU: ordered and analysed on the host, then many small kernels per level."""
    n, nnz, size, weight = float(facts.rows), float(facts.nnz), facts.dtype.itemsize, _weight(facts)
    exact = facts.counts is not None
    c = facts.counts or closed_form(n, nnz, facts.dimension)
    factorisations, solves, columns = _solves(facts)
    levels = max(1.0, log2(max(n / 100, 2)))
    analysis = machine.order(n, nnz) + _ANALYSIS * c.factor_nnz * machine.entry
    numeric = _FACTOR_LAUNCHES * levels * machine.launch
    if method.name == "lu":
        # Both triangles, and the transposed matrix for an adjoint: this library cannot turn factors.
        twice = 2 if facts.needs_grad else 1
        entries, flops, made = 2.0 * c.factor_nnz, 2.0 * c.flops, factorisations * twice
        stored, analyses = 2.0 * c.stored, twice
    else:
        entries, flops, made = float(c.factor_nnz), c.flops, factorisations
        stored, analyses, twice = float(c.stored), 1, 1
    numeric += weight * (machine.entry * entries + machine.flop * flops)
    one = _SOLVE_LAUNCHES * levels * machine.launch
    one += _PASS * machine.entry * entries * (1 + 0.1 * (columns - 1))
    judged, moved = _checks(facts, machine)
    kind = "exactly" if exact else "about"
    return Estimate(
        analyses * analysis + made * (numeric + one) + solves * (one + judged),
        twice * (_ROOM * entries * size + 1e7) + _held(facts),
        made * flops + solves * columns * 2 * entries,
        made * 3 * stored * size + solves * (columns * 2 * stored * size + moved),
        f"{kind} {entries:.3g} factor entries, {flops:.3g} flops"
        + (", the transposed matrix factorised too" if twice == 2 else ""),
    )


def _krylov(
    facts: Facts, backend: str, method: Method, preconditioner: str, machine: MachineModel
) -> Estimate:
    n, nnz, size = float(max(facts.rows, facts.columns)), float(facts.nnz), facts.dtype.itemsize
    factorisations, solves, columns = _solves(facts)
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
    members = _members(facts) if at_once else 1
    step = machine.stream(matrix + vectors * together, held) + calls * machine.call / members
    if not facts.lattice:
        step += products * n * machine.row
    step *= columns / together
    judged, moved = _checks(facts, machine)
    judged -= machine.solve * (1 - 1 / members)
    seconds = machine.solve + factorisations * setup + solves * (iterations * step + judged)
    nbytes = members * basis * columns + room + 0.4 * _ROUNDING
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


def _multigrid(facts: Facts, method: Method, machine: MachineModel) -> Estimate:
    """Cost the levels one by one: what is set up, and what an iteration passes through."""
    n, size = float(facts.rows), facts.dtype.itemsize
    factorisations, solves, columns = _solves(facts)
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
    members = _members(facts)  # which share launches, and what is looked at
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
    judged, moved = _checks(facts, machine)
    judged -= machine.solve * (1 - 1 / members)
    seconds = machine.solve + factorisations * made + machine.touch(held + passing)
    seconds += solves * (columns * passed * step + judged)
    nbytes = held + passing + 4 * n * size + 0.5 * _ROUNDING
    if lattice:
        nbytes += 0.25 * _held(facts) + (_SOLID * n * size if facts.dimension > 2.5 else 0.0)
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
