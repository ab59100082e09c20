"""Numeric assembly on a known pattern against scikit-fem's assembly, in one process.

    python benchmarks/assembly.py [--scale 1.0] [--threads 1] [--rounds 5]

Both sides know mesh and basis beforehand and see new coefficients in every round; ours also knows the
pattern, which the peer's triplets-to-CSR conversion finds anew. The backward row is the gradient of all
matrix values with respect to one coefficient per cell, against our own forward pass.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import numpy as np
import skfem
import torch
from harness import Table, best
from skfem.models.elasticity import linear_elasticity
from skfem.models.poisson import laplace

import torch_sla.assembly as fem
from torch_sla.assembly import weak

if TYPE_CHECKING:
    from collections.abc import Callable

PEERS = {
    "triangle": (skfem.MeshTri, skfem.ElementTriP1),
    "tetra": (skfem.MeshTet, skfem.ElementTetP1),
    "quad": (skfem.MeshQuad, skfem.ElementQuad1),
    "hexahedron": (skfem.MeshHex, skfem.ElementHex1),
}


def scaled(n: int, scale: float) -> int:
    return max(2, round(n * scale))


def mesh_of(cell: str, scale: float) -> fem.Mesh:
    if cell in ("triangle", "quad"):
        n = scaled(500, scale)
        return fem.rectangle_mesh((n, n), cell=cell)
    n = scaled(40 if cell == "tetra" else 50, scale)
    return fem.box_mesh((n, n, n), cell=cell)


def peer_basis(mesh: fem.Mesh, vector: bool) -> skfem.Basis:
    cells = mesh.cells.numpy().T
    if mesh.cell == "hexahedron":
        cells = cells[[0, 1, 3, 4, 2, 5, 7, 6]]
    kind, element = PEERS[mesh.cell]
    peer = kind(np.ascontiguousarray(mesh.points.numpy().T), np.ascontiguousarray(cells))
    return skfem.Basis(peer, skfem.ElementVector(element()) if vector else element(), intorder=2)


def compare(table: Table, cell: str, scale: float, rounds: int, vector: bool = False) -> None:
    mesh = mesh_of(cell, 0.5 * scale if vector else scale)
    components = mesh.dim if vector else 1
    dofs = fem.Dofs(mesh, fem.lagrange(cell), components)
    basis = fem.CellBasis(mesh, dofs.element, components=components)
    k = torch.rand(mesh.n_cells, 1, dtype=torch.float64) + 0.5

    def assemble(k: torch.Tensor) -> torch.Tensor:
        if vector:
            return fem.assemble(weak.elasticity, dofs, basis=basis, lam=k, mu=k)
        return fem.assemble(weak.diffusion, dofs, basis=basis, kappa=k)

    peer = peer_basis(mesh, vector)
    form = linear_elasticity(1.0, 1.0) if vector else laplace
    theirs: Callable[[], object] = lambda: form.assemble(peer)  # noqa: E731
    leaf = k.clone().requires_grad_()
    values = assemble(leaf)
    weights = torch.rand_like(values)
    mine, other, backward = best(
        lambda: assemble(k),
        theirs,
        lambda: torch.autograd.grad(values, leaf, weights, retain_graph=True),
        rounds=rounds,
    )
    what = f"{'elasticity' if vector else 'Laplacian'}, {cell}, {mesh.n_cells} cells"
    speed = f"{mesh.n_cells / mine / 1e6:.2f} M cells/s, peer {mesh.n_cells / other / 1e6:.3f}"
    table.add(what, mine, "scikit-fem", other, speed)
    table.add("  its backward", backward, "our forward", mine, f"{backward / mine:.2f} of forward")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--scale", type=float, default=1.0, help="divisions relative to the default"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    table = Table("Numeric assembly, pattern known, coefficient per cell")
    for cell in ("triangle", "tetra", "quad", "hexahedron"):
        compare(table, cell, arguments.scale, arguments.rounds)
    for cell in ("tetra", "hexahedron"):
        compare(table, cell, arguments.scale, arguments.rounds, vector=True)
    print(table)


if __name__ == "__main__":
    main()
