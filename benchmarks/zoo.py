"""Matrices in two and three dimensions, definite, indefinite and unsymmetric, of a thousand to a million unknowns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
import torch
from harness import grid

import torch_sla.assembly as fem
from torch_sla import BoxMesh, Dirichlet, ElasticityProblem, Parameter
from torch_sla.linalg import SparseTensor, Structure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def wind(cells: tuple[int, ...], strength: float) -> sp.csr_array:
    """Upwinded transport along every axis."""
    A, total, before = grid(cells), int(np.prod(cells)), 1
    for n in cells:
        D = sp.eye_array(n) - sp.diags_array([np.ones(n - 1)], offsets=[-1])
        parts = (sp.eye_array(before), D, sp.eye_array(total // (before * n)))
        A = A + strength * sp.kron(sp.kron(parts[0], parts[1]), parts[2])
        before *= n
    return sp.csr_array(A)


def stokes(n: int) -> sp.csr_array:
    """Two velocities and a pressure on an n x n grid."""
    K = grid((n, n))
    step = sp.diags_array([-np.ones(n), np.ones(n - 1)], offsets=[0, 1])
    parts = [sp.kron(step, sp.eye_array(n)), sp.kron(sp.eye_array(n), step)]
    D = sp.csr_array(sp.hstack(parts))[: n * n - 1]
    return sp.csr_array(sp.block_array([[sp.block_diag([K, K]), D.T], [D, None]]))


def scattered(n: int) -> sp.csr_array:
    """Graph Laplacian of a Delaunay triangulation of random points, with conductances, grounded at the rim."""
    from scipy.spatial import Delaunay

    random = np.random.default_rng(31)
    corners = Delaunay(random.random((n, 2))).simplices
    i = np.concatenate([corners[:, [0, 1, 2]].ravel(), corners[:, [1, 2, 0]].ravel()])
    j = np.concatenate([corners[:, [1, 2, 0]].ravel(), corners[:, [0, 1, 2]].ravel()])
    W = sp.csr_array((np.ones(len(i)), (np.minimum(i, j), np.maximum(i, j))), shape=(n, n))
    W.data = np.exp(random.standard_normal(len(W.data)))
    W = W + W.T
    ground = np.zeros(n)
    ground[random.choice(n, max(4, int(n**0.5)), replace=False)] = 1.0
    return sp.csr_array(sp.diags_array(W.sum(axis=1) + ground) - W)


def shifted(cells: tuple[int, ...], shift: float) -> sp.csr_array:
    A = grid(cells)
    return sp.csr_array(A + shift * sp.eye_array(A.shape[0]))


def solid(n: int, spread: float) -> SparseTensor:
    """A cube of n^3 hexahedra on a rigid floor, with moduli between 1 and 1 / `spread`."""
    moduli = spread ** -np.random.default_rng(31).random(n**3)
    problem = ElasticityProblem(
        mesh=BoxMesh(cells=(n, n, n), cell="hexahedron"),
        model="solid",
        young_modulus=Parameter("E", on="cells"),
        poisson_ratio=0.3,
        boundary=[Dirichlet("bottom", 0.0)],
    )
    whole = problem.assemble(E=torch.from_numpy(moduli))
    free = whole.free.numpy()
    A = sp.csr_array(whole.matrix.to_scipy())[free][:, free]
    nodes = fem.box_mesh((n, n, n), cell="hexahedron").points[whole.free[::3]]
    plain = SparseTensor.from_scipy(A)
    known = Structure(hermitian=True, positive_definite=True, coordinates=nodes)
    return SparseTensor.from_pattern(plain.pattern, plain.csr_values, known)


def zoo() -> Iterator[tuple[str, int, Callable[[], sp.csr_array | SparseTensor]]]:
    """Names, unknowns, and how each matrix is made."""
    for n in (32, 100, 316, 1000):
        yield f"2d poisson {n}^2", n**2, lambda n=n: grid((n, n))
        yield f"2d convection {n}^2", n**2, lambda n=n: wind((n, n), 2.0)
        yield f"2d implicit step {n}^2", n**2, lambda n=n: shifted((n, n), 4.0)
    for n in (32, 100, 316):
        yield f"2d helmholtz {n}^2", n**2, lambda n=n: shifted((n, n), -0.05)
    for n in (20, 60, 180):
        yield f"2d stokes {n}^2", 3 * n**2 - 1, lambda n=n: stokes(n)
    for n in (1000, 30_000, 300_000, 1_000_000):
        yield f"2d scattered {n}", n, lambda n=n: scattered(n)
    for n in (10, 22, 46, 100):
        yield f"3d poisson {n}^3", n**3, lambda n=n: grid((n, n, n))
        yield f"3d convection {n}^3", n**3, lambda n=n: wind((n, n, n), 2.0)
        yield f"3d implicit step {n}^3", n**3, lambda n=n: shifted((n, n, n), 6.0)
    for n in (6, 14, 30):
        yield f"3d elasticity {n}^3", 3 * (n + 1) ** 2 * n, lambda n=n: solid(n, 2.0)
        yield f"3d elasticity, jumps {n}^3", 3 * (n + 1) ** 2 * n, lambda n=n: solid(n, 762.0)
    for n in (10, 22, 40):
        yield f"3d helmholtz {n}^3", n**3, lambda n=n: shifted((n, n, n), -0.3)
