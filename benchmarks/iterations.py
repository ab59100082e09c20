"""Iterations to 1e-8 around multigrid, and how they grow with the size of the system; a table in markdown.

    python benchmarks/iterations.py [--largest 4000000] [--only poisson jumps ...]

Counts of one solve each, from zero, with random right-hand sides: no idle machine is needed, only memory (about
2 GB at four million unknowns). Conjugate gradients, GMRES where it says so; `AMG()` as it is, without a setting for
any of the rows, except that Poisson problems and stretched grids are solved with aggregates, too. The bound of a row
is 15 for Poisson problems and 30 for the others. The unstructured meshes are Delaunay's of jittered lattices; in
space that leaves slivers, which a mesh generator would remove.
"""

from __future__ import annotations

import argparse
import itertools
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
import torch
from linear_solve import diffusion, stencil
from scipy.spatial import Delaunay

from torch_sla.errors import Result
from torch_sla.linalg.methods.outcome import KrylovOptions
from torch_sla.linalg.precond.multigrid import AMG, Hierarchy
from torch_sla.linalg.sparse.pattern import Pattern
from torch_sla.linalg.sparse.structure import Structure

if TYPE_CHECKING:
    from collections.abc import Iterator

PLANE = (100, 316, 1000, 2000)
SPACE = (30, 64, 100, 126)
LIMIT = KrylovOptions(rtol=1e-8, maxiter=200)
System = tuple[sp.csr_array, Structure]


def lattice(shape: tuple[int, ...], k: np.ndarray, stretch: float = 1.0) -> sp.csr_array:
    """Five- or seven-point diffusion; the last axis has cells `stretch` times as long as the others."""
    crow, ccol = stencil(shape)
    values = diffusion(crow, ccol, k, 2 * len(shape))
    if stretch != 1.0:
        row = np.repeat(np.arange(len(crow) - 1, dtype=np.int32), np.diff(crow))
        along, own = np.abs(row - ccol) == 1, row == ccol
        values[along] /= stretch**2
        values[own] = 0.0
        whole = 2.0 * (len(shape) - 1) + 2.0 / stretch**2
        values[own] = whole
    return sp.csr_array((values, ccol, crow), shape=(len(crow) - 1,) * 2)


def poisson(dim: int, n: int) -> System:
    return lattice((n,) * dim, np.ones(n**dim)), Structure(symmetric=True)


