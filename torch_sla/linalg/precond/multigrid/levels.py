"""Sizes of the levels of a hierarchy, and how a hierarchy prints itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Level", "describe", "grid_complexity", "operator_complexity"]


@dataclass(frozen=True)
class Level:
    """Sizes of one level.

    Parameters
    ----------
    unknowns, nonzeros
        Of its matrix, in scalars; on a lattice, coefficients of its stencils.
    block
        Edge of its blocks.
    """

    unknowns: int
    nonzeros: int
    block: int = 1


def operator_complexity(levels: Sequence[Level]) -> float:
    """Nonzeros of all levels over those of the first.

    Examples
    --------
    >>> operator_complexity([Level(4, 10), Level(2, 5)])
    1.5
    """
    return sum(level.nonzeros for level in levels) / max(levels[0].nonzeros, 1)


def grid_complexity(levels: Sequence[Level]) -> float:
    """Unknowns of all levels over those of the first."""
    return sum(level.unknowns for level in levels) / max(levels[0].unknowns, 1)


def describe(head: str, levels: Sequence[Level]) -> str:
    """Return the table that a hierarchy prints as, under the line `head`."""
    rows = [("level", "unknowns", "nonzeros", "block")]
    rows += [(str(i), str(l.unknowns), str(l.nonzeros), str(l.block)) for i, l in enumerate(levels)]
    widths = [max(len(row[c]) for row in rows) for c in range(4)]
    table = ["  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    tail = (
        f"operator complexity {operator_complexity(levels):.3f}, "
        f"grid complexity {grid_complexity(levels):.3f}"
    )
    return "\n".join([head, *table, tail])
