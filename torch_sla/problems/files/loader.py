"""A YAML reader that can be trusted with a stranger's file, and that remembers where things stand.

PyYAML scans, parses and composes; the meaning of scalars (YAML 1.2 core schema), the limits and the
positions are ours. Tags, duplicate keys, second documents, deep nesting and exploding aliases are
refused with the line they are on. JSON is read the same way, being a subset.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from torch_sla.errors import SpecError
from torch_sla.problems.files.scalars import resolve

if TYPE_CHECKING:
    import yaml

__all__ = ["MAX_BYTES", "Document", "load_document", "parse_document"]

MAX_BYTES = 1 << 20
MAX_DEPTH = 40
MAX_NODES = 100_000
MAX_INCLUDES = 8

Data: TypeAlias = "dict[str, Data] | list[Data] | str | float | int | bool | None"
DataPath: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """Data read from a file, with the line of every piece.

    Parameters
    ----------
    data
        Plain mappings, lists and scalars; all keys are text.
    file
        Where it came from, for messages; None for a string.
    lines
        Line (from 1) of every path, its parts as text.
    included
        The files whose content stands at a path.
    replaced
        Where values of paths came from instead of a file.
    """

    data: Any
    file: str | None = None
    lines: dict[tuple[str, ...], int] = field(default_factory=dict, repr=False)
    included: dict[tuple[str, ...], Document] = field(default_factory=dict, repr=False)
    replaced: dict[tuple[str, ...], str] = field(default_factory=dict, repr=False)

    def place(self, path: DataPath) -> tuple[str | None, int | None]:
        """Return the file and the line of ``path``, or of the nearest thing around it.

        What is wrong with the content of an included file as a whole is where it is included.
        """
        words = tuple(str(part) for part in path)
        for n in range(len(words) + 1):
            if words[:n] in self.replaced:
                return self.replaced[words[:n]], None
        for n in range(len(words)):
            if words[:n] in self.included:
                return self.included[words[:n]].place(words[n:])
        if words not in self.lines:
            # What only came into being by something beneath it.
            for other, origin in self.replaced.items():
                if other[: len(words)] == words:
                    return origin, None
        while words not in self.lines and words:
            words = words[:-1]
        return self.file, self.lines.get(words)


def load_document(path: str | Path) -> Document:
    """Read a YAML or JSON file.

    Raises
    ------
    SpecError
        If the file is missing, too large, not UTF-8, not YAML, or uses what is refused.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SpecError(
                f"the file has {path.stat().st_size} bytes; at most {MAX_BYTES} are read. "
                "Keep arrays in files of their own ({file: a.npz, key: k})",
                file=str(path),
            )
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise SpecError(f"cannot be read: {error.strerror}", file=str(path)) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise SpecError(
            f"is not UTF-8 text (byte {error.start}); save it as UTF-8", file=str(path), line=line
        ) from None
    document = parse_document(text, file=str(path))
    folder = path.resolve().parent
    data = _included(document.data, document, (), _Includes(folder, (path.resolve(),)))
    return replace(document, data=data)


@dataclass
class _Includes:
    """Where included files may lie, and which are being read."""

    folder: Path
    reading: tuple[Path, ...]
    values: int = 0


def _included(data: Data, document: Document, path: DataPath, state: _Includes) -> Data:
    """Put the content of other files in the place of every ``{include: file.yaml}``.

    Their paths are relative to the first file, whose folder they cannot leave.
    """
    state.values += 1
    if isinstance(data, list):
        return [_included(v, document, (*path, i), state) for i, v in enumerate(data)]
    if not isinstance(data, dict):
        return data
    if data.keys() != {"include"}:
        return {k: _included(v, document, (*path, k), state) for k, v in data.items()}
    where = ".".join(str(part) for part in path) or None
    line = document.lines.get((*(str(part) for part in path), "include"))

    def refuse(message: str) -> NoReturn:
        raise SpecError(message, file=document.file, line=line, path=where)

    name = data["include"]
    if not isinstance(name, str) or not name:
        refuse("include: takes the name of a file")
    target = (state.folder / name).resolve()
    if not target.is_relative_to(state.folder):
        refuse(f"include: {name!r} leaves the folder of the file that includes it")
    if target in state.reading:
        refuse(f"include: {name!r} includes itself")
    if len(state.reading) > MAX_INCLUDES:
        refuse(f"include: more than {MAX_INCLUDES} files inside each other")
    try:
        size = target.stat().st_size
        text = target.read_bytes().decode("utf-8-sig") if size <= MAX_BYTES else ""
    except (OSError, UnicodeDecodeError) as error:
        refuse(f"include: {name!r} cannot be read: {error}")
    if size > MAX_BYTES:
        refuse(f"include: {name!r} has {size} bytes; at most {MAX_BYTES} are read")
    inner = parse_document(text, file=str(target))
    below = _Includes(state.folder, (*state.reading, target), state.values)
    found = _included(inner.data, inner, (), below)
    document.included[tuple(str(part) for part in path)] = inner
    state.values = below.values
    if state.values > MAX_NODES:
        refuse(f"more than {MAX_NODES} values once files are included")
    return found


