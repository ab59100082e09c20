"""Matrices in parts, in a folder: one archive for each part, and a manifest that names them with checksums.

Every process writes its own parts, under names that carry their checksum, and the manifest is put in place when
all of them are there: a folder holds the old matrix or the new one, never a mixture. Reading needs no process
to see more than its own rows, however many parts were written and are wanted.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.linalg.distributed.communicator import Communicator, InProcess
from torch_sla.linalg.distributed.everywhere import agreed
from torch_sla.linalg.distributed.folder import (
    DIGEST,
    read_manifest,
    read_part,
    write_manifest,
    write_part,
)
from torch_sla.linalg.distributed.launch import running
from torch_sla.linalg.distributed.one_file import load_rows
from torch_sla.linalg.distributed.part import DSparseMatrix
from torch_sla.linalg.distributed.tensor import DSparseTensor
from torch_sla.linalg.sparse.files import load_sparse
from torch_sla.linalg.sparse.tensor import SparseTensor

if TYPE_CHECKING:
    from os import PathLike

__all__ = [
    "load_distributed_as_sparse",
    "load_dsparse",
    "load_metadata",
    "load_partition",
    "load_sparse_as_partition",
    "save_distributed",
    "save_dsparse",
]


def save_dsparse(
    D: DSparseTensor,
    directory: str | PathLike[str],
    metadata: dict[str, Any] | None = None,
    verbose: bool = False,
) -> None:
    """Write a matrix in parts; where processes share it, all of them call this together.

    Parameters
    ----------
    directory
        A folder that every process can reach; an older matrix in it is replaced at once.
    metadata
        Anything JSON can hold, found again by `load_metadata`.
    verbose
        Accepted for compatibility; nothing is printed.

    Raises
    ------
    ArgumentError
        For bfloat16 values, which NumPy archives cannot hold.
    """
    del verbose
    if D.dtype == torch.bfloat16:
        raise ArgumentError("NumPy archives cannot hold bfloat16; convert the values first")
    folder = Path(directory)
    # What is asked of other processes all ask together, before one of them may fail: entries that were given elsewhere,
    # and names of the halo.
    D = D.settled()
    _ = D.halo_names

    def write() -> list[list[int]]:
        return [write_part(folder, part, D.near_nullspace) for part in D]

    rows = agreed(D.comm, D.device, write)
    empty = torch.zeros(0, 3 + DIGEST, dtype=torch.int64, device=D.device)
    mine = torch.tensor(rows, dtype=torch.int64, device=D.device).reshape(-1, 3 + DIGEST)
    table = torch.cat(D.comm.gather(torch.cat([empty, mine]))).tolist()

    def announce() -> None:
        if D.comm.rank == 0:
            write_manifest(folder, D, table, metadata or {})

    agreed(D.comm, D.device, announce)


def load_dsparse(
    directory: str | PathLike[str],
    num_partitions: int | None = None,
    device: torch.device | str = "cpu",
    *,
    comm: Communicator | None = None,
    partition_method: str = "auto",
) -> DSparseTensor:
    """Read what `save_dsparse` or `save_distributed` wrote, or a matrix in one file, into as many parts as are wanted.

    Where `torch.distributed` runs, all processes call it together and each gets its parts, one by default; else
    one process gets all. Another number of parts than was written merges neighbouring parts, or splits them.

    Of one file (``.npz`` of this library or of SciPy, ``.safetensors``, ``.mtx``) each process reads its share: rows,
    or entries that are then sent to who owns them. Compressed archives are decompressed by every process, and only the
    share is kept.

    Parameters
    ----------
    directory
        The folder, or the file.
    num_partitions
        Number of parts: by default one for each process; on one process as many as were written, 4 of one file.
    device
        Where to keep it.
    comm
        Who shares it; by default the processes of `torch.distributed`.
    partition_method
        Of one file, ``"simple"``: a part is a run of rows; ``"graph"``: parts are cut along the graph, of which the
        first process has a coarser one, a tenth of the rows; ``"auto"``: runs, but where more than a quarter of the
        entries would join different ones.

    Raises
    ------
    ArgumentError
        On every process, when a file is missing, damaged or of a later version where one of them reads.
    """
    path = Path(directory)
    if path.suffix in (".npz", ".safetensors", ".mtx") and not path.is_dir():
        return load_rows(
            path, comm or _default_comm(num_partitions, 4), device, method=partition_method
        )
    if comm is None:
        written = 0 if running() else len(read_manifest(path)["parts"])
        comm = _default_comm(num_partitions, written)
    return _loaded(path, comm, device)


def save_distributed(
    A: SparseTensor,
    directory: str | PathLike[str],
    num_partitions: int,
    coords: Tensor | None = None,
    partition_method: str = "auto",
    metadata: dict[str, Any] | None = None,
    verbose: bool = False,
) -> None:
    """Cut a matrix that one process has whole, and write its parts.

    Parameters
    ----------
    A
        A square matrix without batch.
    directory, metadata, verbose
        As for `save_dsparse`.
    num_partitions, coords, partition_method
        How it is cut, as for `DSparseTensor`.
    """
    D = DSparseTensor.from_sparse_tensor(
        A, num_partitions, coords=coords, partition_method=partition_method
    )
    save_dsparse(D, directory, metadata, verbose)


def load_partition(
    directory: str | PathLike[str],
    rank: int | None = None,
    world_size: int | None = None,
    device: torch.device | str = "cpu",
) -> DSparseMatrix:
    """Read the part of one rank.

    Where `torch.distributed` runs and `rank` and `world_size` are its own or left out, the part is connected with
    those of the other ranks, and all of them call this together. Elsewhere the whole folder is read, and the part
    stands for study.

    Parameters
    ----------
    directory
        A folder that `save_dsparse` or `save_distributed` wrote.
    rank, world_size
        Which part, of how many.
    device
        Where to keep it.

    Raises
    ------
    ArgumentError
        For the part of another process.
    """
    D = load_dsparse(directory, world_size, device)
    wanted = D.comm.held.start if rank is None else rank
    if not D.comm.alone and wanted not in D.comm.held:
        raise ArgumentError(
            f"rank={rank} is not this process, which is {D.comm.rank}; leave it out, every process reads its own part"
        )
    return D[wanted]


def load_sparse_as_partition(
    path: str | PathLike[str],
    rank: int | None = None,
    world_size: int | None = None,
    coords: Tensor | None = None,
    partition_method: str = "auto",
    device: torch.device | str | None = None,
) -> DSparseMatrix:
    """Read a matrix from one file (``.npz``, ``.safetensors``, ``.mtx``) and take the part of one rank.

    With ``partition_method`` ``"simple"`` (a run of rows) or ``"graph"`` no process reads more than its share, where
    every rank takes its own; see `load_dsparse`. For other methods every process reads the whole file.

    Parameters
    ----------
    path
        The file.
    rank, world_size
        Which part, of how many; those of `torch.distributed` by default, where it runs.
    coords, partition_method
        How it is cut, as for `DSparseTensor`.
    device
        Where to keep it.

    Raises
    ------
    ArgumentError
        When `rank` or `world_size` is missing where `torch.distributed` does not run.
    """
    if running():
        own = torch.distributed.get_rank(), torch.distributed.get_world_size()
        rank = own[0] if rank is None else rank
        world_size = own[1] if world_size is None else world_size
        if (rank, world_size) == own and partition_method in ("simple", "contiguous", "graph"):
            D = load_dsparse(path, device=device or "cpu", partition_method=partition_method)
            return D[rank]
    A = load_sparse(path, device)
    if rank is None or world_size is None:
        raise ArgumentError("give `rank` and `world_size`, or start the program with torchrun")
    entries = A.values, A.row_indices, A.col_indices, A.sparse_shape
    return DSparseMatrix.from_global(
        *entries, world_size, rank, coords=coords, partition_method=partition_method
    )


def load_distributed_as_sparse(
    directory: str | PathLike[str], device: torch.device | str = "cpu"
) -> SparseTensor:
    """Read all parts into one matrix ``[M, N]`` that one process has whole, on `device`.

    Raises
    ------
    ArgumentError
        When the folder or a part is missing or inconsistent.
    """
    folder = Path(directory)
    header = read_manifest(folder)
    rows, cols, values = [], [], []
    for part in range(len(header["parts"])):
        found = read_part(folder, header, part)
        rows.append(found["owned"].repeat_interleave(found["crow"].diff()))
        cols.append(found["col"])
        values.append(found["values"])
    made = SparseTensor(torch.cat(values), torch.cat(rows), torch.cat(cols), tuple(header["shape"]))
    return made.to(device)


def load_metadata(path: str | PathLike[str]) -> dict[str, Any]:
    """Read what a file or a folder says about its matrix, without the matrix."""
    if Path(path).is_dir():
        return read_manifest(Path(path))
    from torch_sla.linalg.sparse.files import load_metadata as of_file

    return of_file(path)


def _default_comm(num_partitions: int | None, written: int) -> Communicator:
    if running():
        from torch_sla.linalg.distributed.processes import Processes

        return Processes(parts=num_partitions)
    return InProcess(num_partitions or written)


def _loaded(folder: Path, comm: Communicator, device: torch.device | str) -> DSparseTensor:
    """Read the parts of this process, which others may have cut otherwise."""
    none = torch.zeros(0, dtype=torch.int64)

    def read() -> dict[str, Any]:
        header = read_manifest(folder)
        written = [p["rows"] for p in header["parts"]]
        owned: list[Tensor] = []
        near: list[Tensor] = []
        rows, cols = [none], [none]
        values = [torch.zeros(0, dtype=getattr(torch, header["dtype"]))]
        for part in comm.held:
            # Without rows, none of the first: what there is of each, such as a near-nullspace, is there on all.
            sources = _sources(part, comm.parts, written) or [(0, 0, 0)]
            pieces = [_some_rows(read_part(folder, header, old), *rows_) for old, *rows_ in sources]
            mine = torch.cat([none, *(p["owned"] for p in pieces)])
            order = mine.argsort()
            owned.append(mine[order].to(device))
            rows += [p["owned"].repeat_interleave(p["crow"].diff()) for p in pieces]
            cols += [p["col"] for p in pieces]
            values += [p["values"] for p in pieces]
            modes = [p["near_nullspace"] for p in pieces if "near_nullspace" in p]
            if modes:
                near.append(torch.cat(modes)[order])
        entries = [torch.cat(tensors).to(device) for tensors in (values, rows, cols)]
        return {
            "entries": (*entries, tuple(header["shape"]), owned),
            "near_nullspace": torch.cat(near).to(device) if near else None,
        }

    found = agreed(comm, device, read)
    made = DSparseTensor.from_local(
        *found["entries"], comm=comm, near_nullspace=found["near_nullspace"]
    )
    return made.settled()


def _sources(part: int, parts: int, rows: list[int]) -> list[tuple[int, int, int]]:
    """Which rows of which written parts one of `parts` new ones takes: ``(old, begin, end)``.

    Written parts are laid on a line, one unit each, and cut anew into equal lengths: neighbours stay together.

    Examples
    --------
    >>> _sources(0, 2, [10, 10, 10])
    [(0, 0, 10), (1, 0, 5)]
    >>> _sources(3, 4, [10, 10])
    [(1, 5, 10)]
    """
    old, found = len(rows), []
    for i in range(part * old // parts, min(-(-(part + 1) * old // parts), old)):
        # Where the borders of the new part are in the rows of the old one, in whole numbers.
        begin = max((part * old - i * parts) * rows[i] // parts, 0)
        end = min(((part + 1) * old - i * parts) * rows[i] // parts, rows[i])
        if end > begin:
            found.append((i, begin, end))
    return found


def _some_rows(found: dict[str, Tensor], begin: int, end: int) -> dict[str, Tensor]:
    """Take some of the rows of a written part."""
    first, last = int(found["crow"][begin]), int(found["crow"][end])
    chosen = {
        "owned": found["owned"][begin:end],
        "crow": found["crow"][begin : end + 1] - first,
        "col": found["col"][first:last],
        "values": found["values"][first:last],
    }
    if "near_nullspace" in found:
        chosen["near_nullspace"] = found["near_nullspace"][begin:end]
    return chosen
