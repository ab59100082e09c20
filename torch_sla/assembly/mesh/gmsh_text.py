"""What is wrong with gmsh files in text that meshio reads without a word.

It takes node 0 and those of negative numbers for the last ones, of nodes of one number the last, and no more elements
than a section says that it has.

Source: MSH file formats version 2 and 4.1, Gmsh reference manual, sections "Nodes" and "Elements".
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from torch_sla.errors import MeshError

if TYPE_CHECKING:
    from pathlib import Path

    import meshio

__all__ = ["refuse_malformed"]

Numbers = npt.NDArray[np.float64]


def refuse_malformed(path: Path, version: bytes, raw: meshio.Mesh) -> None:
    """Refuse a file in text whose nodes or elements are not as its format has them.

    Parameters
    ----------
    version
        Of the format; files of others than 2 and 4.1 are not looked at.
    raw
        What meshio read of it.

    Raises
    ------
    MeshError
        Says what the section has that it may not.
    """
    if not version.startswith(b"2") and version != b"4.1":
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        nodes, elements = (_section(data, name) for name in (b"Nodes", b"Elements"))
    widths = [block.data.shape[1] for block in raw.cells]
    try:
        if version == b"4.1":
            _check_numbers("Nodes", *_nodes_4(_numbers(nodes)))
            listed, stated, used = _elements_4(_numbers(elements), widths)
        else:
            _check_numbers("Nodes", *_nodes_2(_numbers(nodes)))
            listed, stated, used = _elements_2(elements)
        if listed != stated:
            raise _MalformedError(
                f"$Elements lists {listed} elements and says that it has {stated}"
            )
        if used < 1:
            raise _MalformedError(f"an element has node {used}; nodes are counted from 1")
    except (_MalformedError, ValueError, IndexError) as error:
        raise MeshError(f"path: {path} is no sound gmsh file: {error}; write it again") from None


class _MalformedError(Exception):
    """What is wrong with a section."""


def _section(data: mmap.mmap, name: bytes) -> bytes:
    begin = data.find(b"$" + name)
    end = data.find(b"$End" + name, begin)
    return data[begin + len(name) + 1 : end if end >= 0 else len(data)]


def _numbers(section: bytes) -> Numbers:
    return np.fromstring(section, sep=" ")


def _check_numbers(section: str, tags: Numbers, stated: int) -> None:
    if len(tags) != stated:
        raise _MalformedError(f"${section} lists {len(tags)} nodes and says that it has {stated}")
    found, count = np.unique(tags, return_counts=True)
    if len(found) and found[0] < 1:
        raise _MalformedError(f"${section} has node {found[0]:.0f}; nodes are counted from 1")
    if len(found) < len(tags):
        twice = found[count > 1][0]
        raise _MalformedError(f"${section} has node {twice:.0f} more than once")


def _nodes_2(numbers: Numbers) -> tuple[Numbers, int]:
    """Return the numbers of the nodes, and how many are said to be there."""
    return numbers[1::4], int(numbers[0])


def _nodes_4(numbers: Numbers) -> tuple[Numbers, int]:
    found, at = [], 4
    for _ in range(int(numbers[0])):
        count = int(numbers[at + 3])
        found.append(numbers[at + 4 : at + 4 + count])
        at += 4 + 4 * count
    _check_end("Nodes", numbers, at)
    return np.concatenate([numbers[:0], *found]), int(numbers[1])


def _elements_2(section: bytes) -> tuple[int, int, int]:
    """Return how many elements there are, how many are said to be there, and the least number of a node."""
    stated, *rows = section.strip().split(b"\n")
    least = 1
    for row in rows:
        words = row.split()
        least = min(least, *map(int, words[3 + int(words[2]) :]))
    return len(rows), int(stated), least


def _elements_4(numbers: Numbers, widths: list[int]) -> tuple[int, int, int]:
    at, total, least = 4, 0, 1
    for width in widths:
        count = int(numbers[at + 3])
        rows = numbers[at + 4 : at + 4 + count * (1 + width)].reshape(count, 1 + width)
        least = min(least, int(rows[:, 1:].min(initial=1)))
        total += count
        at += 4 + count * (1 + width)
    _check_end("Elements", numbers, at)
    return total, int(numbers[1]), least


def _check_end(section: str, numbers: Numbers, end: int) -> None:
    """Refuse numbers behind the blocks that a section says it has."""
    if end != len(numbers):
        raise _MalformedError(
            f"${section} lists more than the {numbers[0]:.0f} blocks, or sizes of blocks, that it says it has"
        )
