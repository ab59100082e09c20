"""Solving a few linear equations for as many unknowns: ``C u = c`` becomes ``u = T u + G c``.

An equation with an unknown that no other equation has is solved for it; taking such equations away frees others,
until none is left or a core in which every unknown is shared. The core is reduced densely with pivoting, one
connected group at a time. Substituting the later unknowns into the earlier ones leaves T with columns of unknowns
that stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from torch_sla.errors import ArgumentError

if TYPE_CHECKING:
    import scipy.sparse as sp

__all__ = ["Eliminated", "eliminate"]

Ints = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64] | npt.NDArray[np.complex128]

# A pivot must not be smaller than this fraction of the largest coefficient of its equation.
_THRESHOLD = 1e-2
_LARGEST_CORE = 4000


@dataclass(frozen=True, eq=False)
class Eliminated:
    """The equations solved.

    Parameters
    ----------
    T
        ``[n, n]``: identity rows for the unknowns that stay, combinations of those for the others.
    G
        ``[n, count]``: what the right-hand sides add.
    slaves
        Mask ``[n]`` of the unknowns solved for.
    dependent
        ``[d, count]``: combinations of the right-hand sides that must vanish, from redundant equations.
    """

    T: sp.csr_array
    G: sp.csr_array
    slaves: npt.NDArray[np.bool_]
    dependent: sp.csr_array


def eliminate(row: Ints, dof: Ints, coefficient: Numbers, count: int, n: int) -> Eliminated:
    """Solve `count` equations in n unknowns.

    Raises
    ------
    ArgumentError
        If an equation has no unknown, or a tangled group of equations is too large.
    """
    import scipy.sparse as sp

    C = sp.csr_array((coefficient, (row, dof)), shape=(count, n))
    order = np.full(n, np.iinfo(np.int64).max)
    np.minimum.at(order, dof, np.arange(len(dof)))
    C.sum_duplicates()
    C.data[np.abs(C.data) <= 1e-14 * _of_rows(C)] = 0.0
    C.eliminate_zeros()
    empty = np.nonzero(np.diff(C.indptr) == 0)[0]
    if len(empty):
        raise ArgumentError(
            f"equations: equation {empty[0]} has no unknown with a coefficient other than zero; leave it out"
        )
    pivots, left = _peel(C, order)
    row_of = [np.nonzero(pivots >= 0)[0]]
    A = C[row_of[0]]
    scale = 1.0 / _entries(A, pivots[row_of[0]])
    reduced = [sp.diags_array(scale) @ A]
    combined = [
        sp.csr_array((scale, (np.arange(len(scale)), row_of[0])), shape=(len(scale), count))
    ]
    slaves = [pivots[row_of[0]]]
    dependent = [sp.csr_array((0, count), dtype=C.dtype)]
    for rows in _groups(C[left]):
        R, M, columns, rest = _reduce(C, left[rows])
        reduced.append(R)
        combined.append(M)
        slaves.append(columns)
        dependent.append(rest)
    return _substituted(
        sp.csr_array(sp.vstack(reduced)),
        sp.csr_array(sp.vstack(combined)),
        np.concatenate(slaves),
        sp.csr_array(sp.vstack(dependent)),
        n,
    )


def _of_rows(C: sp.csr_array) -> npt.NDArray[np.float64]:
    """Largest magnitude in the row of every entry."""
    largest = np.zeros(C.shape[0])
    rows = np.repeat(np.arange(C.shape[0]), np.diff(C.indptr))
    np.maximum.at(largest, rows, np.abs(C.data))
    return largest[rows]


def _entries(A: sp.csr_array, columns: Ints) -> Numbers:
    """``A[i, columns[i]]``."""
    rows = np.repeat(np.arange(A.shape[0]), np.diff(A.indptr))
    return A.data[A.indices == columns[rows]]


def _peel(C: sp.csr_array, order: Ints) -> tuple[Ints, Ints]:
    """Pivot column of each equation that can be solved on its own (else -1), and the rows left."""
    pivots = np.full(C.shape[0], -1, dtype=np.int64)
    rows = np.repeat(np.arange(C.shape[0]), np.diff(C.indptr))
    large = np.abs(C.data) >= _THRESHOLD * _of_rows(C)
    active = np.ones(C.shape[0], bool)
    while active.any():
        live = active[rows]
        degree = np.bincount(C.indices[live], minlength=C.shape[1])
        alone = np.nonzero(live & large & (degree[C.indices] == 1))[0]
        if not len(alone):
            break
        # The largest coefficient wins, and among equals the unknown named first.
        magnitude = np.round(np.log2(np.abs(C.data[alone])), 6)
        ranked = alone[np.lexsort((order[C.indices[alone]], -magnitude, rows[alone]))]
        solved, first = np.unique(rows[ranked], return_index=True)
        pivots[solved] = C.indices[ranked[first]]
        active[solved] = False
    return pivots, np.nonzero(active)[0]


def _groups(C: sp.csr_array) -> list[Ints]:
    """Rows of each connected group of equations."""
    import scipy.sparse as sp
    from scipy.sparse.csgraph import connected_components

    if not C.shape[0]:
        return []
    linked = connected_components(sp.csr_array(abs(C) @ abs(C).T), directed=False)[1]
    order = np.argsort(linked, kind="stable")
    return np.split(order, np.nonzero(np.diff(linked[order]))[0] + 1)


def _reduce(C: sp.csr_array, rows: Ints) -> tuple[sp.csr_array, sp.csr_array, Ints, sp.csr_array]:
    """Reduced row echelon form of a group, with complete pivoting: ``R = M C``."""
    import scipy.sparse as sp

    block = C[rows]
    columns = np.unique(block.indices)
    if len(rows) > _LARGEST_CORE:
        raise ArgumentError(
            f"equations: {len(rows)} equations share all of their unknowns in one group; at most {_LARGEST_CORE} can "
            "be solved together, so remove redundant ones"
        )
    A = block[:, columns].toarray()
    m, k = A.shape
    M = np.eye(m, dtype=A.dtype)
    scale = np.abs(A).max(1, keepdims=True)
    A, M = A / scale, M / scale
    pivots: list[tuple[int, int]] = []
    free = np.ones(m, bool)
    for _ in range(min(m, k)):
        size = np.abs(A) * free[:, None]
        i, j = np.unravel_index(int(size.argmax()), size.shape)
        if size[i, j] <= 1e-11:
            break
        M[i] /= A[i, j]
        A[i] /= A[i, j]
        factor = A[:, j].copy()
        factor[i] = 0.0
        touched = np.nonzero(factor)[0]
        A[touched] -= factor[touched, None] * A[i]
        M[touched] -= factor[touched, None] * M[i]
        A[touched, j] = 0.0
        free[i] = False
        pivots.append((int(i), int(j)))
    picked = np.array([i for i, _ in pivots], dtype=np.int64)
    R = sp.csr_array(np.where(np.abs(A[picked]) > 1e-13, A[picked], 0.0))
    spread = sp.csr_array((np.ones(k), (np.arange(k), columns)), shape=(k, C.shape[1]))
    gather = sp.csr_array((np.ones(m), (np.arange(m), rows)), shape=(m, C.shape[0]))
    solved = columns[np.array([j for _, j in pivots], dtype=np.int64)]
    return R @ spread, sp.csr_array(M[picked]) @ gather, solved, sp.csr_array(M[free]) @ gather


def _substituted(
    R: sp.csr_array, M: sp.csr_array, slaves: Ints, dependent: sp.csr_array, n: int
) -> Eliminated:
    """Substitute until no combination names an unknown that is itself solved for."""
    import scipy.sparse as sp

    is_slave = np.zeros(n, bool)
    is_slave[slaves] = True
    m = len(slaves)
    place = sp.csr_array((np.ones(m), (slaves, np.arange(m))), shape=(n, m))
    stay = sp.diags_array((~is_slave).astype(np.float64), format="csr")
    pivot = sp.csr_array((np.ones(m), (slaves, slaves)), shape=(n, n))
    step = sp.csr_array(pivot - place @ R)
    step.data[np.abs(step.data) <= 1e-14] = 0.0
    step.eliminate_zeros()
    T, G = sp.csr_array(stay + step), sp.csr_array(place @ M)
    while is_slave[T.indices].any():
        G = sp.csr_array(G + _slave_part(T, is_slave) @ G)
        T = sp.csr_array(T @ T)
        T.eliminate_zeros()
    return Eliminated(T, G, is_slave, dependent)


def _slave_part(T: sp.csr_array, is_slave: npt.NDArray[np.bool_]) -> sp.csr_array:
    part = T.copy()
    part.data[~is_slave[part.indices]] = 0.0
    return part