def jumps(dim: int, n: int) -> System:
    """Blocks of eight cells with a diffusivity of 1 or 1e6, as a coin says."""
    coins = np.random.default_rng(7).random((n // 8 + 1,) * dim) < 0.5
    grid = np.where(coins, 1.0, 1e6)
    for axis in range(dim):
        grid = np.repeat(grid, 8, axis=axis)
    return lattice((n,) * dim, grid[(slice(0, n),) * dim].ravel()), Structure(symmetric=True)


def cells_jump(dim: int, n: int) -> System:
    """A coin for every cell."""
    k = np.where(np.random.default_rng(8).random(n**dim) < 0.5, 1.0, 1e6)
    return lattice((n,) * dim, k), Structure(symmetric=True)


def stretched(dim: int, n: int) -> System:
    return lattice((n,) * dim, np.ones(n**dim), 100.0), Structure(symmetric=True)


def simplices(dim: int, n: int, decades: float = 0.0) -> System:
    """Linear elements on a Delaunay mesh of jittered points, the boundary left out; conductivities may jump."""
    rng = np.random.default_rng(3)
    axes = np.meshgrid(*(np.linspace(0.0, 1.0, n),) * dim, indexing="ij")
    points = np.stack([a.ravel() for a in axes], 1)
    inner = np.all((points > 1e-9) & (points < 1 - 1e-9), axis=1)
    points[inner] += rng.uniform(-0.3, 0.3, (int(inner.sum()), dim)) / (n - 1)
    cells = Delaunay(points).simplices
    edges = points[cells[:, 1:]] - points[cells[:, :1]]
    volume = np.abs(np.linalg.det(edges))
    sound = volume > 1e-6 / (n - 1) ** dim  # flat cells along the faces
    cells, edges, volume = cells[sound], edges[sound], volume[sound]
    volume = volume * 10 ** rng.uniform(-decades / 2, decades / 2, len(cells))
    gradient = np.empty((len(cells), dim + 1, dim))
    gradient[:, 1:] = np.linalg.inv(edges).transpose(0, 2, 1)
    gradient[:, 0] = -gradient[:, 1:].sum(1)
    local = np.einsum("cai,cbi,c->cab", gradient, gradient, volume)
    row = np.repeat(cells, dim + 1, axis=1).ravel()
    col = np.tile(cells, (1, dim + 1)).ravel()
    A = sp.csr_array(sp.coo_array((local.ravel(), (row, col)), (len(points),) * 2))
    A = A[inner][:, inner]
    return A, Structure(symmetric=True)


def elasticity(dim: int, n: int, decades: float = 0.0) -> System:
    """Multilinear elements of Poisson's ratio 0.4, one face held, rigid-body modes; moduli may jump."""
    nu = 0.4
    corners = np.array(list(itertools.product((0, 1), repeat=dim)))
    lame, shear, nb = nu / ((1 + nu) * (1 - 2 * nu)), 0.5 / (1 + nu), 2**dim
    K = np.zeros((nb, dim, nb, dim))
    for point in itertools.product((0.5 - 0.5 / np.sqrt(3), 0.5 + 0.5 / np.sqrt(3)), repeat=dim):
        factor = np.where(corners == 1, point, 1 - np.array(point))
        slope = np.where(corners == 1, 1.0, -1.0)
        grad = np.stack(
            [slope[:, d] * np.prod(np.delete(factor, d, axis=1), axis=1) for d in range(dim)], 1
        )
        K += lame * np.einsum("ai,bj->aibj", grad, grad) / nb
        K += shear * np.einsum("aj,bi->aibj", grad, grad) / nb
        K += shear * np.einsum("ak,bk,ij->aibj", grad, grad, np.eye(dim)) / nb
    nodes = np.arange((n + 1) ** dim).reshape((n + 1,) * dim)
    local = [nodes[tuple(slice(c, c + n) for c in corner)].ravel() for corner in corners]
    dofs = (np.stack(local, 1)[:, :, None] * dim + np.arange(dim)).reshape(n**dim, -1)
    row, col = np.repeat(dofs, nb * dim, axis=1).ravel(), np.tile(dofs, (1, nb * dim)).ravel()
    size = nodes.size * dim
    modulus = 10 ** np.random.default_rng(4).uniform(-decades / 2, decades / 2, n**dim)
    A = sp.csr_array(sp.coo_array((np.outer(modulus, K).ravel(), (row, col)), (size, size)))
    free = np.ones(size, dtype=bool)
    free[: (n + 1) ** (dim - 1) * dim] = False
    rows = np.repeat(np.arange(size), np.diff(A.indptr))
    A.data[(rows != A.indices) & ~(free[rows] & free[A.indices])] = 0.0
    where = np.stack(np.unravel_index(np.arange(nodes.size), nodes.shape), 1).astype(float)
    return A, Structure(symmetric=True, coordinates=torch.from_numpy(where))


def convection(dim: int, n: int) -> System:
    """Diffusion, and an upwinded flow oblique to the axes with a cell Peclet number of 100."""
    A = lattice((n,) * dim, np.ones(n**dim))
    ones = np.ones(n - 1)
    step = sp.diags_array([-ones, np.ones(n)], offsets=[-1, 0])
    for axis in range(dim):
        sides = [sp.eye_array(n)] * dim
        sides[axis] = step
        term = sides[0]
        for side in sides[1:]:
            term = sp.kron(term, side)
        A = A + (100.0, 60.0, 30.0)[axis] * term
    return sp.csr_array(A), Structure(symmetric=False)


ROWS = {
    "poisson": (poisson, ("auto", "smoothed_aggregation"), PLANE, SPACE),
    "jumps": (jumps, ("auto",), PLANE[:3], SPACE[:3]),
    "cells_jump": (cells_jump, ("auto",), PLANE[:3], SPACE[:3]),
    "stretched": (stretched, ("auto", "smoothed_aggregation"), PLANE[:3], SPACE[:3]),
    "simplices": (simplices, ("auto",), (100, 316, 1000), (30, 64, 80)),
    "elasticity": (elasticity, ("auto",), (70, 220, 700), (20, 40, 52)),
    "convection": (convection, ("auto",), PLANE[:3], SPACE[:3]),
}
NAMES = {
    "poisson": "Poisson",
    "jumps": "jumps of 1e6 between blocks",
    "cells_jump": "jumps of 1e6 in every cell",
    "stretched": "stretched 100:1",
    "simplices": "unstructured simplices",
    "elasticity": "elasticity, nu 0.4",
    "convection": "convection, cell Peclet 100, GMRES",
}


def count(system: System, method: str) -> tuple[int, str, Hierarchy]:
    """Iterations of one solve, with the residual computed here."""
    A, structure = system
    A.sort_indices()
    crow, ccol = (torch.from_numpy(x.astype(np.int32)) for x in (A.indptr, A.indices))
    pattern, values = Pattern.from_csr(crow, ccol, A.shape), torch.from_numpy(A.data)
    hierarchy = Hierarchy(pattern, values, AMG(method=method), structure=structure)
    b = np.random.default_rng(31).standard_normal((A.shape[0], 1))
    rhs = torch.from_numpy(b)
    if structure.symmetric:
        out = hierarchy.cg(values, rhs, options=LIMIT)
    else:
        out = hierarchy.krylov("gmres", (pattern, values), rhs, options=LIMIT)
    residual = np.linalg.norm(A @ out.x.numpy() - b) / np.linalg.norm(b)
    fine = out.result is Result.CONVERGED and residual <= 1.01e-8
    return out.iterations, "" if fine else f" [{out.result.name.lower()}]", hierarchy


def lines(largest: int, only: list[str]) -> Iterator[str]:
    for name in only:
        make, methods, *sides = ROWS[name]
        bound = 15 if name == "poisson" else 30
        for dim, several in zip((2, 3), sides, strict=True):
            found: dict[str, list[str]] = {m: [] for m in methods}
            kinds: dict[str, str] = {}
            worst = dict.fromkeys(methods, 0)
            for n in several:
                if n**dim > largest:
                    continue
                system = make(dim, n)
                for m in methods:
                    iterations, fault, hierarchy = count(system, m)
                    worst[m] = max(worst[m], iterations if not fault else LIMIT.maxiter or 0)
                    kinds[m] = hierarchy.method
                    found[m].append(f"{len(system[0].indptr) - 1:,}: {iterations}{fault}")
            for m in methods:
                verdict = "met" if worst[m] <= bound else "missed"
                cells = " · ".join(found[m])
                yield f"| {NAMES[name]}, {dim}D | {kinds[m]} | {cells} | {bound} {verdict} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--largest", type=int, default=4_000_000)
    parser.add_argument("--only", nargs="+", choices=list(ROWS), default=list(ROWS))
    asked = parser.parse_args()
    print("| problem | hierarchy | unknowns: iterations | bound |\n| --- | --- | --- | --- |")
    for line in lines(asked.largest, asked.only):
        print(line, flush=True)


if __name__ == "__main__":
    main()