def parse_document(text: str, file: str | None = None) -> Document:
    r"""Read YAML from a string.

    Examples
    --------
    >>> parse_document("on: left\nvalue: 1e-8").data
    {'on': 'left', 'value': 1e-08}
    """
    import yaml

    try:
        node = _compose(text, file)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = ": ".join(part for part in (error.context, error.problem) if part)
        line = mark.line + 1 if mark else None
        if "\\t" in message:
            message += "; indent with spaces, not with tabs"
        raise SpecError(f"not valid YAML: {message}", file=file, line=line) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        message = f"the character U+{ord(text[error.position]):04X} is not allowed in YAML"
        raise SpecError(message, file=file, line=line) from None
    if node is None:
        raise SpecError("the file is empty", file=file)
    builder = _Builder(file)
    data = builder.build(node, ())
    return Document(data, file, builder.lines)


def _compose(text: str, file: str | None) -> yaml.Node | None:
    import yaml

    class Composer(yaml.SafeLoader):
        """Composes nodes within a bounded depth, without tags."""

        depth = 0

        def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
            event: yaml.Event = self.peek_event()
            line = event.start_mark.line + 1 if event.start_mark else None
            tag = getattr(event, "tag", None)
            if tag is not None:
                raise SpecError(
                    f"YAML tags are not allowed (received {tag!r}): a declaration is plain data",
                    file=file,
                    line=line,
                )
            if self.depth >= MAX_DEPTH:
                message = f"nested more than {MAX_DEPTH} levels deep"
                raise SpecError(message, file=file, line=line)
            self.depth += 1
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

    loader = Composer(text)
    try:
        return loader.get_single_node()
    finally:
        loader.dispose()


class _Builder:
    """Turns composed nodes into data, counting what aliases expand to."""

    def __init__(self, file: str | None) -> None:
        self.file = file
        self.lines: dict[tuple[str, ...], int] = {}
        self.nodes = 0

    def build(self, node: yaml.Node, path: tuple[str, ...]) -> Data:
        import yaml

        self.nodes += 1
        line = node.start_mark.line + 1
        if self.nodes > MAX_NODES:
            self._refuse(f"more than {MAX_NODES} values once aliases are expanded", line, ())
        if len(path) > MAX_DEPTH:
            self._refuse(f"nested more than {MAX_DEPTH} levels deep", line, path[:3])
        self.lines.setdefault(path, line)
        if isinstance(node, yaml.ScalarNode):
            if node.style is not None:
                return str(node.value)
            try:
                return resolve(node.value)
            except ValueError as error:
                self._refuse(str(error), line, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, str(i))) for i, item in enumerate(node.value)]
        result: dict[str, Data] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._refuse("a key must be plain text", key.start_mark.line + 1, path)
            if key.value == "<<" and key.style is None:
                message = "merge keys (<<) are not followed; write out the fields, or include a file that has them"
                self._refuse(message, key.start_mark.line + 1, path)
            if key.value in result:
                first = self.lines[(*path, key.value)]
                message = f"the key {key.value!r} is given twice (first on line {first})"
                self._refuse(message, key.start_mark.line + 1, path)
            left_out = isinstance(value, yaml.ScalarNode) and not value.value and not value.style
            if left_out and ":" in key.value and key.style is None:
                message = f"{key.value!r} is one word; put a space after the colon"
                self._refuse(message, key.start_mark.line + 1, path)
            self.lines[(*path, key.value)] = key.start_mark.line + 1
            result[key.value] = self.build(value, (*path, key.value))
        return result

    def _refuse(self, message: str, line: int, path: tuple[str, ...]) -> NoReturn:
        where = ".".join(path) or None
        raise SpecError(message, file=self.file, line=line, path=where)
