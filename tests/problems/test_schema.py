from __future__ import annotations

import functools
import json
from pathlib import Path

import jsonschema
import pytest

from torch_sla.problems.files.loader import load_document
from torch_sla.problems.schema import differs, schema_text

ROOT = Path(__file__).parents[2]


@functools.cache
def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(schema_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_committed_schema_is_up_to_date() -> None:
    assert not differs(ROOT / "schemas" / "problem.json"), (
        "run torch-sla schema -o schemas/problem.json"
    )


def test_it_is_deterministic() -> None:
    assert schema_text() == schema_text()


# What others include is checked with them.
WHOLE = sorted(p for p in (ROOT / "examples").rglob("*.yaml") if p.parent.name != "parts")


@pytest.mark.parametrize("path", WHOLE, ids=lambda p: p.name)
def test_examples_satisfy_it(path: Path) -> None:
    validator().validate(load_document(path).data)


@pytest.mark.parametrize(
    "change",
    [{"difusivity": 1.0}, {"order": 3}, {"type": "heat"}, {"boundary": [{"type": "robin"}]}],
    ids=str,
)
def test_it_refuses(change: dict[str, object]) -> None:
    data = {"type": "poisson", "mesh": {"type": "interval", "cells": 3}}
    validator().validate(data)
    with pytest.raises(jsonschema.ValidationError):
        validator().validate({**data, **change})


def test_every_field_says_what_it_is() -> None:
    definitions = json.loads(schema_text())["$defs"]
    silent = [
        f"{name}.{field}"
        for name, entry in definitions.items()
        for field, told in entry.get("properties", {}).items()
        if field != "type" and not told.get("description")
    ]
    assert not silent
