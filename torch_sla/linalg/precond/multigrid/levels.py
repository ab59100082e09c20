"""Sizes of the levels of a hierarchy, how a hierarchy prints itself, and what all kinds of it take for granted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch_sla.errors import ArgumentError

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.sparse.pattern import Pattern

__all__ = ["Level", "Leveled", "default_strength", "node_size", "scalar_rows"]


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


class Leveled(ABC):
    """Something with levels, which prints them."""

    @property
    @abstractmethod
    def levels(self) -> list[Level]:
        """Sizes of the levels, finest first."""

    @property
    @abstractmethod
    def _head(self) -> str:
        """What stands above the table of the levels."""

    @property
    def operator_complexity(self) -> float:
        """Nonzeros of all levels over those of the first."""
        levels = self.levels
        return sum(level.nonzeros for level in levels) / max(levels[0].nonzeros, 1)

    @property
    def grid_complexity(self) -> float:
        """Unknowns of all levels over those of the first."""
        levels = self.levels
        return sum(level.unknowns for level in levels) / max(levels[0].unknowns, 1)

    def __str__(self) -> str:
        rows = [("level", "unknowns", "nonzeros", "block")]
        rows += [
            (str(i), str(l.unknowns), str(l.nonzeros), str(l.block))
            for i, l in enumerate(self.levels)
        ]
        widths = [max(len(row[c]) for row in rows) for c in range(4)]
        table = [
            "  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows
        ]
        tail = (
            f"operator complexity {self.operator_complexity:.3f}, "
            f"grid complexity {self.grid_complexity:.3f}"
        )
        return "\n".join([self._head, *table, tail])

    def __repr__(self) -> str:
        levels = self.levels
        return f"<{type(self).__name__} of {len(levels)} levels, {levels[0].unknowns} unknowns>"


def scalar_rows(pattern: Pattern) -> int:
    """Return the rows of a square pattern without blocks, which multigrid needs."""
    n, columns = pattern.shape
    if n != columns or pattern.block:
        raise ArgumentError(
            f"multigrid needs a square scalar pattern, got shape {pattern.shape} with block "
            f"{pattern.block}; `flatten_blocks` makes one"
        )
    return n


def node_size(vectors: Tensor | None) -> int:
    """Return the unknowns of a node that near-nullspace vectors ``[n, k]`` speak of: those of rigid-body modes."""
    return {3: 2, 6: 3}.get(0 if vectors is None else vectors.shape[1], 1)


def default_strength(edge: int) -> float:
    """Return the strength of a coupling between nodes of `edge` unknowns above which it is strong."""
    return 0.25 if edge == 1 else 0.08
