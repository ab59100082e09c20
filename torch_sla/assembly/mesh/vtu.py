"""Shares of ``.vtu`` files: what lies in them in binary, compressed block by block or not, is read from where it is.

The format is that of VTK's documentation (VTK XML file formats).
"""

from __future__ import annotations

import base64
import lzma
import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from torch_sla.assembly.mesh.kinds import GROUPS, base_name, choose_cell, group_numbers
from torch_sla.assembly.mesh.mesh import CELL_TYPES
from torch_sla.assembly.mesh.share import MeshIndex, MeshShare, packed
from torch_sla.assembly.reference.cell import reference_cell
from torch_sla.errors import MeshError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["VtuIndex", "WholeOnlyError"]

_NUMBERS = {
    "Int8": "i1",
    "UInt8": "u1",
    "Int16": "i2",
    "UInt16": "u2",
    "Int32": "i4",
    "UInt32": "u4",
    "Int64": "i8",
    "UInt64": "u8",
    "Float32": "f4",
    "Float64": "f8",
}
# Points of a cell by VTK's number of its type, of those that meshes and their facets are made of.
_CELLS = {
    1: ("vertex", 1),
    3: ("line", 2),
    5: ("triangle", 3),
    9: ("quad", 4),
    10: ("tetra", 4),
    12: ("hexahedron", 8),
    21: ("line3", 3),
    22: ("triangle6", 6),
    24: ("tetra10", 10),
    28: ("quad9", 9),
    29: ("hexahedron27", 27),
}
_BLOCK = 1 << 20  # bytes or numbers that are looked at in one go
_MOST_RUNS = 10_000
_TAG = re.compile(rb"<(/?[A-Za-z]\w*)([^<>]*)>")
_ATTRIBUTE = re.compile(rb"([\w:]+)\s*=\s*\"([^\"]*)\"")


class WholeOnlyError(Exception):
    """A file of which no shares can be read."""


@dataclass(frozen=True)
class _Numbers:
    """Numbers in a file.

    Parameters
    ----------
    start
        Where their bytes or letters begin.
    encoded
        Whether they are letters, three bytes in four.
    dtype, width
        Type of a number, and how many make one thing.
    length
        Bytes of the numbers, decoded.
    skip
        Bytes of a header before them that are encoded with them.
    block, ends, codec
        Where they are compressed: bytes in a block, and where each block begins and ends among the compressed bytes.
    """

    path: Path
    start: int
    encoded: bool
    dtype: str
    width: int
    length: int
    skip: int = 0
    block: int = 0
    ends: tuple[int, ...] = ()
    codec: str = ""

    def __len__(self) -> int:
        return self.length // (np.dtype(self.dtype).itemsize * self.width)

    def read(self, begin: int, end: int) -> npt.NDArray[np.generic]:
        """Return things `begin` to `end`: ``[end - begin, width]``, or without the second dimension where it is 1."""
        size = np.dtype(self.dtype).itemsize * self.width
        data = self._decoded(begin * size, end * size)
        if len(data) != (end - begin) * size:
            raise MeshError(f"path: {self.path} is shorter than it says")
        found = np.frombuffer(data, self.dtype)
        found = found.astype(found.dtype.newbyteorder("="))
        return found if self.width == 1 else found.reshape(-1, self.width)

    def _decoded(self, begin: int, end: int) -> bytes:
        if not self.block:
            return _bytes(self.path, self.start, self.encoded, begin + self.skip, end + self.skip)
        if begin == end:
            return b""
        first, last = begin // self.block, -(-end // self.block)
        low, high = self.ends[first], self.ends[last]
        squeezed = _bytes(self.path, self.start, self.encoded, low, high)
        undo = zlib.decompress if self.codec == "zlib" else lzma.decompress
        try:
            blocks = [
                undo(squeezed[self.ends[k] - low : self.ends[k + 1] - low])
                for k in range(first, last)
            ]
        except (zlib.error, lzma.LZMAError) as error:
            raise MeshError(f"path: {self.path} is damaged: {error}") from error
        return b"".join(blocks)[begin - first * self.block : end - first * self.block]


