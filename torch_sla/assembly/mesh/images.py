"""Which places are images of which, where some coincide: at cracks, and where bodies only touch."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["images", "surroundings"]


def images(x: Tensor, y: Tensor, near_x: Tensor, near_y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distance from each x to the nearest y, and its number.

    Parameters
    ----------
    x, y
        Places ``[n, dim]`` and ``[m, dim]``.
    near_x, near_y
        A place beside each of them, on their side of a crack: among coincident y (within 1e-12 of the size) the one
        whose place beside it is nearest is taken.

    Examples
    --------
    >>> x, beside = torch.tensor([[0.0], [0.0]]), torch.tensor([[0.1], [-0.1]])
    >>> images(x, x, -beside, beside)[1].tolist()
    [1, 0]
    """
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    places = y.detach().cpu().numpy()
    tree = cKDTree(places)
    distance, nearest = tree.query(x.detach().cpu().numpy())
    index = torch.from_numpy(nearest).to(torch.int64)
    pairs = tree.query_pairs(1e-12 * float(np.ptp(places, 0).max()), output_type="ndarray")
    if len(pairs):
        graph = coo_array((np.ones(len(pairs)), tuple(pairs.T)), shape=(len(places),) * 2)
        of = torch.from_numpy(connected_components(graph, directed=False)[1]).long()
        order, count = of.argsort(stable=True), of.bincount()
        first, group = count.cumsum(0) - count, of[index]
        near_x, near_y = near_x.detach().cpu(), near_y.detach().cpu()
        least = torch.full((len(x),), torch.inf, dtype=near_x.dtype)
        for k in range(int(count.max())):
            there = torch.nonzero(count[group] > k)[:, 0]
            other = order[first[group[there]] + k]
            away = (near_x[there] - near_y[other]).norm(dim=-1)
            closer = away < least[there]
            least[there[closer]], index[there[closer]] = away[closer], other[closer]
    return torch.from_numpy(distance), index


def surroundings(groups: Tensor, points: Tensor) -> Tensor:
    """Return the mean of the centres of all groups that have a point ``[n, dim]``; NaN where none has it.

    Parameters
    ----------
    groups
        Points of cells or of facets ``[groups, k]``.
    points
        Coordinates ``[n, dim]``.
    """
    centre = points[groups].mean(1).repeat_interleave(groups.shape[1], 0)
    each = groups.flatten()
    total = torch.zeros_like(points).index_add(0, each, centre)
    return total / each.bincount(minlength=len(points))[:, None]
