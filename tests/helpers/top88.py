"""An oracle for topology optimisation: the 88-line code's algorithm, written again with NumPy and SciPy.

Andreassen, Clausen, Schevenels, Lazarov and Sigmund, Struct. Multidisc. Optim. 43 (2011), 1-16: square
bilinear elements of side one in plane stress, modified SIMP, sensitivity (1) or density (2) filter, optimality
criteria with a move limit of 0.2, until no density changes by more than 0.01. The half MBB beam.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import spsolve

Array = NDArray[np.float64]

PUBLISHED = {
    ((60, 20), 2.4, 1): 216.81,
    ((150, 50), 6.0, 1): 219.52,
    ((300, 100), 12.0, 1): 222.29,
    ((60, 20), 2.4, 2): 233.71,
    ((150, 50), 6.0, 2): 235.73,
    ((300, 100), 12.0, 2): 238.31,
}
"""Compliances in the paper (figure 3) by cells, filter radius and filter, for volume 0.5 and penalty 3."""


def element_stiffness(nu: float) -> Array:
    """Integrate over the unit square by 2 by 2 Gauss points; nodes anticlockwise from the lower left."""
    C = np.array([[1, nu, 0], [nu, 1, 0], [0, 0, (1 - nu) / 2]]) / (1 - nu**2)
    K = np.zeros((8, 8))
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    for xi in 0.5 + np.array([-0.5, 0.5]) / np.sqrt(3):
        for eta in 0.5 + np.array([-0.5, 0.5]) / np.sqrt(3):
            dx = np.where(corners[:, 0] == 1, 1, -1) * np.where(corners[:, 1] == 1, eta, 1 - eta)
            dy = np.where(corners[:, 1] == 1, 1, -1) * np.where(corners[:, 0] == 1, xi, 1 - xi)
            B = np.zeros((3, 8))
            B[0, 0::2], B[1, 1::2], B[2, 0::2], B[2, 1::2] = dx, dy, dy, dx
            K += B.T @ C @ B / 4
    return K


@dataclass
class HalfBeam:
    """The discrete model; cells are numbered along x first, from the bottom."""

    cells: tuple[int, int]
    radius: float
    filter: int = 2
    volume: float = 0.5
    penalty: float = 3.0
    void: float = 1e-9
    nu: float = 0.3

    def __post_init__(self) -> None:
        nx, ny = self.cells
        i, j = (a.ravel() for a in np.meshgrid(np.arange(nx), np.arange(ny)))
        first = j * (nx + 1) + i
        nodes = np.stack([first, first + 1, first + nx + 2, first + nx + 1], 1)
        self.dofs = np.stack([2 * nodes, 2 * nodes + 1], 2).reshape(-1, 8)
        self.n = 2 * (nx + 1) * (ny + 1)
        left = np.arange(ny + 1) * (nx + 1)
        fixed = np.append(2 * left, 2 * nx + 1)
        self.free = np.setdiff1d(np.arange(self.n), fixed)
        self.load = np.zeros(self.n)
        self.load[2 * left[-1] + 1] = -1.0
        self.stiffness = element_stiffness(self.nu)
        centres = np.stack([i, j], 1).astype(float)
        distance = np.linalg.norm(centres[:, None] - centres[None], axis=2)
        self.weights = sparse.csr_matrix(np.maximum(0.0, self.radius - distance))
        self.sums = np.asarray(self.weights.sum(1)).ravel()

    def compliance(self, physical: Array) -> tuple[float, Array]:
        """Return the compliance and its derivative by the physical densities."""
        E = self.void + physical**self.penalty * (1 - self.void)
        values = (E[:, None, None] * self.stiffness).ravel()
        row = np.repeat(self.dofs, 8, 1).ravel()
        col = np.tile(self.dofs, (1, 8)).ravel()
        K = sparse.csc_matrix((values, (row, col)), (self.n, self.n))
        u = np.zeros(self.n)
        u[self.free] = spsolve(K[self.free][:, self.free], self.load[self.free])
        local = u[self.dofs]
        energy = np.einsum("ci,ij,cj->c", local, self.stiffness, local)
        slope = -self.penalty * physical ** (self.penalty - 1) * (1 - self.void) * energy
        return float((E * energy).sum()), slope

    def spread(self, g: Array) -> Array:
        """Apply the transposed density filter."""
        return np.asarray(self.weights.T @ (g / self.sums))

    def optimise(self, steps: int = 2000) -> tuple[Array, list[float]]:
        """Iterate to the published end; return physical densities and the compliance of each iteration."""
        x = np.full(self.cells[0] * self.cells[1], self.volume)
        physical, history = x.copy(), []
        for _ in range(steps):
            value, slope = self.compliance(physical)
            history.append(value)
            share = np.ones_like(x)
            if self.filter == 1:
                slope = self.weights @ (x * slope) / self.sums / np.maximum(1e-3, x)
            else:
                slope, share = self.spread(slope), self.spread(share)
            low, high = 0.0, 1e9
            while (high - low) / (low + high) > 1e-3:
                middle = 0.5 * (low + high)
                new = np.clip(
                    x * np.sqrt(-slope / share / middle),
                    np.maximum(0, x - 0.2),
                    np.minimum(1, x + 0.2),
                )
                physical = new if self.filter == 1 else self.weights @ new / self.sums
                low, high = (
                    (middle, high) if physical.sum() > self.volume * x.size else (low, middle)
                )
            change = np.abs(new - x).max()
            x = new
            if change <= 0.01:
                break
        return physical, history
