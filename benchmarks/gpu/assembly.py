"""Numeric assembly on the device, against the same assembly on the CPU.

    python benchmarks/gpu/assembly.py [--quick] [--device cuda] [--profile]

Mesh, basis, pattern and maps are known; each round brings new coefficients. Values are compared with the
CPU's in float64. Gigabytes per second count what any assembly must move: coefficients, geometric factors,
the scatter map, element matrices once each way, values. With ``--profile`` the kernels are listed.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

import torch_sla.assembly as fem
from torch_sla.assembly import weak

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

SIZES = {"triangle": 1400, "tetra": 70, "quad": 1400, "hexahedron": 90}


@dataclass
class Work:
    """One assembly on one device."""

    dofs: fem.Dofs
    basis: fem.CellBasis
    k: Tensor
    vector: bool

    def __call__(self, k: Tensor) -> Tensor:
        if self.vector:
            return self.dofs.assemble_matrix(weak.elasticity(self.basis, lam=k, mu=k))
        return self.dofs.assemble_matrix(weak.diffusion(self.basis, kappa=k))


def work_on(device: str, mesh: fem.Mesh, k: Tensor, vector: bool) -> Work:
    mesh = mesh.to(device)
    components = mesh.dim if vector else 1
    dofs = fem.Dofs(mesh, fem.lagrange(mesh.reference.name), components)
    basis = fem.CellBasis(mesh, dofs.element, components=components)
    return Work(dofs, basis, k.to(device), vector)


def seconds(function: Callable[[], object], device: str, rounds: int) -> float:
    """Best of some rounds, with the device idle before and after each."""
    found = float("inf")
    for _ in range(rounds):
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        function()
        if device == "cuda":
            torch.cuda.synchronize()
        found = min(found, time.perf_counter() - start)
    return found


def moved(work: Work) -> float:
    """Bytes that an assembly must move at least, element matrices written and read once."""
    entries = work.dofs.mesh.n_cells * work.dofs.n_local**2
    geometry = work.basis.geometry
    factors = geometry.inverse.numel() + geometry.measure.numel() + work.k.numel()
    return 8.0 * (factors + 2 * entries + work.dofs.pattern.nnz_csr) + 4.0 * entries


def measure(
    cell: str,
    device: str,
    scale: float,
    rounds: int,
    *,
    vector: bool = False,
    listing: bool = False,
) -> dict[str, Any]:
    """Time one assembly and its backward, and compare the values with the CPU's."""
    n = max(3, round(SIZES[cell] * scale * (0.5 if vector else 1.0)))
    flat = cell in ("triangle", "quad")
    mesh = fem.rectangle_mesh((n, n), cell=cell) if flat else fem.box_mesh((n, n, n), cell=cell)
    k = torch.rand(mesh.n_cells, 1, dtype=torch.float64) + 0.5
    ours, host = work_on(device, mesh, k, vector), work_on("cpu", mesh, k, vector)
    error = (ours(ours.k).cpu() - host(host.k)).abs().max() / host(host.k).abs().max()
    forward = seconds(lambda: ours(ours.k), device, rounds)
    leaf = ours.k.clone().requires_grad_()
    values = ours(leaf)
    weights = torch.rand_like(values)
    backward = seconds(
        lambda: torch.autograd.grad(values, leaf, weights, retain_graph=True),
        device,
        rounds,
    )
    on_host = seconds(lambda: host(host.k), "cpu", 2)
    if listing and device == "cuda":
        profile(lambda: ours(ours.k))
    return {
        "work": f"{'elasticity' if vector else 'Laplacian'}, {cell}, {mesh.n_cells} cells",
        "seconds": forward,
        "cells_per_second": mesh.n_cells / forward,
        "bytes_per_second": moved(ours) / forward,
        "backward": backward / forward,
        "host": on_host / forward,
        "error": float(error),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown of measured rows."""
    lines = [
        "| work | forward | rate | traffic | backward/forward | CPU/device | error |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in rows:
        lines.append(
            f"| {r['work']} | {1e3 * r['seconds']:.3g} ms | {r['cells_per_second'] / 1e6:.3g} M cells/s | "
            f"{r['bytes_per_second'] / 1e9:.3g} GB/s | {r['backward']:.2f} | {r['host']:.1f}x | {r['error']:.1e} |"
        )
    return "\n".join(lines)


def run(quick: bool, device: str = "cuda", listing: bool = False) -> dict[str, Any]:
    """Measure every kind of cell; the face that `benchmarks/gpu/run.py` calls."""
    scale, rounds = (0.3, 3) if quick else (1.0, 10)
    rows = [measure(cell, device, scale, rounds, listing=listing) for cell in SIZES]
    rows += [
        measure(cell, device, scale, rounds, vector=True, listing=listing)
        for cell in ("tetra", "hexahedron")
    ]
    return {"rows": rows, "markdown": f"## Numeric assembly on a known pattern\n\n{table(rows)}"}


def profile(function: Callable[[], object]) -> None:
    from torch.profiler import ProfilerActivity, profile as record

    with record(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        function()
        torch.cuda.synchronize()
    print(found.key_averages().table(sort_by="self_cuda_time_total", row_limit=12))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small meshes, few rounds")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--profile", action="store_true", help="list the kernels of each row")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no CUDA device is visible; --device cpu runs the same on the CPU")
    name = torch.cuda.get_device_name() if arguments.device == "cuda" else "CPU"
    print(f"# {name}, torch {torch.__version__}\n")
    print(run(arguments.quick, arguments.device, arguments.profile)["markdown"])


if __name__ == "__main__":
    main()
