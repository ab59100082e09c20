"""The JSON Schema of every problem file: generated, committed, reviewed like code."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch_sla.problems.design.optimizers import OPTIMIZERS
from torch_sla.problems.design.transforms import TRANSFORMS
from torch_sla.problems.registry import PHYSICS, problem_class
from torch_sla.problems.specs.options import described

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["differs", "schema_text"]


def schema_text() -> str:
    """Return the schema, the same text for the same declarations."""
    from pydantic.json_schema import models_json_schema

    classes = [problem_class(kind) for kind in sorted(PHYSICS)]
    _, body = models_json_schema([(cls, "validation") for cls in classes])
    definitions = {name: _stripped(entry) for name, entry in body["$defs"].items()}
    for cls in (*OPTIMIZERS, *TRANSFORMS):
        # What pydantic reads off dataclasses differs from version to version.
        entry = definitions[cls.__name__]
        entry |= _stripped({"description": inspect.getdoc(cls), "additionalProperties": False})
        for field, text in described(cls).items():
            entry["properties"][field].setdefault("description", text)
    chosen = {cls.__name__ for cls in classes} | set(_alternatives(definitions))
    for name, entry in definitions.items():
        # Every type tag has a default in Python; in a file it is written where it tells kinds apart. Arrays
        # by file are known by their `file`.
        properties = entry.get("properties", {})
        if name in chosen and "const" in properties.get("type", {}) and "key" not in properties:
            entry["required"] = sorted({*entry.get("required", []), "type"})
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A problem for torch_sla",
        "oneOf": [{"$ref": f"#/$defs/{cls.__name__}"} for cls in classes],
        "$defs": definitions,
    }
    return json.dumps(schema, indent=1, sort_keys=True) + "\n"


def differs(path: str | Path) -> bool:
    """Whether a committed schema is missing or out of date."""
    path = Path(path)
    return not path.is_file() or path.read_text(encoding="utf-8") != schema_text()


def _alternatives(schema: Any) -> Iterator[str]:
    """Yield the names of definitions that stand where another one could."""
    if isinstance(schema, list):
        for item in schema:
            yield from _alternatives(item)
    elif isinstance(schema, dict):
        for kind in ("oneOf", "anyOf"):
            names = [o["$ref"].rpartition("/")[2] for o in schema.get(kind, ()) if "$ref" in o]
            yield from names if len(names) > 1 else ()
        yield from _alternatives(list(schema.values()))


def _stripped(entry: dict[str, Any]) -> dict[str, Any]:
    """Drop titles that only repeat the name of a field, and the examples of docstrings."""
    if "description" in entry:
        entry["description"] = entry["description"].split("\n\n")[0].replace("\n", " ")
    for field in entry.get("properties", {}).values():
        field.pop("title", None)
    return entry
