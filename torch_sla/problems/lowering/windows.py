"""Sums over points into unknowns as one sparse matrix for each window of sites: what values do not change of that."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from torch_sla.linalg.kernels import sparse as kernels

__all__ = ["Window", "Windows", "columns_of"]


class Window(NamedTuple):
    """Consecutive sites, the unknowns that they load, and the matrix from their points to these.

    Parameters
    ----------
    slots
        Its values among those of all windows.
    """

    sites: slice
    rows: Tensor | slice
    crow: Tensor
    ccol: Tensor
    slots: slice


def columns_of(local: Tensor) -> Tensor | None:
    """Return which points load each unknown of a site ``[n_local, k]``; None where none does.

    Parameters
    ----------
    local
        What each point of a site loads ``[points, n, n_local]``.
    """
    there = local[:, 0].T != 0
    if not bool(there.all()):
        there = torch.linalg.vector_norm(local, torch.inf, dim=1).T != 0
    counts = there.sum(1)
    if not bool(there.any()):
        return None
    if bool((counts == counts[0]).all()):
        return torch.nonzero(there)[:, 1].view(len(there), -1)
    return torch.arange(len(local)).expand(len(there), -1)


class Windows:
    """The windows of all sites.

    Parameters
    ----------
    rows
        Unknowns of each site ``[n, n_local]``.
    free
        Mask of the unknowns that count.
    columns
        Points of a site that load each of its unknowns ``[n_local, k]``.
    points
        How many points a site has.
    width
        Sites of a window.

    Attributes
    ----------
    every
        Those that load an unknown.
    slots
        Where the values of their matrices are in what is loaded by ``[points, n, n_local]``.
    nbytes
        Bytes held.
    """

    def __init__(
        self, rows: Tensor, free: Tensor, columns: Tensor, points: int, width: int
    ) -> None:
        (n, each), k = rows.shape, columns.shape[1]
        entries = torch.nonzero(free[rows.flatten()])[:, 0].int()
        row = rows.flatten()[entries]
        # By unknown, and then by window, each in the order of before.
        order = kernels.segment_order(row, len(free))[1]
        entries, row = entries[order], row[order]
        site = entries.div(each, rounding_mode="floor")
        ends, order = kernels.segment_order(site.div(width, rounding_mode="floor"), -(-n // width))
        entries, row, site = entries[order], row[order], site[order]
        begins = torch.ones(len(row), dtype=torch.bool)
        begins[1:] = row[1:] != row[:-1]
        begins[ends[:-1][ends[1:] > ends[:-1]].long()] = True
        first = torch.nonzero(begins)[:, 0]
        seen = columns.int()[entries - site * each]
        ccol = (seen + (site % width * points)[:, None]).flatten()
        few = points * n * each < 2**31
        self.slots = ((seen if few else seen.long()) * (n * each) + entries[:, None]).flatten()
        bounds = k * torch.nn.functional.pad(first, (0, 1), value=len(row))
        crow, row = bounds.int(), row[first]
        cuts = torch.searchsorted(first, ends.long()).tolist()
        self.every: list[Window] = []
        for i, (a, b) in enumerate(pairwise(cuts)):
            if a == b:
                continue
            low, high = int(row[a]), int(row[b - 1]) + 1
            slots = slice(int(bounds[a]), int(bounds[b]))
            sites = slice(i * width, min((i + 1) * width, n))
            unknowns: Tensor | slice = row[a:b].long()
            own = crow[a : b + 1] - crow[a]
            if high - low <= 2 * (b - a):  # rows of nothing cost less than to look for places
                unknowns, length = slice(low, high), own.new_zeros(high - low + 1)
                own = length.index_copy_(0, row[a:b].long() - low + 1, own.diff()).cumsum(0).int()
            self.every.append(Window(sites, unknowns, own, ccol[slots], slots))
        self.nbytes = 8 * (len(self.slots) + len(crow) + len(row)) + 4 * len(ccol)
