"""A matrix in one file, of which every process reads its share."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from torch_sla.errors import ArgumentError
from torch_sla.linalg.distributed.everywhere import everywhere
from torch_sla.linalg.distributed.tensor import DSparseTensor
from torch_sla.linalg.sparse.slices import Slice, matrix_slice

if TYPE_CHECKING:
    from pathlib import Path

    from torch_sla.linalg.distributed.communicator import Communicator
    from torch_sla.linalg.distributed.layout import Layout

__all__ = ["load_rows"]


def load_rows(
    path: Path,
    comm: Communicator,
    device: torch.device | str = "cpu",
    like: Layout | None = None,
) -> DSparseTensor:
    """Read a share of one file, and own a run of rows for each part; all processes call it together.

    Parameters
    ----------
    like
        Own the rows that are owned there instead.

    Raises
    ------
    ArgumentError
        On every process, when a share of the file cannot be read or they do not make the whole.
    """
    first, last = comm.held.start, comm.held.stop

    def read() -> tuple[Slice, tuple[()]]:
        found = matrix_slice(path, first, last, comm.parts)
        n, m = found.shape
        if n != m:
            raise ArgumentError(f"`path`: a matrix in parts is square, {str(path)!r} is {n} x {m}")
        if like is not None and like.n != n:
            raise ArgumentError(f"{str(path)!r} has {n} rows where the other matrix has {like.n}")
        return found, ()

    found, _ = everywhere(comm, device, read)
    n, edge = found.shape[0], found.edge
    read_, said = found.nnz
    total = int(comm.reduce(torch.tensor([read_], device=device)))
    if total != said:
        raise ArgumentError(f"{str(path)!r} announces {said} entries and holds {total}")
    near = None if found.near_nullspace is None else found.near_nullspace.to(device)
    if like is None:
        ends = [n // edge * p // comm.parts * edge for p in range(first, last + 1)]
        owned = [torch.arange(a, b, device=device) for a, b in pairwise(ends)]
    else:
        owned, near = [like.names[like.part_slice(p)] for p in comm.held], None
    values, row, col = (t.to(device) for t in (found.values, found.row, found.col))
    shape = found.shape
    del found
    made = DSparseTensor.from_local(values, row, col, shape, owned, comm=comm, near_nullspace=near)
    return made.settled()  # nobody has the entries as they stand in the file
