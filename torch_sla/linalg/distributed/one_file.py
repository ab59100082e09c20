"""A matrix in one file, of which every process reads its share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from torch_sla.errors import ArgumentError
from torch_sla.linalg.distributed.everywhere import agreed
from torch_sla.linalg.distributed.recut import along_graph, recut
from torch_sla.linalg.distributed.tensor import DSparseTensor
from torch_sla.linalg.sparse.slices import Slice, matrix_slice

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from torch_sla.linalg.distributed.communicator import Communicator
    from torch_sla.linalg.distributed.layout import Layout

__all__ = ["load_rows"]

# Share of the entries that join different runs from which on rows are cut along their graph: aggregates stay within a
# part, and have too few neighbours there. Meshes numbered plane by plane reach it with a run for every three planes.
_TORN = 0.25


def load_rows(
    path: Path,
    comm: Communicator,
    device: torch.device | str = "cpu",
    like: Layout | None = None,
    method: str = "auto",
) -> DSparseTensor:
    """Read a share of one file, and own rows for each part; all processes call it together.

    Parameters
    ----------
    method
        ``"simple"``: a part is a run of rows; ``"graph"``: rows are cut along the graph of the entries; ``"auto"``: as
        runs, but where these tear too many neighbours apart.
    like
        Own the rows that are owned there instead.

    Raises
    ------
    ArgumentError
        On every process, when a share of the file cannot be read or they do not make the whole.
    """
    if method not in ("auto", "graph", "simple", "contiguous"):
        raise ArgumentError(
            f"`partition_method` of a matrix that is read by shares must be auto, graph or simple, got {method!r}"
        )
    first, last = comm.held.start, comm.held.stop

    def read() -> Slice:
        found = matrix_slice(path, first, last, comm.parts)
        n, m = found.shape
        if n != m:
            raise ArgumentError(f"`path`: a matrix in parts is square, {str(path)!r} is {n} x {m}")
        if like is not None and like.n != n:
            raise ArgumentError(f"{str(path)!r} has {n} rows where the other matrix has {like.n}")
        return found

    found = agreed(comm, device, read)
    n, edge = found.shape[0], found.edge
    read_, said = found.nnz
    total = int(comm.reduce(torch.tensor([read_], device=device)))
    if total != said:
        raise ArgumentError(f"{str(path)!r} announces {said} entries and holds {total}")
    near = None if found.near_nullspace is None else found.near_nullspace.to(device)
    values, row, col = (t.to(device) for t in (found.values, found.row, found.col))
    shape = found.shape
    del found
    torn = False
    if like is None:
        ends = [n // edge * p // comm.parts * edge for p in range(comm.parts + 1)]
        owned = [torch.arange(*ends[p : p + 2], device=device) for p in comm.held]
        if method in ("auto", "graph") and n > comm.parts > 1:
            torn = method == "graph" or _torn(comm, row, col, ends) > _TORN
    else:
        owned, near = [like.names[like.part_slice(p)] for p in comm.held], None
    made = DSparseTensor.from_local(values, row, col, shape, owned, comm=comm, near_nullspace=near)
    made = made.settled()  # nobody has the entries as they stand in the file
    del values, row, col
    return recut(made, along_graph(made.sharding, edge)) if torn else made


def _torn(comm: Communicator, row: Tensor, col: Tensor, ends: list[int]) -> float:
    """Return the share of the entries off the diagonal that join different runs."""
    borders = torch.tensor(ends[1:], dtype=row.dtype, device=row.device)
    run = [
        torch.searchsorted(borders, t.contiguous(), right=True, out_int32=True) for t in (row, col)
    ]
    counts = torch.stack([(run[0] != run[1]).sum(), (row != col).sum()])
    torn, all_ = comm.reduce(counts).tolist()
    return float(torn / max(all_, 1))
