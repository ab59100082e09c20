"""What direct methods cost.

They are counted exactly where an analysis has been made, and in closed form before, see `fill`.
"""

from __future__ import annotations

from dataclasses import replace
from math import log2
from typing import TYPE_CHECKING, NamedTuple

from torch_sla.linalg.plan.common_costs import (
    COPIES,
    ROUNDING,
    Estimate,
    checks_of,
    held_of,
    solves_of,
    weight_of,
)
from torch_sla.linalg.plan.fill import closed_form

if TYPE_CHECKING:
    from torch_sla.linalg.backends.base import Counts, Method
    from torch_sla.linalg.plan.facts import Facts
    from torch_sla.linalg.plan.machine import MachineModel

__all__ = ["factor_costs", "factor_costs_on_device"]

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
# Bytes per row of factors with pivoting.
_SPARSE = 350
# Bytes per entry that ordering a pattern leaves with the allocator.
_ORDERING = 16
# An analysis and a solve on a device, in terms of a factorisation, per entry; and the memory of an entry.
_ANALYSIS, _PASS, _ROOM = 8.0, 0.15, 3.5


class _Factor(NamedTuple):
    """What one factor is, and takes to be made."""

    entries: float
    flops: float
    stored: float  # numbers that a solve reads
    seconds: float
    nbytes: float
    analysis: float = 0.0  # seconds beside ordering


def _supernodal(facts: Facts, c: Counts, name: str, lanes: bool, m: MachineModel) -> _Factor:
    n, nnz, size, weight = facts.rows, facts.nnz, facts.dtype.itemsize, weight_of(facts)
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
    nbytes = facts.batch * stored * size + working + _ORDERING * nnz + ROUNDING
    return _Factor(float(c.factor_nnz), c.flops, stored, seconds, nbytes, analysis)


def _simplicial(facts: Facts, c: Counts, name: str, backend: str, m: MachineModel) -> _Factor:
    n, size, weight, entries = (
        facts.rows,
        facts.dtype.itemsize,
        weight_of(facts),
        float(c.factor_nnz),
    )
    if name in ("cholesky", "ldlt"):
        seconds = weight * (m.scalar_entry * entries + m.scalar_flop * c.flops)
        return _Factor(entries, c.flops, entries, seconds, entries * (size + 4))
    # Both triangles; where pivots roam there is more, and where the diagonal has none they do.
    wide = 1.0 if backend == "scipy" else 1.5 if facts.counts is not None else 2.25
    wide = wide if facts.diagonal else 1.7 * max(1.0, n / 2e4) ** 0.16 * wide
    entries, flops = 2.1 * entries * wide, c.flops * wide**2
    seconds = weight * (m.lu_entry * entries + m.lu_flop * flops)
    # Rows of few entries take more of indices and of room to grow.
    nbytes = entries * (size + 3.5) + _SPARSE * n + _ORDERING * facts.nnz + ROUNDING
    return _Factor(entries, 2 * flops, entries / 2, seconds, nbytes)


def factor_costs(facts: Facts, backend: str, method: Method, machine: MachineModel) -> Estimate:
    """Cost factors on the processor, and substitutions in them; of least squares, those of the augmented system."""
    square, native, system = facts.rows == facts.columns, backend == "native", facts
    if not square:
        n, nnz = facts.rows + facts.columns, 2 * facts.nnz + max(facts.rows, facts.columns)
        system = replace(facts, rows=n, columns=n, nnz=nnz, counts=None)
    c = system.counts or closed_form(float(system.rows), float(system.nnz), facts.dimension)
    lanes = facts.batch >= _LANES and c.flops <= _LANES_FLOPS and not facts.dtype.is_complex
    if native:
        made = _supernodal(system, c, method.name, lanes, machine)
    else:
        made = _simplicial(system, c, method.name, backend, machine)
    size, weight = facts.dtype.itemsize, weight_of(facts)
    factorisations, solves, columns = solves_of(facts)
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
    judged, moved = checks_of(facts, machine)
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
        + held_of(facts, 1 if (backend, method.name) == ("native", "cholesky") else COPIES),
        (factorisations * made.flops + solves * each * made.entries) * (4 if weight >= 2 else 1),
        factorisations * 3 * made.stored * size + solves * (each * made.stored * size + moved),
        f"{kind} {made.entries:.3g} factor entries, {made.flops:.3g} flops",
    )


def factor_costs_on_device(facts: Facts, method: Method, machine: MachineModel) -> Estimate:
    """Cost factors on a GPU: ordered and analysed on the host, then many small kernels per level."""
    n, nnz, size, weight = (
        float(facts.rows),
        float(facts.nnz),
        facts.dtype.itemsize,
        weight_of(facts),
    )
    exact = facts.counts is not None
    c = facts.counts or closed_form(n, nnz, facts.dimension)
    factorisations, solves, columns = solves_of(facts)
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
    judged, moved = checks_of(facts, machine)
    kind = "exactly" if exact else "about"
    return Estimate(
        analyses * analysis + made * (numeric + one) + solves * (one + judged),
        twice * (_ROOM * entries * size + 1e7) + held_of(facts),
        made * flops + solves * columns * 2 * entries,
        made * 3 * stored * size + solves * (columns * 2 * stored * size + moved),
        f"{kind} {entries:.3g} factor entries, {flops:.3g} flops"
        + (", the transposed matrix factorised too" if twice == 2 else ""),
    )
