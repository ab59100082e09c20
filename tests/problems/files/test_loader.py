from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings, strategies as st

from torch_sla.errors import SpecError
from torch_sla.problems.files.loader import load_document, parse_document
from torch_sla.problems.files.writer import dump

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("1e-8", 1e-8),
        ("1E5", 1e5),
        (".5", 0.5),
        ("1.", 1.0),
        ("-0.25", -0.25),
        ("12", 12),
        ("+12", 12),
        ("010", 10),
        ("0o10", 8),
        ("0x1f", 31),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("2001-01-01", "2001-01-01"),
        ("true", True),
        ("False", False),
        ("tRUE", "tRUE"),
        ("null", None),
        ("~", None),
        ("", None),
        ("'1e-8'", "1e-8"),
        ('"true"', "true"),
        (".inf", float("inf")),
        ("=", "="),
        ("<<", "<<"),
    ],
)
def test_core_schema(text: str, value: object) -> None:
    found = parse_document(f"key: {text}").data["key"]
    assert found == value
    assert type(found) is type(value)


def test_keys_are_text() -> None:
    assert parse_document("on: 1\n7: 2\ntrue: 3").data == {"on": 1, "7": 2, "true": 3}


def test_lines() -> None:
    document = parse_document("a: 1\nb:\n- x: 2\n- y: 3\n\n  z: 4\n")
    assert document.place(("a",)) == (None, 1)
    assert document.place(("b", 1, "z")) == (None, 6)
    assert document.place(("b", 1, "missing")) == (None, 4)
    assert document.place(("nothing",)) == (None, 1)


def test_lines_of_included_files(tmp_path: Path) -> None:
    (tmp_path / "sides.yaml").write_text("- on: left\n- on: right\n  value: 1\n")
    (tmp_path / "plate.yaml").write_text("order: 1\nboundary: {include: sides.yaml}\n")
    (tmp_path / "all.yaml").write_text("type: sweep\n\nof:\n  include: plate.yaml\n")
    document = load_document(tmp_path / "all.yaml")
    assert document.place(("type",)) == (str(tmp_path / "all.yaml"), 1)
    assert document.place(("of",)) == (str(tmp_path / "all.yaml"), 3)
    assert document.place(("of", "mesh")) == (str(tmp_path / "plate.yaml"), 1)
    assert document.place(("of", "boundary")) == (str(tmp_path / "plate.yaml"), 2)
    assert document.place(("of", "boundary", 1, "value")) == (str(tmp_path / "sides.yaml"), 3)
    document.replaced["of", "boundary", "1", "value"] = "--set"
    document.replaced["solver", "rtol"] = "--set"
    assert document.place(("of", "boundary", 1, "value", "name")) == ("--set", None)
    assert document.place(("of", "boundary", 1)) == (str(tmp_path / "sides.yaml"), 2)
    assert document.place(("solver",)) == ("--set", None)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\na: 2", 2, "given twice"),
        ("a: !!python/object/apply:os.system [ls]", 1, "tags are not allowed"),
        ("a: !!str 1", 1, "tags are not allowed"),
        ("a: 1\n---\nb: 2", 2, "not valid YAML"),
        ("a: [1, 2", 1, "not valid YAML"),
        ("a: b: c", 1, "not valid YAML"),
        ("? [1, 2]\n: 3", 1, "a key must be plain text"),
        ("a: *nowhere", 1, "undefined alias"),
        ("a: 1\nb: \x07", 2, "is not allowed in YAML"),
        ("a:\n\tb: 1", 2, "not valid YAML: .*; indent with spaces, not with tabs"),
        ("a: {type:parameter, name: q}", 1, "'type:parameter' is one word; put a space after the"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n  d: 2", 3, "c: merge keys .* are not followed; write out"),
        ("", None, "empty"),
        ("a: " + "9" * 5000, 1, "digits"),
        ("a: " + "[" * 500 + "]" * 500, 1, "levels deep"),
        ("\n".join("  " * i + "a:" for i in range(100)), 40, "levels deep"),
        ("a: &a [*a]", 1, "levels deep"),
    ],
)
def test_refused(text: str, line: int | None, message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        parse_document(text, "file.yaml")
    assert caught.value.file == "file.yaml"
    assert caught.value.line == line


def test_a_colon_in_a_name_is_no_mistake() -> None:
    assert parse_document("'a:b': null\n'c:d':\ne:f: 1\ng:h: ''\ni:").data == {
        "a:b": None,
        "c:d": None,
        "e:f": 1,
        "g:h": "",
        "i": None,
    }


def test_alias_bomb_is_refused_quickly() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
    )
    start = time.perf_counter()
    with pytest.raises(SpecError, match="aliases"):
        parse_document(bomb)
    assert time.perf_counter() - start < 10.0


def test_files(tmp_path) -> None:
    with pytest.raises(SpecError, match="No such file"):
        load_document(tmp_path / "absent.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"b: 1\na: \xff")
    with pytest.raises(SpecError, match=r"yaml:2: is not UTF-8 text \(byte 8\); save it as UTF-8"):
        load_document(tmp_path / "latin.yaml")
    (tmp_path / "huge.yaml").write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(SpecError, match="bytes"):
        load_document(tmp_path / "huge.yaml")
    (tmp_path / "j.json").write_text('{"a": [1, 2.5, "x"], "b": {"on": true}}')
    assert load_document(tmp_path / "j.json").data == {"a": [1, 2.5, "x"], "b": {"on": True}}


_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**12), 10**12),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_categories=["Cs", "Cc"])),
    st.sampled_from(
        ["on", "1e-8", "0o7", "~", "- a", "a: b", "#x", "x # y", "'", '"', "a\nb", "!x"]
    ),
)
_data = st.dictionaries(
    st.text("abcon- :#", min_size=1, max_size=6),
    st.recursive(
        _scalars,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.dictionaries(st.text("xyz", min_size=1), inner, max_size=3),
        ),
        max_leaves=10,
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=150, deadline=None)
@given(_data)
def test_what_is_written_reads_back(data: dict[str, object]) -> None:
    assert parse_document(dump(data)).data == data
