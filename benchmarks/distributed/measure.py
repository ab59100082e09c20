"""One run: a seven-point Laplacian on a cube, its rows made where they belong, solved by CG with multigrid in parts.

    torchrun --standalone --nproc_per_node=2 benchmarks/distributed/measure.py 48
    torchrun --nproc_per_node=8 benchmarks/distributed/measure.py 512 --device cuda      # NCCL

No process ever has the whole matrix. Prints one line of JSON: iterations, seconds, what all processes together
sent in one iteration (counted by the communicator), what the halos need, and the most memory that a process took.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import resource
import time

import torch

from torch_sla.linalg import DSparseTensor
from torch_sla.linalg.distributed.communicator import InProcess
from torch_sla.linalg.distributed.launch import launched
from torch_sla.linalg.distributed.precond.lattice import LatticeHierarchy
from torch_sla.linalg.distributed.precond.multigrid import Hierarchy, PartMultigrid
from torch_sla.linalg.distributed.processes import Processes


def grid(parts: int) -> tuple[int, int, int]:
    """Most cubic way to write a number as a product of three."""
    best = (parts, 1, 1)
    for a in range(1, parts + 1):
        for b in range(1, parts // a + 1):
            if parts % (a * b) == 0:
                found = tuple(sorted((a, b, parts // (a * b)), reverse=True))
                best = min(best, found, key=lambda t: sum(t))
    return best


def block(n: int, parts: int, part: int, device: torch.device) -> tuple[torch.Tensor, ...]:
    """Values, rows and columns of the rows of one block of the cube, row by row, and their numbers."""
    p = grid(parts)
    at = (part // (p[1] * p[2]), part // p[2] % p[1], part % p[2])
    axes = [
        torch.arange(n * a // q, n * (a + 1) // q, device=device, dtype=torch.int32)
        for a, q in zip(at, p, strict=True)
    ]
    if n**3 >= 2**31:
        axes = [axis.long() for axis in axes]
    x, y, z = (t.flatten() for t in torch.meshgrid(*axes, indexing="ij"))
    own = (x * n + y) * n + z
    steps = (-n * n, -n, -1, 0, 1, n, n * n)
    inside = torch.ones(len(own), 7, dtype=torch.bool, device=device)
    for k, along in enumerate((x, y, z)):
        inside[:, k], inside[:, 6 - k] = along > 0, along < n - 1
    del x, y, z
    count = inside.sum(1)
    slot = inside.flatten().nonzero().squeeze(1) % 7
    del inside
    rows = own.repeat_interleave(count)
    steps_of = own.new_tensor(steps)
    cols = steps_of[slot].add_(rows)
    weights = torch.full((7,), -1.0, dtype=torch.float64, device=device)
    weights[3] = 6.0
    return weights[slot], rows, cols, own


def peak(device: torch.device) -> int:
    """Most bytes this process has had."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def give_freed_memory_back() -> None:
    """Let the C library return what is freed at once: it would else be counted as taken."""
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        trim, mapped = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
        library.mallopt(mapped, 1 << 16)
        library.mallopt(trim, 1 << 16)


Built = Hierarchy | LatticeHierarchy


def hierarchy(D: DSparseTensor, options: PartMultigrid) -> Built:
    """Levels as a solve makes them; all call it together."""
    return options.build_parts(D.sharding, D.slot_values(), None)


def levels(D: DSparseTensor, built: Built) -> list[dict[str, int]]:
    """Sizes of every level over all processes, those that are gathered left out; all call it together.

    Unknowns, stored entries and halo entries of matrix and transfer; of a lattice those that a cycle brings around the
    boxes of a level and next to those of the coarse one.
    """
    names = ("n", "nnz", "halo", "p_nnz", "p_halo")
    found = []
    if isinstance(built, LatticeHierarchy):
        names = ("n", "around", "near")
    for level in built._levels:
        if isinstance(built, LatticeHierarchy):
            around, near = level.grid.around.halo.size, level.coarse.near.halo.size
            sizes = [level.grid.layout.n_held, around, near]
        else:
            A, P = level.smoother.A.sharding, level.P.sharding
            sizes = [A.rows.n_held, A.pattern.nnz_csr, A.halo.size, P.pattern.nnz_csr, P.halo.size]
        total = D.comm.reduce(torch.tensor(sizes, device=D.device)).tolist()
        found.append(dict(zip(names, total, strict=True)))
    return found


