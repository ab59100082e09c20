"""Every example in the pages of the documentation is a doctest."""

from __future__ import annotations

import doctest
import re
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from torch_sla import load_problem

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(DOCS.rglob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(DOCS)))
def test_page(page: Path) -> None:
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    text = page.read_text(encoding="utf-8").replace("```\n", "\n")
    test = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    before = torch.get_default_dtype()
    report: list[str] = []
    try:
        failures = doctest.DocTestRunner(optionflags=flags).run(test, out=report.append)
    finally:
        torch.set_default_dtype(before)
    assert not failures.failed, "".join(report)


def test_python_and_yaml_declare_the_same(tmp_path: Path) -> None:
    text = (DOCS / "problems.md").read_text(encoding="utf-8")
    python, declared = (
        re.search(rf"```{kind}\n(.*?)```", text, re.DOTALL) for kind in ("python", "yaml")
    )
    assert python is not None
    assert declared is not None
    names: dict[str, object] = {}
    exec("".join(e.source for e in doctest.DocTestParser().get_examples(python[1])), names)
    (tmp_path / "plate.yaml").write_text(declared[1], encoding="utf-8")
    assert load_problem(tmp_path / "plate.yaml").spec_hash == names["problem"].spec_hash


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(DOCS)))
def test_tables_have_rows_of_as_many_cells_as_their_heads(page: Path) -> None:
    """A blank line after the head ends a table, and what follows is shown as text."""
    lines = page.read_text(encoding="utf-8").splitlines()
    cells = [len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0 for line in lines]
    heads = [i for i, line in enumerate(lines) if re.fullmatch(r"\|[:| ]*-[-:| ]*\|", line)]
    for i in heads:
        assert cells[i - 1] == cells[i] == cells[i + 1], f"line {i + 1}"
    for i, (above, below) in enumerate(pairwise(cells)):
        assert not (above and below) or above == below, f"line {i + 2}"
    tables = sum(not above and bool(below) for above, below in pairwise([0, *cells]))
    assert tables == len(heads)
