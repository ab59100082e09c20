"""Memory of a problem on a mesh in a file, from reading to the solution.

    python benchmarks/distributed/meshes.py 40 tetrahedra.vtu                                      # writes it
    torchrun --standalone --nproc_per_node=4 benchmarks/distributed/meshes.py 40 tetrahedra.vtu

Diffusion by linear elements on Delaunay's tetrahedra of a jittered lattice. Prints the most memory that a process took
beyond what it had: while the mesh was read and cut, and until the solution was there; memory that was freed is not
counted. Then what processes sent each other until the mesh was cut, and what `model.reading` says of it. A `.vtu` and a
`.npz` are read by shares, what only meshio reads (`.mesh`) whole.
"""

from __future__ import annotations

import argparse
import gc
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import give_freed_memory_back
from model import reading
from reading import MARKS, memory
from scipy.spatial import Delaunay

import torch_sla as sla
from torch_sla.assembly.mesh import write_mesh
from torch_sla.assembly.mesh.build import make_mesh
from torch_sla.linalg.distributed.communicator import Communicator
from torch_sla.linalg.distributed.launch import launched


def write(n: int, path: Path) -> None:
    """Write a mesh of `n` points along an edge of the unit cube."""
    rng = np.random.default_rng(3)
    axes = np.meshgrid(*(np.linspace(0.0, 1.0, n),) * 3, indexing="ij")
    points = np.stack([a.ravel() for a in axes], 1)
    inner = np.all((points > 1e-9) & (points < 1 - 1e-9), axis=1)
    points[inner] += rng.uniform(-0.3, 0.3, (int(inner.sum()), 3)) / (n - 1)
    cells = Delaunay(points).simplices
    volume = np.abs(np.linalg.det(points[cells[:, 1:]] - points[cells[:, :1]]))
    cells = cells[volume > 1e-6 / (n - 1) ** 3]  # flat ones along the faces
    write_mesh(path, make_mesh(points, cells, "tetra", hanging_nodes="allow"))


def problem(path: Path) -> sla.PoissonProblem:
    """The problem on a mesh in a file."""
    return poisson(sla.MeshFile(str(path), hanging_nodes="allow"))


def poisson(mesh: sla.MeshFile | sla.MeshArrays) -> sla.PoissonProblem:
    """Unit diffusion, held at zero below."""
    return sla.PoissonProblem(
        mesh=mesh,
        diffusivity=1.0,
        source=1.0,
        boundary=[sla.Dirichlet("z < 1e-9", 0.0)],
        outputs=[sla.Integral("total", "u")],
    )


def warm() -> None:
    """Load what the libraries load on first use: that is no memory of the problem."""
    points = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]])
    cells = np.array([[0, 1, 2, 3], [1, 2, 3, 4]])
    sla.distribute(poisson(sla.MeshArrays(points=points, cells=cells, cell="tetra"))).solve()


def count_what_is_routed() -> list[int]:
    """Return a list that grows by the bytes that this process sends to others in any exchange of items."""
    sent, plain = [0], Communicator.route

    def route(self: Communicator, to: torch.Tensor, payloads: Any) -> Any:
        away = int((self.rank_of(to) != self.rank).sum())
        sent[0] += away * sum(p[:1].numel() * p.element_size() for p in payloads)
        return plain(self, to, payloads)

    Communicator.route = route
    return sent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("n", type=int, help="points along an edge of the cube")
    parser.add_argument("file", type=Path)
    asked = parser.parse_args()
    give_freed_memory_back()
    with launched("cpu") as ranks:
        if not asked.file.exists():
            write(asked.n, asked.file)
        warm()
        gc.collect()
        MARKS.write_text("5")  # the peak is that of now
        before = memory("VmRSS")
        routed = count_what_is_routed()
        shared = sla.distribute(problem(asked.file))
        n = shared.unknowns
        routed = routed[0]
        cut, kept = memory("VmHWM") - before, memory("VmRSS") - before
        MARKS.write_text("5")
        found = shared.solve()
        solved = memory("VmHWM") - before
        sizes = torch.tensor([cut, kept, solved, routed], dtype=torch.float64) / 1e6
        each = torch.stack(shared.comm.gather(sizes[None])).reshape(-1, 4).tolist()
        if ranks.first:
            print(
                f"{n} unknowns, {shared.comm.world} processes, total {float(found['total']):.12g}"
            )
            for rank, (cut, kept, solved, routed) in enumerate(each):
                print(
                    f"  {rank}: cut {cut:.0f} MB, kept {kept:.0f}, solved {solved:.0f}, sent {routed:.1f}",
                    flush=True,
                )
            cells = shared.division.counts["cells"]
            said = reading(cells, n, shared.comm.world).sent / 1e6
            print(f"  the model says {said:.1f} MB sent by each")


if __name__ == "__main__":
    main()
