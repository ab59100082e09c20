"""What meshio loses of gmsh files: names that groups of two dimensions share, and groups of files of format 4.

Of several groups of a curve, surface or volume without names it keeps the first, and it reads no file of format 4 that
has cells in no group beside cells in one, or is partitioned.

Source: MSH file format version 4.1, Gmsh reference manual, sections "PhysicalNames", "Entities" (in 4.0 points have a
box as well) and "PartitionedEntities".
"""

from __future__ import annotations

import re
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from torch_sla.assembly.mesh.gmsh_text import refuse_malformed
from torch_sla.errors import MeshError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import meshio

__all__ = ["groups_of_entities", "names_of_groups", "read_by_meshio"]

_HEAD = re.compile(rb"\$MeshFormat\s+([24][.\d]*)\s+([01])\s+([48])\s")
_NAMES = re.compile(rb"\$PhysicalNames\s(.*?)\$EndPhysicalNames", re.DOTALL)
_NAME = re.compile(r'\s*(\d+)\s+(\d+)\s+"(.*)"\s*')
_BEGIN, _END = b"$Entities", b"$EndEntities"
_PARTS, _END_PARTS = b"$PartitionedEntities", b"$EndPartitionedEntities"
_BLOCK = 1 << 20


def groups_of_entities(path: Path) -> Mapping[tuple[int, int], tuple[int, ...]]:
    """Return the numbers of the groups of points, curves, surfaces and volumes, by dimension and number of these.

    Those of a partitioned mesh are pieces with numbers of their own, which are in the groups of what they are cut from.
    In the file a number is negative where the group has the curve or surface turned around.

    Parameters
    ----------
    path
        A file that meshio reads; one of another format has none.
    """
    head, text = _before_nodes(path)
    begin, end = text.find(_BEGIN), text.find(_END)
    if head is None or not head[1].startswith(b"4") or begin < 0 or end < 0:
        return {}
    try:
        found = _groups(head, text[begin + len(_BEGIN) + 1 : end], False)
        begin, end = text.find(_PARTS), text.find(_END_PARTS)
        if 0 <= begin < end and head[1] == b"4.1":
            found |= _groups(head, text[begin + len(_PARTS) + 1 : end], True)
        return found
    except (ValueError, IndexError) as error:
        raise MeshError(
            f"path: section $Entities or $PartitionedEntities of {path} is not as format "
            f"{head[1].decode()} has it ({error}); write it again"
        ) from error


def names_of_groups(path: Path) -> Mapping[tuple[int, int], str]:
    """Return the names of groups by their dimension and number; a file of another format has none."""
    head, text = _before_nodes(path)
    listed = None if head is None else _NAMES.search(text)
    if listed is None:
        return {}
    lines = (_NAME.fullmatch(line) for line in listed[1].decode(errors="replace").splitlines())
    return {(int(line[1]), int(line[2])): line[3] for line in lines if line is not None}


def read_by_meshio(path: Path) -> meshio.Mesh:
    """Read a file of any format by meshio; one of gmsh that it cannot read, without its groups of format 4.

    Raises
    ------
    MeshError
        If it is a binary one of format 2 that meshio does not read, or one in text that is malformed.
    """
    raw = _read(path)
    head, _ = _before_nodes(path)
    if head is not None and head[2] == b"0":
        refuse_malformed(path, head[1], raw)
    return raw


def _read(path: Path) -> meshio.Mesh:
    import meshio

    try:
        return meshio.read(path)
    except (Exception, SystemExit) as error:
        head, _ = _before_nodes(path)
        if head is not None and (head[1][:1], head[2]) == (b"2", b"1"):
            raise MeshError(
                f"path: meshio cannot read {path}: of binary files of format {head[1].decode()} it reads those that "
                "are whole and have nodes 1, 2, 3 ... in this order; write it in format 4.1, or as text"
            ) from error
        with _without_entities(path) as copy:
            if copy is None:
                raise
            with suppress(Exception, SystemExit):
                return meshio.read(copy)
        raise  # what is wrong with the file itself


@contextmanager
def _without_entities(path: Path) -> Iterator[Path | None]:
    """Yield a copy of a file of format 4 that says nothing of groups; None for another file."""
    head, text = _before_nodes(path)
    begin, end = text.find(_BEGIN), text.find(_END)
    if head is None or not head[1].startswith(b"4") or begin < 0 or end < 0:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        data = path.read_bytes()
        copy.write_bytes(data[:begin] + data[end + len(_END) :].lstrip(b"\r\n"))
        yield copy


def _before_nodes(path: Path) -> tuple[re.Match[bytes] | None, bytes]:
    """Return the line of the format, and what a file says before its nodes."""
    with path.open("rb") as file:
        text = file.read(_BLOCK)
        head = _HEAD.search(text)
        while head and b"$Nodes" not in text and (more := file.read(_BLOCK)):
            text += more
    return head, text


def _groups(
    head: re.Match[bytes], section: bytes, in_parts: bool
) -> dict[tuple[int, int], tuple[int, ...]]:
    numbers = _Numbers(section, head[2] == b"0")
    size, corner = f"u{head[3].decode()}", 3 if head[1] == b"4.1" else 6
    if in_parts:
        numbers.skip(size, 1)  # how many parts
        numbers.skip("i4", 2 * numbers.take(size, 1)[0])  # ghosts
    found = {}
    for dim, count in enumerate(numbers.take(size, 4)):
        for _ in range(count):
            (entity,) = numbers.take("i4", 1)
            if in_parts:
                numbers.skip("i4", 2)  # what it is cut from
                numbers.skip("i4", numbers.take(size, 1)[0])
            numbers.skip("f8", 6 if dim else corner)
            groups = numbers.take("i4", numbers.take(size, 1)[0])
            if dim:
                numbers.skip("i4", numbers.take(size, 1)[0])
            found[dim, entity] = tuple(abs(group) for group in groups)
    return found


class _Numbers:
    """Numbers behind each other, in words or in binary."""

    def __init__(self, data: bytes, in_words: bool) -> None:
        self._data: bytes | list[bytes] = data.split() if in_words else data
        self._at = 0

    def skip(self, kind: str, count: int) -> None:
        """Pass over some."""
        words = isinstance(self._data, list)
        self._at += count * (1 if words else np.dtype(kind).itemsize)

    def take(self, kind: str, count: int) -> list[int]:
        """Return the next ones."""
        at = self._at
        self.skip(kind, count)
        if isinstance(self._data, list):
            return [int(word) for word in self._data[at : self._at]]
        found: list[int] = np.frombuffer(self._data, kind, count, at).tolist()
        return found
