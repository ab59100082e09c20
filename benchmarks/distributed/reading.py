"""Memory of reading a matrix from one file, by shares and whole.

    python benchmarks/distributed/reading.py 64 cube.npz cube.mtx                                # writes them
    torchrun --standalone --nproc_per_node=4 benchmarks/distributed/reading.py 64 cube.npz cube.mtx

Prints, for every file, the most memory that a process took beyond what it had, while `load_dsparse` gave it its rows;
with one process also what `load_sparse` takes. Memory that was freed is not counted.
"""

from __future__ import annotations

import argparse
import gc
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from measure import block, give_freed_memory_back, warm

from torch_sla.linalg import SparseTensor, load_dsparse, load_sparse, save_sparse
from torch_sla.linalg.distributed.communicator import InProcess
from torch_sla.linalg.distributed.launch import launched
from torch_sla.linalg.distributed.processes import Processes

if TYPE_CHECKING:
    from collections.abc import Callable

STATUS, MARKS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def memory(name: str) -> int:
    """Bytes that the system counts for this process under a name."""
    line = next(t for t in STATUS.read_text().splitlines() if t.startswith(name))
    return 1024 * int(line.split()[1])


def taken(read: Callable[[], object]) -> int:
    """Most bytes beyond those at the beginning while a function works."""
    gc.collect()
    MARKS.write_text("5")  # the peak is that of now
    before = memory("VmRSS")
    made = read()
    most = memory("VmHWM") - before
    del made
    return most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("n", type=int, help="points along an edge of the cube")
    parser.add_argument("files", nargs="+", type=Path)
    asked = parser.parse_args()
    n = asked.n
    give_freed_memory_back()
    with launched("cpu") as ranks:
        shared = torch.distributed.is_initialized()
        comm = Processes() if shared else InProcess(1)
        for path in asked.files:
            if not path.exists() and not shared:
                values, rows, cols, _ = block(n, 1, 0, torch.device("cpu"))
                save_sparse(SparseTensor(values, rows, cols, (n**3, n**3)), path)
                del values, rows, cols
        warm(torch.device("cpu"))
        for path in asked.files:
            most = taken(lambda path=path: load_dsparse(path, comm=comm))
            each = float(comm.reduce(torch.tensor([float(most)]), "max"))
            whole = (
                ""
                if shared
                else f", whole {taken(lambda path=path: load_sparse(path)) / 1e6:.0f} MB"
            )
            if ranks.first:
                print(
                    f"{path.name}: {comm.world} processes, {each / 1e6:.0f} MB each{whole}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