def needed(D: DSparseTensor, built: Built) -> int:
    """Bytes that the halos need in one iteration, over all processes.

    On a lattice a cycle brings a residual around the boxes of a level and a correction next to the coarse ones. Of
    aggregates it multiplies with the matrix of a level four times (once before, once for the residual, twice after) and
    crosses to the next level and back. Both in the precision of the levels; conjugate gradients multiply once more on
    the finest.
    """
    found = levels(D, built)
    if isinstance(built, LatticeHierarchy):
        sent = sum(level["around"] + level["near"] for level in found)
    else:
        sent = sum(4 * level["halo"] + 2 * level["p_halo"] for level in found)
    halo = D.comm.reduce(torch.tensor([D.sharding.halo.size], device=D.device))
    return sent * built.dtype.itemsize + 8 * int(halo)


def warm(device: torch.device) -> None:
    """Load what the libraries load on first use: that is no memory of the problem."""
    n = 18
    values, rows, cols, own = block(n, 1, 0, device)
    D = DSparseTensor.from_local(values, rows, cols, (n**3, n**3), [own], comm=InProcess(1))
    for method in ("lattice", "smoothed_aggregation"):
        b = torch.ones(n**3, dtype=torch.float64, device=device)
        D.solve(b, method="cg", preconditioner=PartMultigrid(method=method))


def run(n: int, parts: int | None, device: torch.device, method: str) -> dict[str, object]:
    """Make, solve, and count."""
    preconditioner = PartMultigrid(method=method)
    shared = torch.distributed.is_initialized()
    comm = Processes(parts=parts) if shared else InProcess(parts or 1)
    warm(device)
    before, start = peak(device), time.perf_counter()
    pieces = [block(n, comm.parts, part, device) for part in comm.held]
    own = [p[3] for p in pieces]
    columns = [[p[k] for p in pieces] for k in range(3)]
    values, rows, cols = (torch.cat(t) if len(t) > 1 else t[0] for t in columns)
    del pieces, columns
    D = DSparseTensor.from_local(values, rows, cols, (n**3, n**3), own, comm=comm).settled()
    del values, rows, cols
    made = time.perf_counter()
    held = D.layout.n_held
    b = D.vector(torch.ones(held, dtype=torch.float64, device=device))
    # Three iterations more send the same three times over: a third of the difference is one iteration.
    counts, infos, times = [], [], []
    D.solve(b, method="cg", preconditioner=preconditioner, rtol=0.5)  # looks at the matrix once
    for limit in (4, 7):
        # Processor time: a machine that does other things too changes it little.
        at, begun = comm.traffic.copy(), time.process_time()
        options = {
            "preconditioner": preconditioner,
            "rtol": 1e-30,
            "maxiter": limit,
            "throw": False,
        }
        _, info = D.solve(b, method="cg", info=True, **options)
        times.append(time.process_time() - begun)
        counts.append(comm.traffic.since(at))
        infos.append(info)
    steps = infos[1].iterations - infos[0].iterations
    begun = time.perf_counter()
    x, info = D.solve(b, method="cg", preconditioner=preconditioner, rtol=1e-8, info=True)
    end = time.perf_counter()
    del x
    each = {
        name: (getattr(counts[1], name) - getattr(counts[0], name)) / max(steps, 1)
        for name in ("messages", "bytes", "reductions", "reduced", "gathers", "gathered")
    }
    iteration = (times[1] - times[0]) / max(steps, 1)
    numbers = [float(peak(device) - before), end - begun, made - start, iteration]
    most = torch.tensor(numbers, dtype=torch.float64, device=device)
    memory, solve, setup, iteration = comm.reduce(most, "max").tolist()
    sent = torch.tensor([each["bytes"], each["messages"]], dtype=torch.float64, device=device)
    each["bytes"], each["messages"] = comm.reduce(sent).tolist()
    built = hierarchy(D, preconditioner)
    return {
        "n": n,
        "unknowns": n**3,
        "parts": comm.parts,
        "processes": comm.world,
        "device": str(device.type),
        "method": method,
        "iterations": info.iterations,
        "residual": info.residual,
        "make_s": round(setup, 4),
        "solve_s": round(solve, 4),
        "iteration_cpu_s": round(iteration, 5),
        "setup_cpu_s": round(times[0] - (infos[0].iterations + 1) * iteration, 4),
        "sent_per_iteration": each,
        "needed_bytes": needed(D, built),
        "levels": levels(D, built),
        "memory_per_process": int(memory),
        "memory_per_unknown": round(memory / (n**3 / comm.world), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("n", type=int, help="points along an edge of the cube")
    parser.add_argument("--parts", type=int, default=None, help="parts, one for each process")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--memory",
        action="store_true",
        help="count no memory that was freed; times are longer then",
    )
    parser.add_argument("--method", default="lattice", help="of PartMultigrid")
    given = parser.parse_args()
    if given.memory:
        give_freed_memory_back()
    with launched(given.device) as ranks:
        found = run(given.n, given.parts, ranks.device, given.method)
        if ranks.first:
            print(json.dumps({**found, "backend": ranks.backend}))


if __name__ == "__main__":
    main()
