"""Every combination of a physics and an analysis runs from a file, or says why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.combinations import ANALYSES, FIELDS, declared, table
from tests.helpers.samples import SAMPLES
from torch_sla import load_problem

PAGE = Path(__file__).parents[3] / "docs" / "analyses.md"


def test_the_documentation_holds_the_table() -> None:
    text = table(SAMPLES)
    page = PAGE.read_text("utf-8")  # whose prose is wrapped
    assert " ".join(text.split()) in " ".join(page.split()), f"what belongs there:\n{text}"


@pytest.mark.parametrize("kind", FIELDS)
@pytest.mark.parametrize("analysis", ANALYSES)
def test_what_is_declared_runs(kind: str, analysis: str, tmp_path: Path) -> None:
    problem = declared(SAMPLES, kind, analysis)
    if isinstance(problem, str):
        assert len(problem.split()) > 5  # a reason
        return
    problem.to_yaml(tmp_path / "p.yaml")
    again = load_problem(tmp_path / "p.yaml")
    assert again.spec_hash == problem.spec_hash
    assert again.solve().info.converged
