"""The scaling model on paper, as a program: time, memory and messages of CG with multigrid in parts.

    python benchmarks/distributed/model.py            # 400 million unknowns on 1, 3, 8 H200; 10 billion on 64
    python benchmarks/distributed/model.py --method smoothed_aggregation     # of a matrix that is no lattice
    python benchmarks/distributed/model.py --check    # against small runs on this machine: in one process and with gloo

A seven-point Laplacian on a cube of ``n`` points along an edge, cut into blocks. `docs/design/distributed_scaling.md`
says where the numbers come from.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from math import log2, prod
from pathlib import Path
from typing import NamedTuple

from torch_sla.linalg.distributed.lattice.boxes import cut

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Machine:
    """What a process has; bytes, seconds."""

    name: str
    memory: float
    bandwidth: float
    link: float
    latency: float
    dispatch: float


# Bandwidth: what a sparse product reaches of 4.8 TB/s. Link and latency: NVLink inside a node of eight, 400 Gbit/s
# network cards between nodes; assumed, not measured. Dispatch: Python and launches around one product, assumed.
H200 = Machine("H200 in a node", 141e9, 4.0e12, 300e9, 15e-6, 120e-6)
H200_NETWORK = Machine("H200 in several nodes", 141e9, 4.0e12, 40e9, 25e-6, 120e-6)

# Counted on runs of 32^3 to 96^3 in 1 to 27 parts: share of unknowns, stored entries in a row, of each level.
SHARES = (1.0, 1 / 6.8, 1 / 85)
ROWS = (7.0, 35.0, 98.0)
SHRINK, ROW = 1 / 13.0, 100.0  # every level after those
P_ROW = 3.85
P_HALO = (0.30, 0.14)  # halo of the transfer over that of the matrix, on the finest level and below
THICK = 1.75  # layers of unknowns of others that a block of a coarse level sees
COARSE = 600
SINGLE, DOUBLE = 4, 8  # bytes of a number of the levels, and of conjugate gradients
ITERATIONS = 10  # to 1e-8; 8 to 10 measured from 16^3 to 96^3, and it does not grow
# Most memory of a process over its unknowns, measured at 80^3 by one process and by two: the setup's.
BYTES_ALONE, BYTES_SHARED = 405.0, 480.0
SETUP = 60.0  # setup over one iteration, in processor time, measured at 48^3 and 64^3
# The same of lattices.
GATHERED = 4096
LATTICE_ITERATIONS = 14  # 13 and 14 measured from 16^3 to 96^3
LATTICE_ALONE, LATTICE_SHARED = 290.0, 300.0
# Where a process has more than 2^31 entries positions take 64 bits: counted from the arrays, not measured.
LATTICE_WIDE = 420.0
LATTICE_SETUP = 25.0


@dataclass(frozen=True)
class Level:
    """One level of one process's share."""

    n: float
    nnz: float
    halo: float
    p_halo: float


