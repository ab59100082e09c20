"""Abaqus files: sections put together for meshio, which keeps the last nodes only and mixes up sets of elements.

Source: Abaqus Keywords Guide, "*NODE", "*ELEMENT", "*ELSET", "*INSTANCE" and "*SYSTEM".
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import numpy.typing as npt

from torch_sla.errors import MeshError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    import meshio

__all__ = ["read_abaqus"]

Ints = npt.NDArray[np.int64]

# What makes or moves nodes and elements that the file does not list.
_MAKES = ("NGEN", "NFILL", "NCOPY", "NMAP", "ELGEN", "ELCOPY")
_DEEPEST = 20


def read_abaqus(path: Path) -> meshio.Mesh:
    """Read an Abaqus file with its sets of elements, and the files that it includes.

    Raises
    ------
    MeshError
        If points or cells are elsewhere than the file lists them: several or moved instances, coordinates that are
        not Cartesian, generated nodes and elements; or if a set names what is not there.
    """
    import meshio

    text = _Text()
    text.take(path)
    lines = ["*NODE", *text.nodes]
    for block in text.blocks:
        lines += [f"*ELEMENT, TYPE={block.kind}", *block.lines]
    raw = meshio.read(io.StringIO("\n".join(lines) + "\n"), file_format="abaqus")
    numbers = [
        np.array(
            [int(word) for line in block.lines for word in line.split(",") if word.strip()],
            dtype=np.int64,
        ).reshape(len(found.data), -1)[:, 0]
        for block, found in zip(text.blocks, raw.cells, strict=True)
    ]
    every = np.concatenate([np.zeros(0, np.int64), *numbers])
    different, counts = np.unique(every, return_counts=True)
    if (counts > 1).any():
        twice = different[counts > 1][0]
        raise MeshError(f"path: {path} has two elements {twice}; give each a number of its own")
    sets = _Sets(path, text.sets, different)
    for block, found in zip(text.blocks, numbers, strict=True):
        if block.group:
            sets.add(block.group, found)
    raw.cell_sets = {
        name: [np.nonzero(np.isin(found, members))[0] for found in numbers]
        for name, members in sets.members()
    }
    return raw


@dataclass
class _Block:
    """Elements of one type, with the set that their section names."""

    kind: str
    group: str | None
    lines: list[str] = field(default_factory=list)


@dataclass
class _Set:
    """What a section puts into a set: numbers, names of other sets, or ranges of numbers."""

    name: str
    ranges: bool
    lines: list[str] = field(default_factory=list)


class _Text:
    """What a file says of nodes, elements and sets.

    Attributes
    ----------
    nodes, blocks, sets
        Lines of nodes, sections of elements, and sections of sets, in order.
    """

    def __init__(self) -> None:
        self.nodes: list[str] = []
        self.blocks: list[_Block] = []
        self.sets: list[_Set] = []
        self._numbers: set[int] = set()
        self._parts: set[str] = set()

    def take(self, path: Path) -> None:
        """Read a file with those that it includes."""
        keyword, target = "", list[str]()
        for place, line in _lines(path):
            refuse: Callable[[str], NoReturn] = partial(_refuse, place)
            if not line.startswith("*"):
                if keyword == "NODE":
                    self._node(line, refuse)
                elif keyword in ("INSTANCE", "SYSTEM"):
                    refuse(
                        f"moves what it lists (*{keyword} with {line!r}), and that is not followed; export the "
                        "mesh as one part in global coordinates"
                    )
                target.append(line)
                continue
            keyword, given = _keyword(line)
            target = []
            if keyword in _MAKES:
                refuse(f"makes nodes or elements by *{keyword}, which is not followed; list them")
            if keyword in ("NODE", "ELEMENT", "ELSET") and "INPUT" in given:
                refuse(f"has *{keyword} in another file ({given['INPUT']}); put it into this one")
            if keyword == "NODE" and given.get("SYSTEM", "R").upper() != "R":
                refuse(
                    f"has nodes in the coordinates SYSTEM={given['SYSTEM']}; write Cartesian ones"
                )
            if keyword == "NODE":
                target = self.nodes
            elif keyword == "ELEMENT":
                if not given.get("TYPE"):
                    refuse(f"has a section without TYPE=: {line}")
                self.blocks.append(_Block(given["TYPE"].upper(), given.get("ELSET")))
                target = self.blocks[-1].lines
            elif keyword == "ELSET":
                if not given.get("ELSET"):
                    refuse(f"has a section without ELSET=: {line}")
                self.sets.append(_Set(given["ELSET"], "GENERATE" in given))
                target = self.sets[-1].lines
            elif keyword == "INSTANCE":
                part = given.get("PART", "").upper()
                if part and part in self._parts:
                    refuse(
                        f"has several instances of the part {given.get('PART')}; merge them into one"
                    )
                self._parts.add(part)

    def _node(self, line: str, refuse: Callable[[str], NoReturn]) -> None:
        word = line.partition(",")[0].strip()
        if not word.isdecimal():
            refuse(f"has a node {line!r}; expected its number and coordinates")
        if (number := int(word)) in self._numbers:
            refuse(
                f"has two nodes {number}; parts count their nodes anew, so export the mesh as one part, or number "
                "them through"
            )
        self._numbers.add(number)


class _Sets:
    """Sets of elements by name, which differ in more than capitals.

    Parameters
    ----------
    path, sections, numbers
        The file, what it puts into sets, and the numbers of all elements, sorted.
    """

    def __init__(self, path: Path, sections: list[_Set], numbers: Ints) -> None:
        self._path, self._numbers = path, numbers
        self._names: dict[str, str] = {}
        self._found: dict[str, list[Ints]] = {}
        self._others: dict[str, list[str]] = {}
        for section in sections:
            self.add(section.name, self._listed(section))

    def add(self, name: str, numbers: Ints) -> None:
        """Put elements into a set."""
        self._names.setdefault(name.upper(), name)
        self._found.setdefault(name.upper(), []).append(numbers)

    def members(self) -> Iterator[tuple[str, Ints]]:
        """Yield the name and the elements of each set."""
        for key, name in self._names.items():
            reached, left = set[str](), [key]
            while left:
                if (other := left.pop()) not in reached:
                    if other not in self._found:
                        self._refuse(name, f"the set {other}")
                    reached.add(other)
                    left += self._others.get(other, [])
            yield name, np.concatenate([part for other in reached for part in self._found[other]])

    def _listed(self, section: _Set) -> Ints:
        numbers: list[Ints] = []
        for line in section.lines:
            words = [word.strip() for word in line.split(",") if word.strip()]
            counts = [int(word) for word in words if word.isdecimal()]
            if section.ranges:
                first, last, step = [*counts, 1][:3] if len(counts) in (2, 3) else (0, 0, 0)
                if len(counts) != len(words) or step < 1:
                    self._refuse(section.name, f"the range {line!r}")
                found = np.arange(first, last + 1, step)
            else:
                found = np.array(counts, dtype=np.int64)
                others = [word.upper() for word in words if not word.isdecimal()]
                self._others.setdefault(section.name.upper(), []).extend(others)
            lost = found[~np.isin(found, self._numbers)]
            if len(lost):
                self._refuse(section.name, f"element {lost[0]}")
            numbers.append(found)
        return np.concatenate([np.zeros(0, np.int64), *numbers])

    def _refuse(self, name: str, what: str) -> NoReturn:
        raise MeshError(f"path: the set {name} of {self._path} names {what}, which is not there")


def _refuse(path: Path, message: str) -> NoReturn:
    raise MeshError(f"path: {path} {message}")


def _lines(path: Path, depth: int = 0) -> Iterator[tuple[Path, str]]:
    """Yield the lines of a file, each with where it stands; those of an included file in the place of its keyword."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in _joined(file):
            keyword, given = _keyword(line) if line.startswith("*") else ("", {})
            if keyword != "INCLUDE":
                yield path, line
                continue
            if depth == _DEEPEST:
                _refuse(path, f"includes files more than {_DEEPEST} deep; it may include itself")
            other = path.parent / given.get("INPUT", "")
            if not other.is_file():
                _refuse(path, f"includes {given.get('INPUT')!r}, and there is no file {other}")
            yield from _lines(other, depth + 1)


def _joined(file: Iterator[str]) -> Iterator[str]:
    """Yield lines without comments, and those that tell a keyword as one line each."""
    before = ""
    for raw in file:
        line = raw.strip()
        if not line or line.startswith("**"):
            continue
        if before and (line.startswith("*") or line[0].isdecimal()):
            # A comma too many: this is data, or the next keyword.
            yield before
            before = ""
        line = before + line
        goes_on = line.startswith("*") and line.endswith(",")
        before = line if goes_on else ""
        if not goes_on:
            yield line
    if before:
        yield before


def _keyword(line: str) -> tuple[str, Mapping[str, str]]:
    """Return the keyword of a line and its parameters, both in capitals."""
    first, *more = line.lstrip("*").split(",")
    pairs = (word.partition("=") for word in more)
    return " ".join(first.upper().split()), {
        name.strip().upper(): value.strip().strip('"') for name, _, value in pairs if name.strip()
    }
