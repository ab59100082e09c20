"""Files written by earlier versions still mean the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from torch_sla import load_problem

SAVED = Path(__file__).with_name("saved")

# By file: the hash of the declaration, and outputs of its solution.
MEANING = {
    "format_1.yaml": (
        "5ea44f5dc4a5d56b98c32e99d7b0bccf",
        {
            "total": 1.39099564127,
            "lost": 1.27150628116,
            "energy": 1.65977696495,
            "peak": 1.35006513343,
        },
    ),
}


@pytest.mark.parametrize("name", sorted(path.name for path in SAVED.glob("*.yaml")))
def test_an_old_file_means_the_same(name: str) -> None:
    problem = load_problem(SAVED / name)
    identity, numbers = MEANING[name]
    assert problem.spec_hash == identity
    solution = problem.solve()
    found = {output: solution[output].item() for output in numbers}
    assert found == pytest.approx(numbers, rel=1e-9)
