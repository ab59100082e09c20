"""How large the levels of multigrid will be, and what they take of memory."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["LevelSize", "level_sizes", "levels_memory"]

_COARSEST = 500
# Vectors that a coarse node keeps of a body with so many unknowns a node: displacements and rotations.
_MODES = {2: 3, 3: 6}
# Numbers and places are of four bytes.
_WORD = 4


class LevelSize(NamedTuple):
    """Unknowns and entries of a level, in scalars, and the edge of its blocks."""

    unknowns: int
    entries: int
    block: int = 1


def level_sizes(
    n: int, nnz: int, dimension: float, *, lattice: bool, block: int = 1
) -> list[LevelSize]:
    """Return the sizes of all levels, the finest first.

    A lattice loses half its points along each axis and fills its stencil; aggregates take in about
    the neighbours of a node, and the smoothed transfer widens the rows of the next level. Nodes of a body are
    aggregated whole, and their aggregates move and turn.

    Examples
    --------
    >>> [tuple(level) for level in level_sizes(1_000_000, 4_996_000, 2.0, lattice=True)[:2]]
    [(1000000, 4996000, 1), (250000, 2250000, 1)]
    >>> level_sizes(86_490, 6_556_000, 3.0, lattice=False, block=3)[1]
    LevelSize(unknowns=6402, entries=1244548, block=6)
    """
    d = min(max(dimension, 1.0), 3.0)
    block = block if block in _MODES and not lattice else 1
    nodes, width = n // block, nnz / max(n, 1) / block
    shrink = 2.0**d if lattice else max(3.0, min(3.0**d, 1.25 * width))
    widest = 3.0**d if lattice else max(width, 1.2 * 3.0**d)
    levels = [LevelSize(n, nnz, block)]
    block = _MODES.get(block, 1)
    while levels[-1].unknowns > _COARSEST and len(levels) < 25:
        nodes = int(nodes / shrink)
        width = min(max(width, widest), float(nodes))
        levels.append(LevelSize(nodes * block, int(nodes * width * block**2), block))
    return levels


def levels_memory(levels: list[LevelSize], dimension: float) -> tuple[float, float]:
    """Return the bytes that aggregated levels keep, and those that setting them up takes besides.

    The smoothed function of an aggregate of three nodes along each axis ends one node further, so that ``(5/3)^d``
    of them reach a node, and products of the matrix with them ``(7/3)^d``.

    Examples
    --------
    >>> kept, passing = levels_memory(
    ...     level_sizes(86_490, 6_556_000, 3.0, lattice=False, block=3), 3.0
    ... )
    >>> round(kept / 1e6), round(passing / 1e6)
    (57, 15)
    """
    d = min(max(dimension, 1.0), 3.0)
    kept = 0.0
    passing: list[float] = []
    for k, (unknowns, entries, b) in enumerate(levels):
        rows, blocks = unknowns / b, entries / b**2
        kept += _WORD * (entries + b * unknowns)  # the matrix, and what the smoother inverts
        if k > 0 or b > 1:
            kept += _WORD * (blocks + rows)  # a scalar matrix is the caller's: so are its places
        kept += 4 * _WORD * unknowns  # vectors of a cycle
        if k + 1 == len(levels):
            break
        coarse = levels[k + 1]
        wide, nodes = coarse.block, coarse.unknowns / coarse.block
        reach, met = (min((x / 3) ** d, nodes) * rows for x in (5.0, 7.0))
        per_row = reach / max(rows, 1.0)
        transfer = reach * _WORD * (b * wide + 1) + _WORD * rows
        couplings = blocks + 2 * _WORD * rows
        places = per_row * (blocks + met) + 2 * rows
        kept += transfer + couplings + places
        # Who is reached by whom, with pointers to the places; the columns of A P and, twice, those of P.
        needed = 24 * reach + _WORD * met + 2 * _WORD * reach
        if wide > 1:
            kept += _WORD * unknowns * wide
            needed += _WORD * blocks + 3 * _WORD * unknowns * wide  # strengths, and the modes
        passing.append(needed)
    return kept, max(passing, default=0.0)
