"""Some rows, or some entries, of a sparse matrix in a file, without the rest."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.linalg.sparse.archive import BROKEN, Archive
from torch_sla.linalg.sparse.files import load_metadata, present, safetensors_library

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike

__all__ = ["Slice", "matrix_slice"]

_BLOCK = 1 << 22  # bytes of text that are looked at in one go


@dataclass(frozen=True)
class Slice:
    """Entries of a matrix, in numbers of the whole.

    Parameters
    ----------
    values, row, col
        ``[m]`` each.
    shape
        Of the whole.
    nnz
        Entries that were read for this slice, and that the file announces.
    near_nullspace
        Rows of it ``[rows, k]``, where the file has one.
    edge
        Rows of a block, which are shared out together.
    """

    values: Tensor
    row: Tensor
    col: Tensor
    shape: tuple[int, int]
    nnz: tuple[int, int]
    near_nullspace: Tensor | None = None
    edge: int = 1


def matrix_slice(path: str | PathLike[str], first: int, last: int, of: int) -> Slice:
    """Read shares `first` to `last`, one of them left out, of `of` equal ones.

    A file of compressed rows gives the rows ``n * first // of`` to ``n * last // of``, with the blocks written out;
    others give as many entries, of any row. What is read, and what it takes, is that share and not the whole;
    compressed archives are decompressed up to its end.

    Raises
    ------
    ArgumentError
        When the file is missing, damaged, or holds what has no rows to share (a batch, a dense matrix).
    """
    source = present(Path(path))
    if source.suffix == ".mtx":
        return _of_text(source, first, last, of)
    if source.suffix not in (".npz", ".safetensors"):
        raise ArgumentError(f"`path` must end in .npz, .safetensors or .mtx, got {str(path)!r}")
    try:
        arrays = Archive(source) if source.suffix == ".npz" else _Safetensors(source)
        if isinstance(arrays, Archive) and "format" in arrays.names:
            return _of_scipy(source, arrays, first, last, of)
        return _of_rows(source, arrays, first, last, of)
    except BROKEN as error:
        raise ArgumentError(f"{str(source)!r} cannot be read: {error}") from None


# --- arrays in archives ----------------------------------------------------------------------------


class _Safetensors:
    """Arrays of a ``.safetensors`` file, which tells where each is."""

    def __init__(self, source: Path) -> None:
        self._file = safetensors_library().safe_open(str(source), "pt")
        self.names = set(self._file.keys())

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._file.get_slice(name).get_shape())

    def read(self, name: str, begin: int, end: int) -> Tensor:
        """Return ``[begin:end]``."""
        return self._file.get_slice(name)[begin:end]


def _of_rows(source: Path, arrays: Archive | _Safetensors, first: int, last: int, of: int) -> Slice:
    """Rows of what `save_sparse` wrote."""
    header = load_metadata(source)
    if header["batch"]:
        raise ArgumentError(f"{str(source)!r} holds a batch, which has no rows to share out")
    (n, m), block = header["shape"], tuple(header["block"]) or (1, 1)
    a, b = n * first // of, n * last // of
    row, col, (begin, end) = _rows(arrays, ("crow", "col"), a, b)
    values = arrays.read("values", begin, end)
    if header["block"]:
        i, j = (torch.arange(edge) for edge in block)
        row, col, shape = row.long(), col.long(), (len(row), *block)
        row = (row[:, None, None] * block[0] + i[None, :, None]).expand(shape).reshape(-1)
        col = (col[:, None, None] * block[1] + j).expand(shape).reshape(-1)
        values = values.reshape(-1)
    near = None
    if "near_nullspace" in arrays.names:
        near = arrays.read("near_nullspace", a * block[0], b * block[0])
    size = (n * block[0], m * block[1])
    return Slice(values, row, col, size, (end - begin, header["nnz"]), near, block[0])


def _rows(
    arrays: Archive | _Safetensors, names: tuple[str, str], a: int, b: int
) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """Rows and columns of the entries of compressed rows `a` to `b`, and which entries these are."""
    crow = arrays.read(names[0], a, b + 1).long()
    length = crow.diff()
    if bool((length < 0).any()) or int(crow[0]) < 0:
        raise ValueError("row pointers decrease")
    begin, end = int(crow[0]), int(crow[-1])
    col = arrays.read(names[1], begin, end)
    index = torch.int32 if b <= torch.iinfo(torch.int32).max else torch.int64
    row = torch.repeat_interleave(torch.arange(a, b, dtype=index), length)
    return row, col, (begin, end)


def _of_scipy(source: Path, arrays: Archive, first: int, last: int, of: int) -> Slice:
    """Read a share of what ``scipy.sparse.save_npz`` wrote; of compressed columns the entries of some columns."""
    kind = arrays.small("format").item()
    kind = kind.decode("ascii") if isinstance(kind, bytes) else str(kind)
    n, m = (int(x) for x in arrays.small("shape"))
    entries = arrays.shape("data")[0]
    if kind in ("csr", "csc"):
        lines = n if kind == "csr" else m
        a, b = lines * first // of, lines * last // of
        row, col, (begin, end) = _rows(arrays, ("indptr", "indices"), a, b)
        row, col = (row, col) if kind == "csr" else (col, row)
    elif kind == "coo":
        begin, end = entries * first // of, entries * last // of
        row, col = (arrays.read(name, begin, end).long() for name in ("row", "col"))
    else:
        raise ArgumentError(
            f"{str(source)!r} holds a matrix in SciPy's format {kind!r}; save it as csr, csc or coo"
        )
    values = arrays.read("data", begin, end)
    if not (values.is_floating_point() or values.is_complex()):
        values = values.double()
    return Slice(values, row, col, (n, m), (end - begin, entries))


# --- Matrix Market -----------------------------------------------------------------------------------


def _of_text(source: Path, first: int, last: int, of: int) -> Slice:
    """Entries whose lines begin in a share of the bytes."""
    said = load_metadata(source)
    if said["layout"] != "coordinate":
        raise ArgumentError(f"{str(source)!r} is dense; read it with load_mtx")
    field, symmetry = said["field"], said["symmetry"]
    width = {"pattern": 2, "complex": 4}.get(field, 3)
    found = []
    with source.open("rb") as file:
        start = _after_sizes(file)
        length = source.stat().st_size - start
        begin, end = (start + length * share // of for share in (first, last))
        for text in _lines(file, start, begin, end):
            found.append(_parsed(source, text, width))
    table = np.concatenate(found) if found else np.empty((0, width))
    row, col = (torch.from_numpy(table[:, k].astype(np.int64) - 1) for k in (0, 1))
    if field == "pattern":
        values = torch.ones(len(table), dtype=torch.float64)
    else:
        values = torch.from_numpy(table[:, 2].copy())
        if field == "complex":
            values = torch.complex(values, torch.from_numpy(table[:, 3].copy()))
    count = len(table)
    if symmetry != "general":
        off = row != col
        mirrored = values[off]
        mirrored = mirrored.conj().resolve_conj() if symmetry == "hermitian" else mirrored
        mirrored = -mirrored if symmetry == "skew-symmetric" else mirrored
        values = torch.cat([values, mirrored])
        row, col = torch.cat([row, col[off]]), torch.cat([col, row[off]])
    return Slice(values, row, col, tuple(said["shape"]), (count, said["nnz"]))


def _after_sizes(file: IO[bytes]) -> int:
    """Where the first entry may be: after the line that is no comment."""
    while line := file.readline():
        if line.strip() and not line.startswith(b"%"):
            break
    return file.tell()


def _lines(file: IO[bytes], start: int, begin: int, end: int) -> Iterator[bytes]:
    """Lines that begin in a range of bytes, some at a time."""
    if begin > start:
        file.seek(begin - 1)
        file.readline()  # begins before
    else:
        file.seek(start)
    while (at := file.tell()) < end:
        text = file.read(min(_BLOCK, end - at))
        if not text:
            return
        yield text if text.endswith(b"\n") else text + file.readline()


def _parsed(source: Path, text: bytes, width: int) -> np.ndarray:
    """Numbers ``[lines, width]``; empty lines are none."""
    if not text.strip():
        return np.empty((0, width))
    wrong = f"{str(source)!r} has lines that are not {width} numbers each"
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # of numbers that are none
        try:
            table = np.fromstring(text, np.float64, sep=" ").reshape(-1, width)
        except (ValueError, DeprecationWarning):
            raise ArgumentError(wrong) from None
    # Only where there are other lines than of entries are they looked at.
    ended = text if text.endswith(b"\n") else text + b"\n"
    if len(table) != ended.count(b"\n") and len(table) != sum(
        1 for line in text.splitlines() if line.strip()
    ):
        raise ArgumentError(wrong)
    places = table[:, :2]
    if not bool((places == np.floor(places)).all()):
        raise ArgumentError(f"{str(source)!r} has rows or columns that are no whole numbers")
    return table
