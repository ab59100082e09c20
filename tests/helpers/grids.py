"""Matrices of grids that tests share."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch

from torch_sla.linalg import SparseTensor
from torch_sla.linalg.sparse.pattern import Pattern


def second_difference(n: int) -> sp.csr_array:
    one = np.ones(n - 1)
    return sp.csr_array(sp.diags_array([-one, np.full(n, 2.0), -one], offsets=[-1, 0, 1]))


def poisson(*shape: int, weights: tuple[float, ...] | None = None) -> sp.csr_array:
    """Dirichlet Laplacian; the last edge is the fastest."""
    weights = weights or (1.0,) * len(shape)
    total = sp.csr_array((int(np.prod(shape)),) * 2)
    for axis, weight in enumerate(weights):
        factor = sp.csr_array(np.ones((1, 1)))
        for other, n in enumerate(shape):
            factor = sp.kron(factor, second_difference(n) if other == axis else sp.eye_array(n))
        total = total + weight * factor
    total = sp.csr_array(total)
    total.sort_indices()
    return total


def grid(*cells: int) -> SparseTensor:
    """The same as a `SparseTensor`."""
    return SparseTensor.from_scipy(poisson(*cells))


def diffusion(k: np.ndarray) -> sp.csr_array:
    """Cell-centred diffusion with harmonic means on any lattice; values given on one face."""
    index = np.arange(k.size, dtype=np.int32).reshape(k.shape)  # what pyamg takes
    total = sp.csr_array((k.size, k.size))
    kf = k.ravel()
    for axis in range(k.ndim):
        a, b = (np.take(index, range(s, k.shape[axis] - 1 + s), axis).ravel() for s in (0, 1))
        w = 2 * kf[a] * kf[b] / (kf[a] + kf[b])
        row, col = np.concatenate([a, b, a, b]), np.concatenate([a, b, b, a])
        total = total + sp.coo_array((np.concatenate([w, w, -w, -w]), (row, col)), total.shape)
    edge = np.zeros(k.size)
    edge[index[..., 0].ravel()] = 2 * k[..., 0].ravel()
    total = sp.csr_array(total + sp.diags_array(edge))
    total.sort_indices()
    return total


def split(A: sp.csr_array) -> tuple[Pattern, torch.Tensor]:
    crow, ccol = (torch.from_numpy(i.astype(np.int32)) for i in (A.indptr, A.indices))
    return Pattern.from_csr(crow, ccol, A.shape), torch.from_numpy(A.data.copy())


def rhs(n: int, k: int = 1) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(733).standard_normal((n, k)))


def triangulated(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Neighbours in a square of ``n * n`` points with one diagonal in each cell."""
    i = torch.arange(n * n, dtype=torch.int32)
    x, y = (i % n)[:, None], (i // n)[:, None]
    steps = torch.tensor([(-1, -1), (0, -1), (-1, 0), (0, 0), (1, 0), (0, 1), (1, 1)]).int()
    there = ((x + steps[:, 0]) % n == x + steps[:, 0]) & ((y + steps[:, 1]) % n == y + steps[:, 1])
    crow = torch.zeros(n * n + 1, dtype=torch.int32)
    crow[1:] = there.sum(1).cumsum(0)
    return crow, (i[:, None] + steps[:, 0] + n * steps[:, 1])[there]
