"""Matrices of parts that are singular by themselves: regions that nothing joins, bodies that float or turn."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from scipy.linalg import null_space

from tests.helpers.meshed import elastic
from torch_sla.linalg.precond.multigrid import rigid_body_modes

__all__ = ["PARTS", "bodies", "left", "plate", "regions"]

Singular = tuple[sp.csr_array, np.ndarray, np.ndarray, np.ndarray]

PARTS = {
    "one large, three small": [(60, 60, 1.0), (1, 3, 1.0), (4, 4, 1.0), (9, 9, 1.0)],
    "many small": [(60, 60, 1.0)] + [(3, 3, 1.0)] * 40,
    "none large": [(10, 10, 1.0)] * 60,
    "of other sizes": [(60, 60, 1.0)] + [(12, 12, 1e6), (5, 20, 1e-6)] * 5,
}


def plate(n: int, m: int) -> sp.csr_array:
    """Laplacian of a grid without boundary conditions."""
    slope_n, slope_m = (np.diff(np.eye(k), axis=0) for k in (n, m))
    along_n = sp.kron(slope_n.T @ slope_n, sp.eye_array(m))
    return sp.csr_array(along_n + sp.kron(sp.eye_array(n), slope_m.T @ slope_m))


def _shuffled(parts: list[sp.csr_array], nulls: list[np.ndarray], edge: int) -> Singular:
    """One matrix, its nodes in no order; a consistent right-hand side; nodes; the null space."""
    A, N = sp.csr_array(sp.block_diag(parts)), sp.block_diag(nulls).toarray()
    rng = np.random.default_rng(0)
    nodes = rng.permutation(A.shape[0] // edge)
    order = (nodes[:, None] * edge + np.arange(edge)).ravel()
    A = sp.csr_array(A[order][:, order])
    A.sort_indices()
    Q = np.linalg.qr(N[order])[0]
    b = rng.standard_normal(A.shape[0])
    for _ in range(2):
        b -= Q @ (Q.T @ b)
    return A, b, nodes, Q


def left(A: sp.csr_array, x: torch.Tensor, b: np.ndarray) -> float:
    return float(np.linalg.norm(A @ x.numpy().ravel() - b) / np.linalg.norm(b))


def regions(sizes: list[tuple[int, int, float]]) -> Singular:
    """Grids of ``n`` times ``m`` points and a scale each."""
    parts = [scale * plate(n, m) for n, m, scale in sizes]
    return _shuffled(parts, [np.ones((p.shape[0], 1)) for p in parts], 1)


def bodies(
    *, hinged: bool, large: tuple[int, int] = (24, 24), small: int = 12
) -> tuple[sp.csr_array, np.ndarray, torch.Tensor, np.ndarray]:
    """Plates in the plane, one large and many small; these are free, or turn around their first node.

    As `regions`, with the rigid-body modes of all in place of the nodes.
    """
    parts, nulls, points = [], [], []
    for shape in [large] + [(3, 3)] * small + [(6, 6)] * small:
        A, where = elastic(shape, clamp=False)
        modes = rigid_body_modes(where - where[0]).numpy()
        if hinged and len(where) < 100:
            A = sp.csr_array(A + sp.diags_array(np.r_[1.0, 1.0, np.zeros(A.shape[0] - 2)]))
            modes = modes @ null_space(modes[:2])
        parts.append(A)
        nulls.append(modes)
        points.append(where)
    A, b, nodes, Q = _shuffled(parts, nulls, 2)
    assert np.abs(A @ Q).max() < 1e-12
    return A, b, rigid_body_modes(torch.cat(points)[torch.from_numpy(nodes)]), Q
