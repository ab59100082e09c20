"""Every example in the pages of the documentation is a doctest."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest
import torch

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
