"""Sparse matrices of differences, triangulations and elastic bodies, as SciPy's and as tensors."""

from __future__ import annotations

import itertools

import numpy as np
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import eigsh

from tests.helpers.grids import poisson, second_difference
from torch_sla.linalg.sparse.pattern import Pattern

__all__ = [
    "delaunay",
    "elastic",
    "flat_cells",
    "largest_eigenvalue",
    "odd_cell",
    "poisson",
    "second_difference",
    "split",
]


def delaunay(n: int, dim: int, jump: float = 1.0) -> sp.csr_array:
    """P1 stiffness matrix on about `n` scattered points, numbered at random.

    The coefficient jumps between octants; the first points are fixed, their rows in place.
    """
    from scipy.spatial import Delaunay

    generator = np.random.default_rng(41)
    edge = round(n ** (1 / dim))
    n = edge**dim
    grid = np.stack(np.meshgrid(*(np.arange(edge),) * dim, indexing="ij"), -1).reshape(n, dim)
    inside = (grid > 0) & (grid < edge - 1)  # the hull stays flat, without slivers
    points = (grid + inside * generator.uniform(-0.35, 0.35, (n, dim))) / edge
    points = points[generator.permutation(n)]
    cells = Delaunay(points).simplices
    edges = points[cells[:, 1:]] - points[cells[:, :1]]
    volume = np.abs(np.linalg.det(edges))
    kept = volume > 1e-2 * volume.mean()  # slivers of the hull
    cells, edges, volume = cells[kept], edges[kept], volume[kept]
    grad = np.linalg.inv(edges)
    grad = np.concatenate([-grad.sum(2, keepdims=True), grad], 2)
    octant = (points[cells].mean(1) > 0.5).sum(1) % 2
    kappa = np.where(octant == 1, jump, 1.0) * volume
    local = kappa[:, None, None] * np.einsum("edi,edj->eij", grad, grad)
    row = np.repeat(cells, dim + 1, axis=1).ravel()
    col = np.tile(cells, (1, dim + 1)).ravel()
    used = np.bincount(cells.ravel(), minlength=n) == 0
    A = sp.csr_array(sp.coo_array((local.ravel(), (row, col)), (n, n)) + sp.diags_array(1.0 * used))
    fixed = np.zeros(n, dtype=bool)
    fixed[np.argsort(points[:, 0])[: n // 50]] = True
    rows_of = np.repeat(np.arange(n), np.diff(A.indptr))
    A.data[(fixed[rows_of] | fixed[A.indices]) & (rows_of != A.indices)] = 0.0
    return A


def flat_cells(stiffness: float, each: int = 3, dim: int = 1, edge: int = 18) -> sp.csr_array:
    """A cube of unknowns, and in it flat tetrahedra on the corners of squares: one condition ``u1 - u2 + u3 - u4 = 0``.

    With `dim` 3, unknowns are displacements, and the condition is on those across the square.
    """
    A = sp.kron(poisson(edge, edge, edge), sp.eye_array(dim))
    at = np.arange(edge**3).reshape(edge, edge, edge)
    first = at[1:-1:each, 1:-1:each, 1:-1:each].ravel()
    corners = np.stack([first, first + 1, first + edge + 1, first + edge], 1)
    signs = np.array([1.0, -1.0, 1.0, -1.0])
    rows = np.repeat(np.arange(len(first)), 4)
    across = corners.ravel() * dim + dim - 1
    G = sp.csr_array((np.tile(signs, len(first)), (rows, across)), (len(first), A.shape[0]))
    out = sp.csr_array(A + stiffness * G.T @ G)
    out.sort_indices()
    return out


def elastic(shape: tuple[int, ...], clamp: bool = True) -> tuple[sp.csr_array, torch.Tensor]:
    """Linear elasticity on a box of multilinear cells with Poisson's ratio 0.3, and its points."""
    dim, nu = len(shape), 0.3
    lame, shear = nu / ((1 + nu) * (1 - 2 * nu)), 0.5 / (1 + nu)
    corners = list(itertools.product((0, 1), repeat=dim))
    K = np.zeros((len(corners), dim, len(corners), dim))
    for point in itertools.product((0.5 - 0.5 / np.sqrt(3), 0.5 + 0.5 / np.sqrt(3)), repeat=dim):
        factor = np.where(np.array(corners) == 1, point, 1 - np.array(point))
        slope = np.where(np.array(corners) == 1, 1.0, -1.0)
        grad = np.stack(
            [slope[:, d] * np.prod(np.delete(factor, d, axis=1), axis=1) for d in range(dim)], 1
        )
        K += lame * np.einsum("ai,bj->aibj", grad, grad)
        K += shear * np.einsum("aj,bi->aibj", grad, grad)
        K += shear * np.einsum("ak,bk,ij->aibj", grad, grad, np.eye(dim))
    nodes = np.arange(np.prod([s + 1 for s in shape])).reshape([s + 1 for s in shape])
    local = [
        nodes[tuple(slice(c, c + s) for c, s in zip(corner, shape, strict=True))].ravel()
        for corner in corners
    ]
    dofs = (np.stack(local, 1)[:, :, None] * dim + np.arange(dim)).reshape(len(local[0]), -1)
    size = dofs.shape[1]
    values = np.broadcast_to(K.reshape(1, size, size) / 2**dim, (len(dofs), size, size))
    row, col = np.repeat(dofs, size, axis=1).ravel(), np.tile(dofs, (1, size)).ravel()
    n = nodes.size * dim
    A = sp.csr_array(sp.coo_array((values.ravel(), (row, col)), (n, n)))
    if clamp:
        fixed = np.zeros(n, dtype=bool)
        fixed[(nodes[0].ravel()[:, None] * dim + np.arange(dim)).ravel()] = True
        rows_of = np.repeat(np.arange(n), np.diff(A.indptr))
        A.data[(fixed[rows_of] | fixed[A.indices]) & (rows_of != A.indices)] = 0.0
    points = np.stack(np.unravel_index(np.arange(nodes.size), nodes.shape), 1).astype(float)
    return A, torch.from_numpy(points)


def split(A: sp.csr_array, device: str = "cpu") -> tuple[Pattern, torch.Tensor]:
    A = sp.csr_array(A)
    A.sort_indices()
    crow, ccol = (torch.from_numpy(i.astype(np.int32)).to(device) for i in (A.indptr, A.indices))
    return Pattern.from_csr(crow, ccol, A.shape), torch.from_numpy(A.data.copy()).to(device)


def odd_cell(n: int, size: float) -> sp.csr_array:
    """Return the Laplacian on ``n x n`` points plus ``size (u1 - u2 + u3 - u4)^2`` on the corners of one cell."""
    line = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n))
    eye = sp.eye_array(n)
    corner = n * (n // 2) + n // 2
    b = np.zeros(n * n)
    b[[corner, corner + 1, corner + n + 1, corner + n]] = 1.0, -1.0, 1.0, -1.0
    b = sp.csr_array(b[:, None])
    return sp.csr_array(sp.kron(line, eye) + sp.kron(eye, line) + size * (b @ b.T))


def largest_eigenvalue(A: sp.csr_array) -> float:
    """Return the largest eigenvalue of ``D⁻¹ A`` of a definite matrix."""
    half = sp.diags_array(A.diagonal() ** -0.5)
    v0 = np.random.default_rng(0).normal(size=A.shape[0])
    return float(eigsh(half @ A @ half, k=1, v0=v0, return_eigenvectors=False, tol=1e-6)[0])
