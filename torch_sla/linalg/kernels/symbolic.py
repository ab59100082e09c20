"""The symbolic phase of our factorisations: an ordering, and exact counts of what a factor will cost.

An `Analysis` is immutable and shared by every factor made from it, with one triangle (`cholesky`) or both (`lu`), of
one matrix or of many side by side (`lanes`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log2
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from torch_sla._core import extension
from torch_sla.errors import ArgumentError, Result, SolveError
from torch_sla.linalg.kernels.arguments import indices, plain
from torch_sla.linalg.kernels.metis import nested_dissection
from torch_sla.linalg.kernels.threads import resolve_threads

__all__ = ["Analysis", "Ordering", "analyze"]

Ordering = Literal["auto", "amd", "dissection", "metis", "natural"]

_compiled: Any = None if extension is None else extension.cholesky

# What choosing an ordering is decided by: seconds per flop of the numeric phase, and per entry and
# level of nested dissection. Only their ratio matters.
_FLOP, _DISSECTION, _LEAF = 4e-11, 9e-8, 300
# Seconds of a front, an entry, a flop and an entry of an update where a register holds as many matrices as
# it has lanes: fronts are cheap then, and zeros are not.
_LANE_COST = (1e-7, 1.2e-8, 3e-10, 3e-9)


@dataclass(frozen=True, eq=False)
class Analysis:
    """What the pattern and the ordering determine, exact counts included.

    Parameters
    ----------
    payload
        The compiled object.
    ordering
        ``"amd"``, ``"dissection"``, ``"metis"``, ``"natural"`` or ``"given"``.
    """

    payload: Any
    ordering: str

    @property
    def n(self) -> int:
        """Rows of the matrix."""
        return int(self.payload.n)

    @property
    def nnz(self) -> int:
        """Entries of the pattern."""
        return int(self.payload.nnz)

    @property
    def order(self) -> Tensor:
        """Row of A eliminated k-th, ``[n]`` int32, after postordering."""
        return torch.from_numpy(self.payload.order)

    @property
    def factor_nnz(self) -> int:
        """Entries of L, diagonal included."""
        return int(self.payload.factor_nnz)

    @property
    def flops(self) -> float:
        """Multiplications and additions of a real factorisation: the sum of squared column counts."""
        return float(self.payload.flops)

    @property
    def front_flops(self) -> float:
        """The same with the zeros that supernodes store."""
        return float(self.payload.front_flops)

    @property
    def supernodes(self) -> int:
        """Dense fronts of the factorisation."""
        return int(self.payload.supernodes)

    @property
    def largest_front(self) -> int:
        """Rows of the largest front."""
        return int(self.payload.largest_front)

    @property
    def nbytes(self) -> int:
        """Bytes this analysis holds."""
        return int(self.payload.index_bytes)

    def factor_bytes(self, dtype: torch.dtype) -> int:
        """Bytes of the panels of a factor, the zeros that supernodes store included."""
        return int(self.payload.panel_entries) * dtype.itemsize

    def working_bytes(self, dtype: torch.dtype, threads: int | None = None) -> int:
        """Bytes that a factorisation needs besides its factor while it runs."""
        team = resolve_threads(threads, int(self.flops))
        return int(self.payload.working_entries(team)) * dtype.itemsize


def analyze(
    crow: Tensor,
    ccol: Tensor,
    *,
    ordering: Ordering | Tensor = "auto",
    mates: Tensor | None = None,
    joined: Tensor | None = None,
    lanes: bool = False,
    threads: int | None = None,
) -> Analysis:
    """Order a structurally symmetric pattern and analyse its factorisation.

    Parameters
    ----------
    crow, ccol
        CSR row pointers ``[n + 1]`` and ascending columns ``[nnz]``, both triangles.
    ordering
        ``"amd"`` (minimum degree), ``"dissection"`` (multilevel nested dissection), ``"metis"`` (that of
        METIS, where pymetis is installed), ``"natural"``, or a permutation ``[n]`` (row eliminated
        k-th); ``"auto"`` takes minimum degree, and
        dissection where its counts are lower by more than it costs to find out.
    mates
        ``[n]`` int32, pairs of coupled rows that shall be pivoted together (-1: none).
    joined
        Rows, as in `cholesky.Factor.stuck`, whose fronts shall be part of their parents.
    lanes
        Whether fronts shall suit `kernels.lanes`.

    Raises
    ------
    ArgumentError
        When the pattern is not symmetric or the permutation is not one.
    SolveError
        ``OUT_OF_MEMORY`` when counts overflow 32-bit indices.

    Examples
    --------
    >>> import torch
    >>> crow, ccol = torch.tensor([0, 2, 5, 7]), torch.tensor([0, 1, 0, 1, 2, 1, 2])
    >>> a = analyze(crow, ccol)
    >>> a.factor_nnz, a.flops
    (5, 9.0)
    """
    crow, ccol = indices(crow, ccol)
    pairs = None if mates is None else plain(mates, torch.int32).numpy()
    team = resolve_threads(threads, 20 * ccol.numel())
    start, column = crow.numpy(), ccol.numpy()
    marks = None
    if joined is not None:
        marked = torch.zeros(crow.numel() - 1, dtype=torch.uint8)
        marked[joined.long()] = 1
        marks = marked.numpy()

    def count(order: Any, name: str) -> Analysis:
        cost = _LANE_COST if lanes else None
        return Analysis(_compiled.analyze(start, column, order, pairs, marks, cost), name)

    try:
        if isinstance(ordering, Tensor):
            given = plain(ordering).numpy()
            order = given.astype(np.int32, copy=False)
            if (far := given[order != given]).size:
                raise ArgumentError(f"not a permutation: {far[0]} is out of range or appears twice")
            return count(order, "given")
        if ordering not in get_args(Ordering):
            raise ArgumentError(
                f"`ordering` must be one of {', '.join(get_args(Ordering))} or a permutation, got {ordering!r}"
            )
        if ordering == "metis":
            return count(nested_dissection(start, column), "metis")
        first = "amd" if ordering == "auto" else ordering
        found = count(_compiled.order(start, column, first, pairs, team), first)
        if ordering == "auto":
            levels = max(0.0, log2(max(found.n, 1) / _LEAF))
            if 0.4 * found.flops * _FLOP > _DISSECTION * ccol.numel() * levels:
                other = count(
                    _compiled.order(start, column, "dissection", pairs, team), "dissection"
                )
                found = other if other.flops < found.flops else found
        return found
    except ImportError as error:
        raise ArgumentError(
            f"ordering 'metis' needs pymetis (pip install pymetis): {error}"
        ) from None
    except OverflowError as error:
        raise SolveError(Result.OUT_OF_MEMORY, f"{error}; use an iterative method") from error
    except ValueError as error:
        raise ArgumentError(str(error)) from error