def _bytes(path: Path, start: int, encoded: bool, begin: int, end: int) -> bytes:
    """Return some bytes of those that begin somewhere in a file."""
    with path.open("rb") as file:
        if not encoded:
            file.seek(start + begin)
            return file.read(end - begin)
        first = begin // 3
        file.seek(start + 4 * first)
        letters = file.read(4 * (-(-end // 3) - first))
    try:
        return base64.b64decode(letters, validate=True)[begin - 3 * first : end - 3 * first]
    except ValueError as error:
        raise MeshError(f"path: {path} is damaged: {error}") from error


class _File:
    """The structure of a file, without what lies in its arrays."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.arrays: dict[str, dict[str, tuple[dict[str, str], int]]] = {}
        self.appended: tuple[int, bool] | None = None
        self.pieces: list[dict[str, str]] = []
        self.head: dict[str, str] = {}
        room = ""
        for tag, attributes, end in _tags(path):
            if tag == "VTKFile":
                self.head = attributes
            elif tag == "Piece":
                self.pieces.append(attributes)
            elif tag == "DataArray":
                name = attributes.get("Name", "") if room != "Points" else "Points"
                self.arrays.setdefault(room, {})[name] = (attributes, end)
            elif tag == "AppendedData":
                with path.open("rb") as file:
                    file.seek(end)
                    start = file.read(_BLOCK).find(b"_") + 1
                self.appended = (end + start, attributes.get("encoding") == "base64")
            elif not tag.startswith("/"):
                room = tag
        if (
            self.head.get("type") != "UnstructuredGrid"
            or len(self.pieces) != 1
            or "FieldData" in self.arrays
        ):
            raise WholeOnlyError

    def numbers(self, room: str, name: str) -> _Numbers:
        """Say where an array is."""
        try:
            attributes, end = self.arrays[room][name]
            kind = _NUMBERS[attributes["type"]]
        except KeyError:
            raise WholeOnlyError from None
        order = ">" if self.head.get("byte_order") == "BigEndian" else "<"
        where = attributes.get("format")
        if where == "binary":
            with self.path.open("rb") as file:
                file.seek(end)
                text = file.read(_BLOCK)
            start, encoded = end + len(text) - len(text.lstrip()), True
            letters = text.lstrip().split(b"<")[0].rstrip()
            if len(letters.split()) != 1:
                raise WholeOnlyError  # in lines
        elif where == "appended" and self.appended is not None:
            start, encoded = self.appended[0] + int(attributes["offset"]), self.appended[1]
        else:
            raise WholeOnlyError
        width = int(attributes.get("NumberOfComponents") or 1)
        head = order + _NUMBERS.get(self.head.get("header_type", "UInt32"), "u4")
        return self._after_header(start, encoded, order + kind, width, head)

    def _after_header(
        self, start: int, encoded: bool, dtype: str, width: int, head: str
    ) -> _Numbers:
        size = np.dtype(head).itemsize

        def numbers(count: int) -> list[int]:
            found: list[int] = np.frombuffer(
                _bytes(self.path, start, encoded, 0, count * size), head, count
            ).tolist()
            return found

        try:
            codec = self.head.get("compressor")
            if codec is None:
                (length,) = numbers(1)
                letters = -(-size // 3) * 4
                with self.path.open("rb") as file:
                    file.seek(start)
                    alone = encoded and b"=" in file.read(letters)
                begin, skip = (start + letters, 0) if alone else (start, size)
                return _Numbers(self.path, begin, encoded, dtype, width, length, skip)
            if codec not in ("vtkZLibDataCompressor", "vtkLZMADataCompressor"):
                raise WholeOnlyError
            count, block, last = numbers(3)
            sizes = numbers(3 + count)[3:]
            header = (3 + count) * size
            start += -(-header // 3) * 4 if encoded else header
            ends = (0, *np.cumsum(sizes, dtype=np.int64).tolist())
            length = block * count if not last or not count else block * (count - 1) + last
            name = "zlib" if codec == "vtkZLibDataCompressor" else "lzma"
            return _Numbers(self.path, start, encoded, dtype, width, length, 0, block, ends, name)
        except ValueError as error:
            raise MeshError(f"path: {self.path} is damaged: {error}") from error


def _tags(path: Path) -> Iterator[tuple[str, dict[str, str], int]]:
    """Yield the tags of a file, their attributes and where they end, up to the one after which anything may come."""
    with path.open("rb") as file:
        at, text = 0, file.read(_BLOCK)
        while text:
            used = 0
            for match in _TAG.finditer(text):
                name = match[1].decode()
                pairs = {a.decode(): b.decode() for a, b in _ATTRIBUTE.findall(match[2])}
                used = match.end()
                yield name, pairs, at + used
                if name == "AppendedData":
                    return
            # A tag may go on in what comes next.
            opened = text.rfind(b"<", used)
            used = len(text) if opened < 0 else opened
            more = file.read(_BLOCK)
            if not more:
                return
            at, text = at + used, text[used:] + more


class VtuIndex(MeshIndex):
    """A file of VTK's unstructured grids with its arrays in binary.

    Raises
    ------
    WholeOnlyError
        If there are several pieces, arrays in text, or cells of other types.
    MeshError
        If it is damaged.
    """

    def __init__(self, path: Path, cell: str | None) -> None:
        file = _File(path)
        self._path = path
        self._points = file.numbers("Points", "Points")
        self._connectivity = file.numbers("Cells", "connectivity")
        types, offsets = file.numbers("Cells", "types"), file.numbers("Cells", "offsets")
        self.n_points = len(self._points)
        self._runs = _runs(types)
        held: dict[str, int] = {}
        for run in self._runs:
            name = _CELLS[run.type][0]
            held[name] = held.get(name, 0) + run.size
        self.cell = choose_cell(path, held, cell)
        if not self._runs:
            raise WholeOnlyError
        end = self._runs[-1]
        if len(self._connectivity) != end.first_point + end.size * _CELLS[end.type][1] or len(
            offsets
        ) != len(types):
            raise WholeOnlyError
        reference = reference_cell(CELL_TYPES[self.cell][0])
        self._corners = len(reference.facets[0])
        base = "vertex" if reference.dim == 1 else reference.facet_name
        self._cells = [run for run in self._runs if _CELLS[run.type][0] == self.cell]
        self._facets = [run for run in self._runs if base_name(_CELLS[run.type][0]) == base]
        self.n_cells = _count(self._cells)
        # As meshio names groups: by numbers, of which 0 is none.
        known = next((name for name in GROUPS if name in file.arrays.get("CellData", {})), None)
        self._physical = None if known is None else file.numbers("CellData", known)
        self._called = known or ""
        of_cells, of_facets = self._distinct(self._cells), self._distinct(self._facets)
        self.cell_groups, self.facet_groups = (
            tuple(map(str, found)) for found in (of_cells, of_facets)
        )
        self._numbers = of_cells, of_facets

    def _distinct(self, runs: list[_Run]) -> list[int]:
        """Return the numbers of groups, a block at a time."""
        found: set[int] = set()
        if self._physical is not None:
            for run in runs:
                for begin in range(run.first, run.first + run.size, _BLOCK):
                    end = min(begin + _BLOCK, run.first + run.size)
                    some = group_numbers(self._path, self._called, self._physical.read(begin, end))
                    found |= set(np.unique(some).tolist())
        return sorted(number for number in found if number)

    def read(self, first: int, last: int, of: int) -> MeshShare:
        """Read shares of the arrays where they are."""
        n, cells = self.n_points, self._share(self._cells, 0, first, last, of)
        facets = self._share(self._facets, 1, first, last, of)
        some = facets[1].any(1)
        points = self._points.read(n * first // of, n * last // of).astype(np.float64)
        rows = facets[0][some]
        return MeshShare(
            points.reshape(-1, self._points.width), None, *cells, rows, facets[1][some]
        )

    def _share(
        self, runs: list[_Run], kind: int, first: int, last: int, of: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
        """Read a share of the cells in some runs: points of each, of facets its corners, and its groups."""
        total = _count(runs)
        begin, end = total * first // of, total * last // of
        width = self._corners if kind else _CELLS[runs[0].type][1]
        rows, marks, before = [np.zeros((0, width), np.int64)], [np.zeros(0, np.int64)], 0
        for run in runs:
            a, b = max(begin - before, 0), min(end - before, run.size)
            before += run.size
            if a >= b:
                continue
            size = _CELLS[run.type][1]
            place = run.first_point + a * size
            flat = self._connectivity.read(place, place + (b - a) * size)
            rows.append(flat.astype(np.int64).reshape(-1, size)[:, :width])
            if self._physical is not None:
                some = self._physical.read(run.first + a, run.first + b)
                marks.append(some.astype(np.int64))
        found, number = np.concatenate(rows), np.concatenate(marks)
        return found, packed([number == g for g in self._numbers[kind]], len(found))


class _Run(NamedTuple):
    """Cells of one type that follow each other: how many, which is the first, and where its points begin."""

    type: int
    size: int
    first: int
    first_point: int


def _count(runs: list[_Run]) -> int:
    return sum(run.size for run in runs)


def _runs(types: _Numbers) -> list[_Run]:
    """Find the runs of cells of one type, a block at a time."""
    runs: list[_Run] = []
    for begin in range(0, len(types), _BLOCK):
        some = types.read(begin, min(begin + _BLOCK, len(types))).astype(np.int64)
        edges = np.nonzero(np.diff(some))[0] + 1
        for a, b in zip([0, *edges.tolist()], [*edges.tolist(), len(some)], strict=True):
            kind = int(some[a])
            if kind not in _CELLS or len(runs) > _MOST_RUNS:
                raise WholeOnlyError
            if runs and runs[-1].type == kind:
                runs[-1] = runs[-1]._replace(size=runs[-1].size + b - a)
                continue
            last = runs[-1] if runs else _Run(kind, 0, 0, 0)
            point = last.first_point + last.size * _CELLS[last.type][1]
            runs.append(_Run(kind, b - a, last.first + last.size, point))
    return runs
