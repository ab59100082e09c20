"""Large entries onto the diagonal: a row permutation and scales for a factorisation that failed without.

Maximise the product of the diagonal entries of a row permutation of ``A``: an assignment problem with
costs ``c_ij = log(max_j |a_ij| / |a_ij|)``. Its dual variables, ``u_i + v_j <= c_ij`` with equality on the
assignment, are the logarithms of scales after which assigned entries are 1 and no entry is larger.
They find scales that iterations on rows and columns cannot, because these only see largest entries.

Duff and Koster, SIAM J. Matrix Anal. Appl. 22, 2001, pages 973-996, section 4. Dual variables are
the lengths of shortest paths in the residual graph, here by the algorithm of Bellman and Ford, as
many sweeps as the longest such path has edges. Costs are rounded to multiples of a small step, so
that all of this is exact: with rounding, both algorithms may run in circles for ever. Scales are
powers of two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from torch_sla.errors import Result, SolveError

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.sparse.pattern import Pattern

__all__ = ["Matching", "match"]

# Sweeps after which unfinished dual variables are taken as they are.
_SWEEPS = 2_000
# Costs are integers: this many for a factor of two.
_STEPS = 64


@dataclass(frozen=True)
class Matching:
    """``B = P R A C``: row ``order[k]`` of the scaled matrix becomes row ``k``.

    Parameters
    ----------
    order
        ``[n]`` int64.
    R, C
        Scales ``[n]``, powers of two.
    """

    order: Tensor
    R: Tensor
    C: Tensor


def match(pattern: Pattern, values: Tensor) -> Matching:
    """Assign a row to every column by size of the entries.

    Parameters
    ----------
    pattern, values
        Square scalar matrix, slots ``[nnz_csr]``.

    Raises
    ------
    SolveError
        ``SINGULAR`` when there is no assignment without zeros: the matrix is structurally singular.

    Examples
    --------
    >>> import torch
    >>> from torch_sla.linalg.sparse.pattern import Pattern
    >>> row, col = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    >>> m = match(Pattern.from_coo(row, col, (2, 2)), torch.tensor([1e-9, 4.0, 2.0, 1.0]))
    >>> m.order.tolist(), m.R.tolist(), m.C.tolist()
    ([1, 0], [0.25, 0.5], [1.0, 1.0])
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    n = pattern.shape[0]
    size = values.detach().abs().double().cpu()
    kept = (size > 0).nonzero().flatten()
    row, col = (i.cpu()[kept].numpy() for i in (pattern.csr_row, pattern.ccol))
    logs = np.rint(_STEPS * size[kept].log2().numpy())
    largest = np.full(n, -np.inf)
    np.maximum.at(largest, row, logs)
    cost = largest[row] - logs
    # SciPy takes a weight of zero for an absent edge, hence the one.
    graph = csr_array((cost + 1, (row, col)), shape=(n, n))
    try:
        rows, cols = min_weight_full_bipartite_matching(graph)
    except ValueError as error:
        raise SolveError(
            Result.SINGULAR,
            "structurally singular: some rows share too few columns, whatever their values",
        ) from error
    mate = np.empty(n, dtype=np.int64)  # column assigned to each row
    mate[rows] = cols
    own = np.empty(n)
    assigned = col == mate[row]
    own[row[assigned]] = cost[assigned]
    v = _shortest(mate[row], col, cost - own[row], n)
    u = own - v[mate]
    scales = (np.rint((u - largest) / _STEPS), np.rint(v / _STEPS))
    R, C = (torch.from_numpy(np.exp2(s)).to(values.abs()) for s in scales)
    order = torch.from_numpy(np.argsort(mate)).to(values.device)
    return Matching(order, R, C)


def _shortest(
    source: np.ndarray, target: np.ndarray, length: np.ndarray, n: int
) -> np.ndarray:  # fmt: skip
    """Length of the shortest path that ends in each node, the empty path included; no negative cycles."""
    order = np.argsort(target, kind="stable")
    source, target, length = source[order], target[order], length[order]
    starts = np.flatnonzero(np.diff(target, prepend=-1))
    v = np.zeros(n)
    for _ in range(_SWEEPS):
        found = np.minimum(np.minimum.reduceat(v[source] + length, starts), v[target[starts]])
        if bool((found >= v[target[starts]]).all()):
            break
        v[target[starts]] = found
    return v
