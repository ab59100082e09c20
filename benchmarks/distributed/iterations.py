"""Iterations of matrices in parts against those of one matrix; a table in markdown.

    python benchmarks/distributed/iterations.py [--scale 1.0] [--only poisson ...] [--parts 1 2 4 8 16]

All parts are in one process: what is counted does not depend on where they are. Conjugate gradients to 1e-10 with
`AMG()` for the whole and `"multigrid"` for parts, waves by `distribute(problem)`; random right-hand sides. Parts are
boxes where there is a lattice, else METIS cuts where pymetis is installed and coordinates are halved where not; rows
called "cells of points" are cut into the Voronoi cells of random points, worse than any partitioner would. The last
column is the most iterations over those of one matrix.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.spatial import cKDTree

import torch_sla as sla
from torch_sla import distribute
from torch_sla.linalg import AMG, SparseTensor

sys.path.insert(0, str(Path(__file__).parents[1]))
import iterations as systems

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def matrix(system: systems.System) -> SparseTensor:
    """A system of `benchmarks/iterations.py` as a tensor that knows what it is."""
    A, structure = system
    A.sort_indices()
    A = A.tocoo()
    row, col = (torch.from_numpy(np.asarray(i, np.int64)) for i in (A.row, A.col))
    made = SparseTensor(torch.from_numpy(A.data), row, col, A.shape)
    return made.declare(positive_definite=True, coordinates=structure.coordinates)


def jumping_triangles(dim: int, n: int) -> systems.System:
    """Delaunay cells with a conductivity of 10^±3 in each."""
    return systems.simplices(dim, n, decades=6.0)


def scattered(n: int, dim: int, parts: int) -> torch.Tensor:
    """Cells of random points, of a lattice."""
    axes = np.meshgrid(*(np.arange(n),) * dim, indexing="ij")
    points = np.stack([a.ravel() for a in axes], 1)
    seeds = np.random.default_rng(parts).uniform(0, n, (parts, dim))
    return torch.from_numpy(cKDTree(seeds).query(points)[1].astype(np.int64))


def anisotropic(dim: int, n: int) -> systems.System:
    """Conductivities 1 and 0.001 along the axes."""
    A = systems.lattice((n,) * dim, np.ones(n**dim), 1000**0.5)
    return A, systems.Structure(symmetric=True)


def wave(n: int) -> Any:
    """Five wavelengths along an edge, which leave through all sides."""
    k = 10 * np.pi
    return sla.HelmholtzProblem(
        mesh=sla.RectangleMesh(cells=(n, n)),
        wavenumber=k,
        source="exp(-40*((x - 0.5)**2 + (y - 0.4)**2))",
        boundary=[sla.Robin(["left", "right", "bottom", "top"], f"-1j*{k!r}", 0.0)],
    )


def count_wave(n: int, parts: list[int]) -> tuple[int, int, list[int]]:
    problem = wave(n)
    whole = problem.solve()
    found = [distribute(problem, parts=p).solve().info.iterations for p in parts]
    return len(whole.u), max(whole.info.iterations, 1), found


def count(
    system: systems.System, cut: Callable[[int], torch.Tensor] | None, parts: list[int]
) -> tuple[int, int, list[int]]:
    A = matrix(system)
    n = A.shape[-1]
    b = torch.from_numpy(np.random.default_rng(31).standard_normal(n))
    options: dict[str, Any] = {"method": "cg", "rtol": 1e-10, "info": True}
    _, whole = A.solve(b, backend="pytorch", preconditioner=AMG(), **options)
    found = []
    for p in parts:
        D = A.partition(p, **({} if cut is None else {"partition_ids": cut(p)}))
        _, info = D.solve(b, preconditioner="multigrid", **options)
        found.append(info.iterations)
    return n, whole.iterations, found


ROWS: dict[str, tuple[str, Callable[..., systems.System], int, int, bool]] = {
    "poisson": ("Poisson", systems.poisson, 2, 160, False),
    "poisson_cut": ("Poisson, cells of points", systems.poisson, 2, 160, True),
    "poisson3": ("Poisson", systems.poisson, 3, 28, False),
    "jumps": ("1e6 between blocks", systems.jumps, 2, 160, False),
    "jumps3": ("1e6 between blocks", systems.jumps, 3, 28, False),
    "jumps_cut": ("1e6 between blocks, cells of points", systems.jumps, 2, 160, True),
    "cells": ("1e6 from cell to cell", systems.cells_jump, 2, 160, False),
    "cells_cut": ("1e6 from cell to cell, cells of points", systems.cells_jump, 2, 160, True),
    "cells3": ("1e6 from cell to cell", systems.cells_jump, 3, 28, False),
    "thousand": ("1:1000", anisotropic, 2, 120, False),
    "thousand_cut": ("1:1000, cells of points", anisotropic, 2, 120, True),
    "thousand3": ("1:1000", anisotropic, 3, 28, False),
    "triangles": ("Delaunay triangles", systems.simplices, 2, 120, False),
    "triangles_jump": (
        "Delaunay triangles, 1e6 from cell to cell",
        jumping_triangles,
        2,
        100,
        False,
    ),
    "tetrahedra": ("Delaunay tetrahedra, with slivers", systems.simplices, 3, 24, False),
    "elasticity": ("elasticity, squares", systems.elasticity, 2, 48, False),
    "elasticity3": ("elasticity, cubes", systems.elasticity, 3, 12, False),
}


def lines(only: list[str], scale: float, parts: list[int]) -> Iterator[str]:
    for name in only:
        if name == "waves":
            n, serial, found = count_wave(round(64 * scale), parts)
            title = "Helmholtz, five wavelengths, plane"
        else:
            title, make, dim, size, torn = ROWS[name]
            size = round(size * scale)

            def cut(p: int, size: int = size, dim: int = dim) -> torch.Tensor:
                return scattered(size, dim, p)

            n, serial, found = count(make(dim, size), cut if torn else None, parts)
            title += ", plane" if dim == 2 else ", space"
        counts = " | ".join(map(str, found))
        yield f"| {title} | {n:,} | {serial} | {counts} | {max(found) / serial:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    names = [*ROWS, "waves"]
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--scale", type=float, default=1.0, help="of the points along an edge")
    parser.add_argument("--parts", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    asked = parser.parse_args()
    columns = [f"{p} parts" for p in asked.parts]
    print(f"| problem | unknowns | one matrix | {' | '.join(columns)} | most / one |")
    print("|" + " --- |" * (4 + len(columns)))
    for line in lines(asked.only, asked.scale, asked.parts):
        print(line, flush=True)


if __name__ == "__main__":
    main()