def grid(parts: int) -> tuple[int, int, int]:
    """Most cubic way to write a number as a product of three."""
    best = (parts, 1, 1)
    for a in range(1, parts + 1):
        for b in range(1, parts // a + 1):
            if parts % (a * b) == 0:
                found = tuple(sorted((a, b, parts // (a * b)), reverse=True))
                best = min(best, found, key=lambda t: sum(t))
    return best


def levels(n: float, parts: int) -> list[Level]:
    """Levels of the mean share of a cube with ``n`` points along an edge."""
    blocks = grid(parts)
    faces = [2 * (q - 1) / q for q in blocks]  # neighbours along each axis, on average
    found: list[Level] = []
    i, share = 0, SHARES[0]
    while n**3 * share > COARSE:
        side = [n / q * share ** (1 / 3) for q in blocks]
        own = prod(side)
        if i == 0:
            halo = sum(f * own / s for f, s in zip(faces, side, strict=True))
        else:
            halo = prod(s + THICK * f for s, f in zip(side, faces, strict=True)) - own
        rows = ROWS[i] if i < len(ROWS) else ROW
        found.append(Level(own, rows * own, halo, P_HALO[min(i, 1)] * halo))
        i += 1
        share = SHARES[i] if i < len(SHARES) else share * SHRINK
    return found


@dataclass(frozen=True)
class LatticeLevel:
    """One level of the mean share of a lattice: own points, neighbours, points brought around and next to it."""

    n: float
    codes: int
    around: float
    near: float


def lattice_levels(n: float, parts: int) -> list[LatticeLevel]:
    """Levels of a cube with about ``n`` points along an edge, from the boxes themselves."""
    edge = round(n)
    shape = (edge, edge, edge)
    boxes, found, codes = cut(shape, parts), [], 7
    while prod(shape) > GATHERED:
        coarse = tuple((m + 1) // 2 for m in shape)
        below = [box.halved((0, 1, 2)) for box in boxes]
        around = sum(box.padded(shape).n - box.n for box in boxes)
        near = sum(box.grown(coarse).n - box.n for box in below)
        found.append(LatticeLevel(prod(shape) / parts, codes, around / parts, near / parts))
        shape, boxes, codes = coarse, below, 27
    return found


def lattice_sent(n: float, parts: int) -> float:
    """Bytes that a process sends in one iteration: two exchanges on a level, and faces for conjugate gradients."""
    edge = round(n)
    faces = 0
    for box in cut((edge, edge, edge), parts):
        for axis in range(3):
            inner = (box.low[axis] > 0) + (box.high[axis] < edge)
            faces += inner * box.n // max(box.shape[axis], 1)
    cycle = sum(s.around + s.near for s in lattice_levels(n, parts))
    return SINGLE * cycle + DOUBLE * faces / parts


def lattice_messages(n: float, parts: int) -> float:
    """Messages that a process sends in one iteration."""
    faces = [2 * (q - 1) / q for q in grid(parts)]
    around = prod(1 + f for f in faces) - 1
    return sum(faces) + 2 * around * len(lattice_levels(n, parts))


def lattice_iteration(n: float, parts: int, machine: Machine) -> tuple[float, float]:
    """Seconds of one iteration, and how many of them are waiting: exchanges of a level are not hidden."""
    time = waited = 0.0
    for i, s in enumerate(lattice_levels(n, parts)):
        # Two passes over the stencils; vectors, smoother and weights in single precision.
        work = (8 * s.codes + 60) * s.n
        if i == 0:
            work += (12 * 7 + 24 + 80) * s.n  # conjugate gradients, in double precision
        exchange = 0.0
        if parts > 1:
            exchange = 2 * machine.latency + SINGLE * (s.around + s.near) / machine.link
        time += work / machine.bandwidth + exchange + 2 * machine.dispatch
        waited += exchange
    if parts > 1:
        ends = 3 * machine.latency * log2(parts) + SINGLE * GATHERED / machine.link
        time, waited = time + ends, waited + ends
    return time + 4 * machine.dispatch, waited


def sent(shares: list[Level]) -> float:
    """Bytes that a process sends in one iteration."""
    cycle = sum(4 * s.halo + 2 * s.p_halo for s in shares)
    return SINGLE * cycle + DOUBLE * shares[0].halo if shares else 0.0


def messages(shares: list[Level], parts: int) -> float:
    """Messages that a process sends in one iteration: to faces on the finest level, to all around below."""
    faces = [2 * (q - 1) / q for q in grid(parts)]
    around = prod(1 + f for f in faces) - 1
    return 7 * sum(faces) + 6 * around * (len(shares) - 1)


def moved(shares: list[Level]) -> float:
    """Bytes through memory in one iteration: products (values and columns twice over), vectors, transfers."""
    total = 0.0
    for i, s in enumerate(shares):
        total += 4 * (8 * s.nnz + 12 * s.n) + 4 * 20 * s.n + 2 * (8 * P_ROW + 12) * s.n
        if i == 0:
            total += 12 * s.nnz + 24 * s.n + 80 * s.n  # conjugate gradients, in double precision
    return total


def iteration(shares: list[Level], parts: int, machine: Machine) -> tuple[float, float]:
    """Seconds of one iteration, and the share of them in which nothing but exchange happens."""
    time = waited = 0.0
    for i, s in enumerate(shares):
        products = (5 if i == 0 else 4) + 2
        work = moved([s]) / machine.bandwidth / products
        exchange = 0.0
        if parts > 1:
            exchange = machine.latency + SINGLE * s.halo / machine.link
        # A product with the inner entries goes on while the halo travels.
        each = max(work, exchange) + machine.dispatch
        time += products * each
        waited += products * max(exchange - work, 0.0)
    reduce = 0.0 if parts == 1 else 2 * machine.latency * log2(parts)
    gather = 0.0 if parts == 1 else machine.latency * log2(parts) + SINGLE * COARSE / machine.link
    return time + reduce + gather, waited + reduce + gather


class Reading(NamedTuple):
    """Of a process that reads its share of a mesh: bytes of the file, bytes sent, and reductions to cut it."""

    file: float
    sent: float
    reductions: int


def reading(cells: float, points: float, processes: int, corners: int = 4) -> Reading:
    """Say what reading a mesh by shares takes of each process; `corners` points a cell, numbered as they come.

    A cell travels twice, to the keeper of its lowest point, who looks for repetitions, and to its owner; both with its
    number, its groups (a byte) and, to the owner, its part. A point of it is asked for and answered (8 bytes, and 24 of
    coordinates) by those who read its cells, and told to its slab (32 bytes, twice what is there at most). Around what
    a process owns come two layers of cells, and their points; unknowns are listed by name (16 bytes).
    """
    mine, own = cells / processes, points / processes
    away = 1.0 - 1.0 / processes
    row = 8.0 * corners
    there = (row + 8 + 1) + (8 + row + 8 + 1)
    side = own ** (1 / 3)
    # Points within two layers of the faces to neighbours, of blocks in the grid of processes.
    faces = sum(2 * (1 - 1 / count) for count in grid(processes))
    around = faces * 2 * side**2
    asked = 8.0 + 24.0
    near = around * (8 + 16 + asked) + around * cells / points * (row + 17)
    sent = away * (mine * there + own * (8 + asked + 32 + 16)) + near
    # Of each halving extents, counts, eight bytes of a coordinate and equal ones; of cells, points and facets.
    rounds = 3 * 11 * (processes - 1).bit_length()
    return Reading(mine * (row / 2 + 1) + own * 24, sent, rounds)


def table(method: str = "lattice") -> str:
    """Predictions for the sizes that count."""
    structured = method == "lattice"
    rows = [
        (
            "| unknowns | processes | unknowns each | memory each | fits | one iteration | of it waiting | setup "
            "| setup and solve to 1e-8 | sent each | messages each |"
        ),
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for total, parts, machine in (
        (400e6, 1, H200),
        (400e6, 3, H200),
        (400e6, 8, H200),
        (400e6, 16, H200_NETWORK),
        (10e9, 64, H200_NETWORK),
        (10e9, 256, H200_NETWORK),
    ):
        n = total ** (1 / 3)
        shares = levels(n, parts)
        if structured:
            seconds, waiting = lattice_iteration(n, parts, machine)
            each = LATTICE_ALONE if parts == 1 else LATTICE_SHARED
            each = max(each, LATTICE_WIDE) if 7 * total / parts >= 2**31 else each
            setup, iterations = LATTICE_SETUP * seconds, LATTICE_ITERATIONS
            traffic, count = lattice_sent(n, parts), lattice_messages(n, parts)
        else:
            seconds, waiting = iteration(shares, parts, machine)
            each = BYTES_ALONE if parts == 1 else BYTES_SHARED
            setup, iterations = SETUP * seconds, ITERATIONS
            traffic, count = sent(shares), messages(shares, parts)
        memory = each * total / parts
        fits = "yes" if memory < machine.memory else f"no ({memory / machine.memory:.1f}x)"
        rows.append(
            f"| {total / 1e6:,.0f} M | {parts} | {total / parts / 1e6:,.0f} M | {memory / 1e9:.0f} GB | {fits} "
            f"| {1e3 * seconds:.1f} ms | {waiting / seconds:.0%} | {setup:.2f} s "
            f"| {setup + iterations * seconds:.2f} s | {traffic / 1e6:.1f} MB | {count:.0f} |"
        )
    return "\n".join(rows)


# -- against what is measured ---------------------------------------------------------------------


def measured(n: int, parts: int, processes: int, method: str) -> dict:
    """Run `measure.py` once."""
    script = [str(HERE / "measure.py"), str(n), "--parts", str(parts), "--method", method]
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*start, *script], capture_output=True, text=True, env=environment, check=True
    )
    return json.loads(done.stdout.strip().splitlines()[-1])


def check(largest: int, method: str) -> str:
    """Compare bytes and messages of small runs with the model, and exactly with what the halos need."""
    rows = [
        (
            "| unknowns | parts | processes | iterations | sent in an iteration | the halos need | the model says "
            "| messages | the model says | memory each |"
        ),
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    runs = [
        (n, p, q)
        for n in (16, 32, 48, largest)
        for p, q in ((1, 1), (2, 1), (2, 2), (8, 1), (8, 2), (27, 1))
    ]
    for n, parts, processes in runs:
        if n > largest:
            continue
        found = measured(n, parts, processes, method)
        if method == "lattice":
            said = lattice_sent(n, parts), lattice_messages(n, parts)
        else:
            shares = levels(n, parts)
            said = sent(shares), messages(shares, parts)
        total = found["sent_per_iteration"]
        rows.append(
            f"| {n}³ = {n**3:,} | {parts} | {processes} | {found['iterations']} | {total['bytes']:,.0f} B "
            f"| {found['needed_bytes']:,} B | {parts * said[0]:,.0f} B | {total['messages']:.0f} "
            f"| {parts * said[1]:.0f} "
            f"| {found['memory_per_process'] / 1e6:.0f} MB |"
        )
        print(rows[-1], file=sys.stderr)
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="run small sizes and compare")
    parser.add_argument("--largest", type=int, default=64, help="points along an edge, at most")
    parser.add_argument("--method", default="lattice", choices=("lattice", "smoothed_aggregation"))
    given = parser.parse_args()
    print(check(given.largest, given.method) if given.check else table(given.method))


if __name__ == "__main__":
    main()
