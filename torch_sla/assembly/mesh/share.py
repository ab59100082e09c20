"""Shares of what a mesh file holds, as it stands there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from torch_sla.assembly.mesh.topology import number_rows
from torch_sla.errors import MeshError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MeshIndex", "MeshShare", "check_places", "members", "merged", "packed"]

Ints = npt.NDArray[np.int64]
Bits = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class MeshShare:
    """A share of the points, of the cells and of the facets with a group that a file lists.

    Parameters
    ----------
    points
        Coordinates ``[m, d]``.
    names
        What cells call these points ``[m]``; None where that is their place in the file, from 0.
    cells, facets
        Points of cells ``[c, k]``, and corners of facets ``[f, kf]``.
    cell_groups, facet_groups
        Groups of each, as bits ``[c, bytes]``, ``[f, bytes]``; see `packed`.
    """

    points: npt.NDArray[np.float64]
    names: Ints | None
    cells: Ints
    cell_groups: Bits
    facets: Ints
    facet_groups: Bits


class MeshIndex(ABC):
    """What is where in a mesh file; small, and sent to all processes.

    Attributes
    ----------
    cell
        Type of the cells.
    n_points, n_cells
        How many the file lists; points that no cell uses and repeated cells are counted.
    cell_groups, facet_groups
        Names of the groups.
    """

    cell: str
    n_points: int
    n_cells: int
    cell_groups: tuple[str, ...]
    facet_groups: tuple[str, ...]

    @abstractmethod
    def read(self, first: int, last: int, of: int) -> MeshShare:
        """Read shares `first` to `last`, one of them left out, of `of` equal ones.

        Of `n` points those from ``n * first // of`` to ``n * last // of``; so for cells and facets.

        Raises
        ------
        MeshError
            If the file is damaged.
        """


def check_places(share: MeshShare, n: int, first: int = 0) -> None:
    """Refuse cells and facets of points that are not there.

    Parameters
    ----------
    n
        How many points there are.
    first
        Number of the first cell of the share.
    """
    for what, rows, start in (("cell", share.cells, first), ("facet", share.facets, None)):
        bad = np.nonzero(((rows < 0) | (rows >= n)).any(1))[0]
        if len(bad):
            name = "a facet with a group" if start is None else f"{what} {bad[0] + start}"
            raise MeshError(
                f"{what}s: {name} refers to points {rows[bad[0]].tolist()}; there are {n} points, counted from 0"
            )


def packed(columns: Sequence[npt.NDArray[np.bool_]], count: int) -> Bits:
    """Return of each of `count` things in which groups it is, eight groups to a byte.

    Examples
    --------
    >>> packed([np.array([True, False]), np.array([True, True])], 2).tolist()
    [[192], [64]]
    """
    if not columns:
        return np.zeros((count, 0), np.uint8)
    return np.packbits(np.stack(columns, 1), axis=1)


def members(groups: Bits, which: int) -> Ints:
    """Return what is in a group.

    Examples
    --------
    >>> members(np.array([[192], [64]], np.uint8), 1).tolist()
    [0, 1]
    """
    return np.nonzero(groups[:, which // 8] & (128 >> which % 8))[0]


def merged(rows: Ints, groups: Bits, n: int) -> tuple[Ints, Bits]:
    """Find things that are listed more than once, as files list what is in several groups.

    Parameters
    ----------
    rows, groups
        Points ``[m, k]`` in any order, from 0 to `n`, and groups of each thing.

    Returns
    -------
    kept, groups
        The first of equal ones, ascending, and the groups of all that equal it.

    Examples
    --------
    >>> kept, groups = merged(
    ...     np.array([[1, 2], [2, 1]]), packed([np.array([1, 0]), np.array([0, 1])], 2), 3
    ... )
    >>> kept.tolist(), groups.tolist()
    ([0], [[192]])
    """
    first, number = number_rows(np.sort(rows, 1), n)
    if len(first) == len(rows):
        return np.arange(len(rows)), groups
    kept = np.sort(first)
    every = np.zeros((len(kept), groups.shape[1]), np.uint8)
    np.bitwise_or.at(every, np.searchsorted(kept, first)[number], groups)
    return kept, every
