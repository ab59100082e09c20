"""Matrices on lattices, as patterns and values."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from tests.helpers.grids import diffusion

__all__ = ["box_stencil", "checkerboard", "laplacian", "neumann"]


def laplacian(
    *shape: int, weights: tuple[float, ...] | None = None, free: bool = False
) -> sp.csr_array:
    """Dirichlet Laplacian, or with free edges the singular Neumann one; the last edge is the fastest."""
    weights = weights or (1.0,) * len(shape)
    total = sp.csr_array((int(np.prod(shape)),) * 2)
    for axis, weight in enumerate(weights):
        factor = sp.csr_array(np.ones((1, 1)))
        for other, n in enumerate(shape):
            one, two = np.ones(n - 1), np.full(n, 2.0)
            if free:
                two[[0, -1]] = 1.0
            second = sp.diags_array([-one, two, -one], offsets=[-1, 0, 1])
            factor = sp.kron(factor, second if other == axis else sp.eye_array(n))
        total = total + weight * factor
    total = sp.csr_array(total)
    total.sort_indices()
    return total


def neumann(*shape: int) -> sp.csr_array:
    """Laplacian with free edges: constants are its null space."""
    return laplacian(*shape, free=True)


def box_stencil(
    *shape: int, edges: tuple[float, ...] | None = None, stiffness: float = 1.0, mass: float = 0.0
) -> sp.csr_array:
    """Q1 finite elements on cells of some edges: 9 or 27 neighbours, clamped edges."""
    factors_k, factors_m = [], []
    for n, h in zip(shape, edges or (1.0,) * len(shape), strict=True):
        one, two = np.ones(n - 1), np.full(n, 2.0)
        factors_k.append(sp.diags_array([-one / h, two / h, -one / h], offsets=[-1, 0, 1]))
        factors_m.append(
            sp.diags_array([one * h / 6, two * h / 3, one * h / 6], offsets=[-1, 0, 1])
        )
    total = sp.csr_array((int(np.prod(shape)),) * 2)
    for axis in range(-1, len(shape)):
        factor = sp.csr_array(np.ones((1, 1)))
        for other in range(len(shape)):
            factor = sp.kron(factor, factors_k[other] if other == axis else factors_m[other])
        total = total + (mass if axis < 0 else stiffness) * factor
    total = sp.csr_array(total)
    total.sort_indices()
    return total


def checkerboard(n: int, jump: float, cell: int) -> sp.csr_array:
    """Cell-centred diffusion with harmonic means; values given on the left edge."""
    y, x = np.mgrid[:n, :n] // cell
    k = np.where((x + y) % 2, jump, 1.0)
    return diffusion(k)
