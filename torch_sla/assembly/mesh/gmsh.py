"""All groups of what gmsh files of format 4 are made of; of those without a name meshio keeps the first.

Source: MSH file format version 4.1, Gmsh reference manual, section "Entities" (in 4.0 points have a box as well).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["groups_of_entities"]

_HEAD = re.compile(rb"\$MeshFormat\s+(4[.\d]*)\s+([01])\s+([48])\s")
_BEGIN, _END = b"$Entities", b"$EndEntities"
_BLOCK = 1 << 20


def groups_of_entities(path: Path) -> Mapping[tuple[int, int], tuple[int, ...]]:
    """Return the numbers of the groups of points, curves, surfaces and volumes, by dimension and number of these.

    In the file a number is negative where the group has the curve or surface turned around.

    Parameters
    ----------
    path
        A file that meshio reads; one of another format has none.
    """
    with path.open("rb") as file:
        text = file.read(_BLOCK)
        head = _HEAD.search(text)
        if head is None:
            return {}
        while _END not in text and b"$Nodes" not in text and (more := file.read(_BLOCK)):
            text += more
    begin, end = text.find(_BEGIN), text.find(_END)
    if begin < 0 or end < 0:
        return {}
    numbers = _Numbers(text[begin + len(_BEGIN) + 1 : end], head[2] == b"0")
    size, corner = f"u{head[3].decode()}", 3 if head[1] == b"4.1" else 6
    found = {}
    for dim, count in enumerate(numbers.take(size, 4)):
        for _ in range(count):
            (entity,) = numbers.take("i4", 1)
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
