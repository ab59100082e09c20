"""Quadrature rules on the reference cells.

Simplices use fully symmetric rules with positive weights and interior points where a small one is known,
and the conical product of Gauss-Jacobi rules beyond; the other cells use tensor products of Gauss rules.

References
----------
.. [1] A. H. Stroud, Approximate Calculation of Multiple Integrals, Prentice-Hall 1971: conical products
   (section 2.5), T2 5-1 (p. 314) and T3 2-1 (p. 307).
.. [2] G. Strang and G. Fix, An Analysis of the Finite Element Method, Prentice-Hall 1973, p. 184.
.. [3] N. J. Walkington, Quadrature on simplices of arbitrary dimension, Carnegie Mellon 2000: the
   14-point rule of degree 5 on the tetrahedron.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np
import torch

from torch_sla.assembly.reference.cell import reference_cell
from torch_sla.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["QuadratureRule", "quadrature"]


@dataclass(frozen=True, eq=False)
class QuadratureRule:
    """Points and weights on a reference cell.

    Parameters
    ----------
    points
        ``[nq, dim]`` float64.
    weights
        ``[nq]`` float64; they sum to the measure of the reference cell.
    degree
        Polynomials up to this total degree (per direction on quads and hexahedra) are integrated exactly.
    """

    points: torch.Tensor
    weights: torch.Tensor
    degree: int

    def __len__(self) -> int:
        return len(self.weights)


@lru_cache(maxsize=256)
def quadrature(cell: str, degree: int) -> QuadratureRule:
    """Choose a rule on a reference cell that is exact up to a degree.

    Parameters
    ----------
    cell
        Name of the reference cell.
    degree
        Total polynomial degree, per direction on quads and hexahedra; at least 0.

    Raises
    ------
    ArgumentError
        If the degree is negative or above 60.

    Examples
    --------
    >>> rule = quadrature("triangle", 2)
    >>> len(rule), round(float(rule.weights.sum()), 15)
    (3, 0.5)
    """
    if not 0 <= degree <= 60:
        raise ArgumentError(f"degree: got {degree}; a quadrature degree lies between 0 and 60")
    reference = reference_cell(cell)
    if reference.dim == 0:
        points, weights = np.zeros((1, 0)), np.ones(1)
    elif reference.is_simplex and reference.dim > 1:
        points, weights = _SIMPLEX[reference.dim](degree)
    else:
        points, weights = _tensor_gauss(reference.dim, degree)
    return QuadratureRule(torch.from_numpy(points.copy()), torch.from_numpy(weights.copy()), degree)


def _gauss(n: int) -> tuple[np.ndarray, np.ndarray]:
    x, w = np.polynomial.legendre.leggauss(n)
    return 0.5 * (x + 1.0), 0.5 * w


def _tensor_gauss(dim: int, degree: int) -> tuple[np.ndarray, np.ndarray]:
    x, w = _gauss(degree // 2 + 1)
    grids = np.meshgrid(*[x] * dim, indexing="ij")
    weights = np.meshgrid(*[w] * dim, indexing="ij")
    return np.stack([g.ravel() for g in grids], 1), np.prod([g.ravel() for g in weights], 0)


def _conical(dim: int, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Map the cube onto the simplex; the Jacobian's powers become Jacobi weights."""
    from scipy.special import roots_jacobi

    n = degree // 2 + 1
    rules = []
    for power in range(dim - 1, -1, -1):
        x, w = roots_jacobi(n, power, 0)
        rules.append((0.5 * (x + 1.0), w / 2.0 ** (power + 1)))
    grids = np.meshgrid(*[x for x, _ in rules], indexing="ij")
    weights = np.prod([g.ravel() for g in np.meshgrid(*[w for _, w in rules], indexing="ij")], 0)
    remaining = np.ones_like(grids[0])
    coordinates = []
    for grid in grids:
        coordinates.append((remaining * grid).ravel())
        remaining = remaining * (1.0 - grid)
    return np.stack(coordinates, 1), weights


def _symmetric(
    dim: int, orbits: Iterable[tuple[tuple[float, ...], float]]
) -> tuple[np.ndarray, np.ndarray]:
    """All distinct permutations of barycentric points; weights are fractions of the cell's measure."""
    points: list[tuple[float, ...]] = []
    weights: list[float] = []
    for barycentric, weight in orbits:
        orbit = sorted(set(permutations(barycentric)))
        points += [point[1:] for point in orbit]
        weights += [weight] * len(orbit)
    volume = reference_cell("triangle" if dim == 2 else "tetra").volume
    return np.array(points), np.array(weights) * volume


def _triangle(degree: int) -> tuple[np.ndarray, np.ndarray]:
    third = 1.0 / 3.0
    if degree <= 1:
        return _symmetric(2, [((third, third, third), 1.0)])
    if degree <= 2:
        return _symmetric(2, [((2 / 3, 1 / 6, 1 / 6), third)])
    if degree <= 4:
        s10 = np.sqrt(10.0)
        root = np.sqrt(38.0 - 44.0 * np.sqrt(0.4))
        orbits = []
        for sign in (1.0, -1.0):
            a = (8.0 - s10 + sign * root) / 18.0
            w = (620.0 + sign * np.sqrt(213125.0 - 53320.0 * s10)) / 3720.0
            orbits.append(((1.0 - 2.0 * a, a, a), w))
        return _symmetric(2, orbits)
    if degree <= 5:
        s15 = np.sqrt(15.0)
        orbits = [((third, third, third), 9.0 / 40.0)]
        for sign in (1.0, -1.0):
            a = (6.0 + sign * s15) / 21.0
            orbits.append(((1.0 - 2.0 * a, a, a), (155.0 + sign * s15) / 1200.0))
        return _symmetric(2, orbits)
    return _conical(2, degree)


def _tetra(degree: int) -> tuple[np.ndarray, np.ndarray]:
    if degree <= 1:
        return _symmetric(3, [((0.25, 0.25, 0.25, 0.25), 1.0)])
    if degree <= 2:
        a = (5.0 - np.sqrt(5.0)) / 20.0
        return _symmetric(3, [((1.0 - 3.0 * a, a, a, a), 0.25)])
    if degree <= 5:
        a, b, c = 0.31088591926330060980, 0.092735250310891226402, 0.045503704125649649492
        return _symmetric(
            3,
            [
                ((1.0 - 3.0 * a, a, a, a), 0.11268792571801585080),
                ((1.0 - 3.0 * b, b, b, b), 0.073493043116361949544),
                ((0.5 - c, 0.5 - c, c, c), 0.042546020777081466438),
            ],
        )
    return _conical(3, degree)


_SIMPLEX = {2: _triangle, 3: _tetra}
